"""A disk that can be full or slow, and that forgets, for processes started with its environment; see ``disk.c``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def build_shim(folder: Path) -> Path:
    """Compile ``disk.c``; skip the test by name where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): a disk that forgets what was not synced cannot be imitated")
    made = folder / "disk.so"
    source = Path(__file__).with_name("disk.c")
    # Paths here are short; the compiler cannot know.
    options = ["-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-format-truncation"]
    subprocess.run([compiler, *options, "-o", made, source, "-ldl"], check=True)
    return made


class Disk:
    """What lies below ``directory``, as a disk of its own."""

    def __init__(self, directory: Path, shim: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self._shim = shim
        self._image = self.directory.with_name(f"{directory.name}.image")
        self._full = self.directory.with_name(f"{directory.name}.full")
        self._slow = self.directory.with_name(f"{directory.name}.slow")
        self._begin()

    def _begin(self) -> None:
        for name in ("data", "names"):
            (self._image / name).mkdir(parents=True)

    @property
    def words(self) -> list[str]:
        """What comes before a command line whose process shall use this disk."""
        return [
            "env",
            f"LD_PRELOAD={self._shim}",
            f"TIPGUARD_DISK={self.directory}",
            f"TIPGUARD_DISK_IMAGE={self._image}",
            f"TIPGUARD_DISK_FULL={self._full}",
            f"TIPGUARD_DISK_SLOW={self._slow}",
        ]

    def fill(self) -> None:
        """From now on nothing can be written."""
        self._full.touch()

    def free(self) -> None:
        """There is room again."""
        self._full.unlink()

    def slow_down(self) -> None:
        """From now on every sync takes 0.3 s longer."""
        self._slow.touch()

    def power_cut(self) -> int:
        """Once its processes are dead: put back what was synced and nothing else; return how many files that is."""
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        restored = 0
        for name in (self._image / "names").iterdir():
            data = self._image / "data" / name.read_text(encoding="ascii")
            target = self.directory / name.name.replace("%", os.sep)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Named, and never synced: it is there, and empty.
            target.write_bytes(data.read_bytes() if data.exists() else b"")
            restored += 1
        # Other files now have other inodes; all of this is durable from the start.
        shutil.rmtree(self._image)
        self._begin()
        for file in self.directory.rglob("*"):
            if file.is_file():
                inode = str(file.stat().st_ino)
                flat = str(file.relative_to(self.directory)).replace(os.sep, "%")
                (self._image / "names" / flat).write_text(inode, encoding="ascii")
                shutil.copyfile(file, self._image / "data" / inode)
        return restored
