"""The Keithley 2400's messages and replies."""
