"""The volume of carts: a directory with one directory for each cart, named after its job.

    VOLUME/JOB/files/PATH     the files, as they come
    VOLUME/JOB/bundle.tar     the bundle, where it is stored (or .zip, .tar.zst)
    VOLUME/JOB/partial/       what is not whole yet

Only names are known here: what is there is for others to make and to remove.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mistamover.jobs.cart_model import BundleFormat

_JOB = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Volume:
    """The places in it."""

    path: Path

    def cart(self, job: str) -> Path:
        """Given a job, return the directory of its cart."""
        return self.path / job

    def files(self, job: str) -> Path:
        """Given a job, return the directory that its files are below."""
        return self.cart(job) / "files"

    def file(self, job: str, path: str) -> Path:
        """Given a job and a path in its bundle, which has been checked, return where that file is."""
        return self.files(job) / path

    def partial(self, job: str) -> Path:
        """Given a job, return the directory of what is not whole yet."""
        return self.cart(job) / "partial"

    def bundle(self, job: str, form: BundleFormat) -> Path:
        """Given a job, return where its bundle is stored."""
        return self.cart(job) / f"bundle.{form.value}"

    def jobs(self) -> list[str]:
        """Return the jobs whose carts have a directory here. Raise OSError."""
        if not self.path.is_dir():
            return []
        with os.scandir(self.path) as entries:
            return [entry.name for entry in entries if _JOB.fullmatch(entry.name)]
