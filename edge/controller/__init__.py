"""The processes that own the instrument: keeper and worker, and what they share."""
