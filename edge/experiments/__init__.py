"""Plans: what to do. No I/O."""
