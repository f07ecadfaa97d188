"""The protocol `plain`: into a directory, by what any file system can do. It shows all that a protocol needs."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from errno import EDQUOT, EIO, ENOSPC, EROFS
from typing import Any

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.files.identity import kind_of
from mistamover.transport import by_file
from mistamover.transport.far import FarRefusal, Means, There


class PlainDirectory:
    def __init__(self, directory: str) -> None:
        self._top = os.fsencode(directory)
        self._cut = False

    def connect(self) -> Means:
        if not os.path.isdir(self._top):
            raise TargetError(f"there is no directory {os.fsdecode(self._top)}: make it")
        return Means(description="into a plain directory", rename=True, whole=False, directories=True, links=False,
                     attributes=True, flush=False, hashes=("sha256",), resume=False)  # fmt: skip

    def look(self, path: bytes) -> There | None:
        status = _asked(os.lstat, self._path(path), missing=True)
        return status and There(kind=kind_of(status), size=status.st_size, mtime=status.st_mtime)

    def names(self, path: bytes) -> list[bytes]:
        return list(_asked(os.listdir, self._path(path)))

    def make_directory(self, path: bytes) -> None:
        _asked(lambda: os.makedirs(self._path(path), exist_ok=True))

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        with _asked(lambda: open(self._path(path), "wb", buffering=0)) as file:  # offset is 0: we cannot resume
            while offset < size and (piece := os.pread(source, min(1 << 20, size - offset), offset)):
                offset += _asked(file.write, piece)
                told(offset)
                self._path(path)  # raises if we are cut off

    def read(self, path: bytes) -> Iterator[bytes]:
        with _asked(lambda: open(self._path(path), "rb")) as file:
            yield from iter(lambda: _asked(file.read, 1 << 20), b"")

    def digest(self, path: bytes, algorithm: str) -> str:
        with _asked(lambda: open(self._path(path), "rb")) as file:
            return str(_asked(hashlib.file_digest, file, algorithm).hexdigest())

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        _asked(os.chmod, self._path(path), mode)
        _asked(lambda: os.utime(self._path(path), ns=(mtime_ns, mtime_ns)))

    def rename(self, old: bytes, new: bytes) -> None:
        _asked(os.rename, self._path(old), self._path(new))

    def symlink(self, text: bytes, path: bytes) -> None:
        raise NotImplementedError("not one of our means, as flush is not")

    def flush(self, paths: Sequence[bytes]) -> None:
        raise NotImplementedError

    def remove(self, path: bytes) -> None:
        _asked(os.unlink, self._path(path), missing=True)

    def remove_directory(self, path: bytes) -> None:
        _asked(os.rmdir, self._path(path), missing=True)

    def free(self) -> int | None:
        return int(shutil.disk_usage(self._top).free)

    def abort(self) -> None:
        self._cut = True

    close = abort

    def _path(self, path: bytes) -> bytes:
        if self._cut:
            raise LinkError("the connection was cut")
        return self._top + b"/" + path


def _asked(act: Callable[..., Any], *words: Any, missing: bool = False) -> Any:
    try:
        return act(*words)
    except OSError as error:
        if not (missing and isinstance(error, (FileNotFoundError, NotADirectoryError))):
            whole = error.errno in (EDQUOT, EIO, ENOSPC, EROFS)  # the fault of the target, whatever the name
            raise (TargetError if whole else FarRefusal)(str(error)) from error


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> by_file.ByFile:
    return by_file.make(lambda: PlainDirectory(target.directory), stream, target, owner)
