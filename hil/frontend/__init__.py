"""The emulated front end: its real firmware, natively, in lockstep or under QEMU, and what stands around it."""
