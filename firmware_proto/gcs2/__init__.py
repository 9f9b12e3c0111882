"""PI's General Command Set 2.0, both ends: messages, replies, requests, error numbers. Sans-I/O, bounded, typed."""
