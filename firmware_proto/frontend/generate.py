"""``python -m firmware_proto.frontend.generate``: write everything that follows from schema.toml.

With ``--check`` nothing is written; exit 1 names each file that is older than the schema.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from firmware_proto.frontend.generator import c, golden, golden_c, markdown, python, schema

PACKAGE: Final = Path(__file__).resolve().parent
GENERATED: Final = PACKAGE / "firmware" / "generated"
ROOT: Final = PACKAGE.parent.parent


def files(rows: schema.Schema) -> dict[Path, str]:
    """Return what every generated file has to hold."""
    vectors = golden.vectors(rows)
    streams = golden.streams(rows)
    return {
        PACKAGE / "vocabulary.py": python.vocabulary(rows),
        PACKAGE / "messages.py": python.messages(rows),
        PACKAGE / "bench_layout.py": python.bench_layout(rows),
        GENERATED / "tg_schema.h": c.schema_header(rows),
        GENERATED / "tg_bench.h": c.bench_header(rows),
        GENERATED / "golden.jsonl": golden.lines(vectors, streams),
        GENERATED / "tg_golden_vectors.c": golden_c.vectors_source(rows, vectors, streams),
        ROOT / "docs" / "frontend-protocol.md": markdown.page(rows),
    }


def stale(rows: schema.Schema) -> list[Path]:
    """Return the files that do not hold what they have to."""
    return [
        path for path, text in files(rows).items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, or with ``--check`` only compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m firmware_proto.frontend.generate", description="what schema.toml says, as files"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    options = parser.parse_args(arguments)
    rows = schema.load()
    old = stale(rows)
    if options.check:
        for path in old:
            print(f"{path}: not what schema.toml says; run python -m firmware_proto.frontend.generate")
        return 1 if old else 0
    wanted = files(rows)
    GENERATED.mkdir(exist_ok=True)
    for path in old:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
