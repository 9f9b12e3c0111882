"""The command ``tipguard``: one module per verb.

``safe-off`` is served before anything else is imported: it must work when the rest does not.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script."""
    if sys.argv[1:2] == ["safe-off"]:
        from edge.controller.safe_off import main as safe_off

        sys.exit(safe_off(sys.argv[2:]))
    from edge.cli.app import build_app

    build_app(with_hil=sys.argv[1:2] == ["hil"], with_demo=sys.argv[1:2] == ["demo"])()


if __name__ == "__main__":
    main()
