"""The serial line between an instrument and its user: in memory under virtual time, or a real pseudo-terminal.

Nothing is imported here: the pseudo-terminal needs no asyncio, the memory line no termios.
"""
