"""``python -m hil``: the bench without the rest of the program."""

from __future__ import annotations

from hil.cli import app

if __name__ == "__main__":
    app(prog_name="tipguard hil")
