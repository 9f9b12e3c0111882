"""Scenarios: what a lab does to a rig, on demand, and what must hold all the same.

A scenario is a TOML file beside this one: a rig, a run, faults with their triggers, and what must hold. The controller
is the one that is shipped; the bench is in memory under a virtual clock, or processes on pseudo-terminals where
processes are what is tested. ``tipguard hil scenario NAME|all`` runs them.
"""
