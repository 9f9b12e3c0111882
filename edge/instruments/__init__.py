"""Ports, links, and drivers of instruments."""
