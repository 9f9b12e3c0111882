"""Stores: what takes frames from the broker, commits them, and says by a watermark what may be forgotten elsewhere."""
