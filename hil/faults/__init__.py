"""Faults that a lab produces, on demand: declared in a plan; applied on the wire, in the device, at the tip; confirmed.

A fault counts as applied once it really took effect, never because somebody asked for it.
"""
