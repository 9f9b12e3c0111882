"""Benches: figures measured the same way every time, printed as one JSON object."""
