"""The guard: detector, states, phases, cut, capture. Decides; does no I/O."""
