"""Pure functions on measured values."""
