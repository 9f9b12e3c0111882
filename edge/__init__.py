"""The controller side: what runs beside the instrument, and what reads its frames."""
