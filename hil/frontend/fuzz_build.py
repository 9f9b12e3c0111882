"""The C side of the fuzz, compiled on the spot and kept beside the firmware's builds."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hil.errors import BenchOptionError
from hil.frontend.build import CORE, FIRMWARE, GENERATED, STRICT, cache_folder

FUZZ: Final = FIRMWARE / "fuzz"
GOLDEN: Final = FIRMWARE / "golden"
SANITIZERS: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILE_S: Final = 120.0


def build(*, sanitize: bool = True, source: str | None = None) -> Path:
    """Return ``tg_fuzz``; ``source`` is what stands for ``tg_frame.c`` in a test that takes a check out.

    Raises BenchOptionError without a compiler, or one without the sanitizers.
    """
    flags = ("-O1", "-g", *SANITIZERS) if sanitize else ("-O2",)
    return compiled("tg_fuzz", sorted(FUZZ.glob("*.c")), FUZZ, flags, source)


def compiled(name: str, sources: list[Path], include: Path, flags: Sequence[str], source: str | None = None) -> Path:
    """Return a host's program of ``sources`` and the codec, from the cache where it was made before."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchOptionError("no C compiler for the fuzz; on Debian: apt-get install gcc")
    codec = (CORE / "tg_frame.c").read_text(encoding="utf-8") if source is None else source
    flags = [*STRICT, *flags]
    headers = [path for folder in (CORE, GENERATED, include) for path in sorted(folder.glob("*.h"))]
    digest = hashlib.sha256("\n".join([name, compiler, *flags, codec]).encode())
    for path in [*sources, *headers]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = cache_folder() / f"{name}-{digest.hexdigest()[:24]}" / name
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        copy, whole = Path(folder) / "tg_frame.c", Path(folder) / name
        copy.write_text(codec, encoding="utf-8")
        places = [f"-I{path}" for path in (CORE, GENERATED, include)]
        command = [compiler, *flags, *places, "-o", str(whole), str(copy), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_S)
        if done.returncode:
            raise BenchOptionError(f"{name} does not compile: {done.stderr.strip()[:2000]}")
        whole.replace(target)
    return target
