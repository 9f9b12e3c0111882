"""The shell of the bench's pages: one HTML file that needs nothing else and runs nothing.

Pictures are in it as data or SVG, the style too, and there is no script: what its policy line forbids, no browser
fetches.
"""

from __future__ import annotations

import html

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def shell(title: str, css: str, body: str) -> str:
    """Return a page; ``title`` is plain text, ``css`` and ``body`` are taken as they are."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title, quote=True)}</title>
<link rel="icon" href="data:,">
<style>{css}</style>
</head>
<body>
{body}
</body>
</html>
"""
