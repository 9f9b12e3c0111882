"""Emulated instruments."""
