"""A tree in which anything may happen: things come, are renamed, moved, swapped, taken away and deleted."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from hypothesis import strategies as st

_ACTIONS = (
    "file",
    "file",
    "link",
    "hardlink",
    "mkdir",
    "mkdir",
    "rename",
    "rename directory",
    "swap",
    "take away",
    "bring",
    "delete",
    "remove",
    "rest",
    "look",
    "look",
)

#: What to do, and two numbers that choose with what.
STEPS = st.tuples(st.sampled_from(_ACTIONS), st.integers(0, 30), st.integers(0, 30))


class Tree:
    """A directory with a life of its own; every name in it is used once, those of directories excepted."""

    def __init__(self, place: Path) -> None:
        self.root = place / "root"
        self.outside = place / "outside"
        for name in ("a/b", "c"):
            (self.root / name).mkdir(parents=True)
        self.outside.mkdir()
        self._number = 0

    def apply(self, step: tuple[str, int, int]) -> None:
        """Given a step, take it, where that is possible."""
        action, first, second = step
        directories = self._directories()
        directory, other = (directories[number % len(directories)] for number in step[1:])
        files = self._files()
        file = files[first % len(files)] if files else None
        inside = self.root not in (directory, other) and not directory.is_relative_to(other)
        inside = inside and not other.is_relative_to(directory)
        if action == "file":
            (directory / self._name()).write_bytes(b"x" * second)
        elif action == "link":
            (directory / self._name()).symlink_to("nowhere")
        elif action == "mkdir":
            (directory / "abc"[second % 3]).mkdir(exist_ok=True)
        elif action == "hardlink" and file is not None and not file.is_symlink():
            os.link(file, other / self._name())
        elif action == "rename" and file is not None:
            file.rename(other / self._name())
        elif action == "rename directory" and directory != self.root and not other.is_relative_to(directory):
            target = other / "abc"[first % 3]
            if not target.exists():
                directory.rename(target)
        elif action == "swap" and inside:
            directory.rename(self.outside / "swap")
            other.rename(directory)
            (self.outside / "swap").rename(other)
        elif action == "take away" and directory != self.root:
            directory.rename(self.outside / self._name())
        elif action == "bring":
            self._bring(directory / "abc"[second % 3])
        elif action == "delete" and file is not None:
            file.unlink()
        elif action == "remove" and directory != self.root:
            shutil.rmtree(directory)
        elif action == "rest":
            time.sleep(0.004 * second)

    def put_into_each(self) -> None:
        """Put a new file into each directory."""
        for directory in self._directories():
            (directory / self._name()).touch()

    def written(self) -> list[str]:
        """Write to each file that is there; return their names."""
        files = [file for file in self._files() if not file.is_symlink()]
        for file in files:
            file.write_bytes(b"changed")
        return [str(file.relative_to(self.root)) for file in files]

    def _bring(self, target: Path) -> None:
        if not target.exists():
            source = self.outside / self._name()
            (source / "b").mkdir(parents=True)
            for directory in (source, source / "b"):
                (directory / self._name()).touch()
            source.rename(target)

    def _name(self) -> str:
        self._number += 1
        return f"n{self._number}"

    def _directories(self) -> list[Path]:
        return sorted(Path(directory) for directory, _, _ in os.walk(self.root))

    def _files(self) -> list[Path]:
        return sorted(Path(directory, name) for directory, _, names in os.walk(self.root) for name in names)
