"""The current front end's protocol, from one schema; the C99 firmware that speaks it lies in ``firmware``."""
