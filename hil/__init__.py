"""The emulated bench: instruments, lines, the twin of the sample."""
