"""Keys whose value is a file that must be there, or must be private."""

from __future__ import annotations

from pathlib import Path

from mistamover.config.values import Values
from mistamover.files.private import why_not_private


def private(values: Values, section: str, key: str) -> Path | None:
    """Given a key that names the place of a secret, return the file, or None; report one that others may read."""
    path = values.path(section, key)
    if path is not None and (reason := why_not_private(path)):
        values.problem(section, key, f"{reason}, expected a file that only its owner can read")
    return path


def there(values: Values, section: str, key: str) -> Path | None:
    """Given a key that names a file, return it, or None; report one that is not there."""
    path = values.path(section, key)
    if path is not None and not path.is_file():
        values.problem(section, key, f"there is no file {path}, expected a file that exists", "correct the path")
    return path
