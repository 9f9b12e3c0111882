"""Which tests do more with TIPGUARD_LONG=1, read from their source: so the long rounds repeat none that would not.

By convention a module that reads TIPGUARD_LONG calls what it read ``LONG``. A test has long rounds when LONG is among
the names it uses, or among those that these are made of in its module: constants, helpers, fixtures, decorators. A
module whose marks skip it without LONG has long rounds only; one that only takes another time-out from it does not.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

LONG = "LONG"


@functools.cache
def with_long_rounds(path: Path) -> frozenset[str]:
    """Return the names of the functions and classes at the module's top from which LONG is reached; may be none."""
    text = path.read_text(encoding="utf-8")
    if LONG not in text:
        # Most modules: what does not hold the name does not have to be parsed.
        return frozenset()
    body = ast.parse(text).body
    uses: dict[str, set[str]] = {}
    for statement in body:
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        # A fixture is asked for by the name of an argument.
        names |= {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
        for defined in _defined(statement):
            uses.setdefault(defined, set()).update(names - {defined})
    if LONG not in uses:
        return frozenset()
    if any("pytestmark" in _defined(statement) and _skips(statement) for statement in body):
        return frozenset(uses)
    reached, before = {LONG}, set[str]()
    while reached != before:
        before = set(reached)
        reached |= {name for name, used in uses.items() if used & before}
    return frozenset(reached)


def _skips(statement: ast.stmt) -> bool:
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return any(
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "skipif"
        and any(isinstance(node, ast.Name) and node.id == LONG for node in ast.walk(call))
        for call in calls
    )


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
