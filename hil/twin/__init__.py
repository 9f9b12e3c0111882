"""The sample at the instrument's terminals: pure physics, driven by explicit times, repeatable from a seed."""
