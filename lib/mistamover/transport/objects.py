"""The far end that is a filesystem of fsspec, named by a URL.

What those filesystems can do differs, and few say so themselves.  What counts is taken from the settings: either a
file is written under another name and renamed, or what is written appears with its last byte.  Nothing else is asked.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from mistamover.config.access import UrlAccess
from mistamover.config.objects import options
from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, SecretError, TargetError, TransportError
from mistamover.model import Kind
from mistamover.transport import by_file
from mistamover.transport.base import Transport
from mistamover.transport.calls import Calls
from mistamover.transport.far import FarRefusal, Means, Pieces, There
from mistamover.transport.reading import Reading

T = TypeVar("T")

_PIECE = 1 << 20

#: Up to here a file is handed over in one call where it must appear at once.
_SMALL = 8 * 1024 * 1024

#: Seconds that one call may take.
_BOUND = 120.0

#: Said of one name, while the target may be well otherwise.
_REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG,
    errno.EINVAL, errno.EILSEQ, errno.ENOENT, errno.ELOOP, errno.EFBIG, errno.EBUSY, errno.ETXTBSY,
)  # fmt: skip
_TARGET = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)

#: Those whose messages are of interest to their authors only.
_TALKATIVE = (
    "fsspec",
    "s3fs",
    "gcsfs",
    "adlfs",
    "azure",
    "botocore",
    "aiobotocore",
    "urllib3",
    "asyncio",
    "smbprotocol",
)

#: Which options are secrets is not known; short values are words.
_SHORTEST_SECRET = 4


class FsspecFiles:
    """One filesystem object of fsspec."""

    def __init__(self, settings: UrlAccess) -> None:
        """Given the URL and what is known of its scheme, prepare; `connect` loads the library."""
        self._settings = settings
        self._calls = Calls("url")
        self._fs: Any = None
        self._base = ""
        self._secrets: list[str] = []

    def connect(self) -> Means:
        """Make the filesystem object, and see that the directory of the URL is there."""
        self._fs, self._base = self._run(self._open)
        if self._settings.parents and not self._run(lambda: self._fs.isdir(self._base)):
            raise TargetError(f"{self._settings.url} is not a directory")
        return Means(
            description=f"{type(self._fs).__name__} of fsspec",
            rename=self._settings.renames,
            whole=not self._settings.renames,
            directories=self._settings.renames,
            links=False,
            attributes=False,
            flush=False,
            hashes=(),
            resume=False,
            pieces=True,
        )

    def look(self, path: bytes) -> There | None:
        """Return what has a name."""

        def info() -> dict[str, Any] | None:
            self._fs.invalidate_cache()
            try:
                return dict(self._fs.info(self._path(path)))
            except (FileNotFoundError, NotADirectoryError):
                return None

        found = self._run(info)
        if found is None:
            return None
        if found.get("islink"):
            kind = Kind.LINK
        else:
            kind = {"directory": Kind.DIRECTORY, "file": Kind.FILE}.get(str(found.get("type")), Kind.SPECIAL)
        return There(kind=kind, size=int(found.get("size") or 0), mtime=_mtime(found))

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in a directory."""
        directory = self._path(path)

        def listed() -> list[str]:
            self._fs.invalidate_cache()
            return [str(name) for name in self._fs.ls(directory, detail=False)]

        found = (name.rstrip("/") for name in self._run(listed))
        return [os.fsencode(name.rpartition("/")[2]) for name in found if name and name != directory]

    def make_directory(self, path: bytes) -> None:
        """Make a directory; where names have their directories in them there is nothing to do."""
        if not self._settings.renames:
            return

        def make() -> None:
            with contextlib.suppress(FileExistsError):
                self._fs.mkdir(self._path(path), create_parents=False)

        self._run(make)

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        """Write a file; where it must appear at once, it does so with the last call."""
        self.write_from(path, Reading(source), size, told)

    def write_from(self, path: bytes, reading: Pieces, size: int, told: Callable[[int], None]) -> None:
        """Write content from elsewhere in the same way."""
        name = self._path(path)
        if self._settings.parents and not self._settings.renames:
            self._run(lambda: self._fs.makedirs(self._fs._parent(name), exist_ok=True))
        if not self._settings.renames and size <= _SMALL:
            data = reading.piece(size, 0)
            reading.same()
            told(size)
            self._run(lambda: self._fs.pipe_file(name, data), lambda: told(0))
            return
        file = self._run(lambda: self._fs.open(name, "wb"))
        try:
            for position in range(0, size, _PIECE):
                data = reading.piece(min(_PIECE, size - position), position)
                self._write_piece(file, data, lambda: told(0))
                told(position + len(data))
            reading.same()
            if not size:
                told(0)
        except BaseException:
            self._throw_away(file)
            raise
        self._run(file.close, lambda: told(0))

    def read(self, path: bytes) -> Iterator[bytes]:
        """Yield the content of a file."""
        return self.read_from(path, 0)

    def read_from(self, path: bytes, offset: int) -> Iterator[bytes]:
        """Yield the content of a file from a position on."""
        name = self._path(path)
        file = self._run(lambda: self._fs.open(name, "rb"))
        try:
            if offset:
                self._run(lambda: file.seek(offset))
            while piece := self._run(lambda: file.read(_PIECE)):
                yield bytes(piece)
        finally:
            with contextlib.suppress(TransportError):
                self._run(file.close)

    def digest(self, path: bytes, algorithm: str) -> str:
        """Refuse: nothing of the kind is known of every filesystem."""
        raise FarRefusal("the target computes no hashes")

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Do nothing: fsspec has no such call."""

    def flush(self, paths: Sequence[bytes]) -> None:
        """Do nothing: the server is trusted to keep what it has taken."""

    def rename(self, old: bytes, new: bytes) -> None:
        """Give a file or directory another name."""
        first, second = self._path(old), self._path(new)
        if not self._settings.renames:
            raise FarRefusal("this target can rename nothing in one step")
        if getattr(self._fs, "local_file", False):
            # Its own would copy where the target consists of several filesystems, and nothing may be seen half copied.
            self._run(lambda: os.rename(first, second))
        else:
            self._run(lambda: self._fs.mv(first, second))

    def symlink(self, text: bytes, path: bytes) -> None:
        """Refuse: fsspec has no such call."""
        raise FarRefusal("the target can hold no links")

    def remove(self, path: bytes) -> None:
        """Remove a file."""

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(path))

        self._run(remove)

    def remove_directory(self, path: bytes) -> None:
        """Remove an empty directory."""
        if not self._settings.renames:
            if self.look(path) is not None and self.names(path):
                raise FarRefusal("not empty")
            return

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rmdir(self._path(path))

        self._run(remove)

    def free(self) -> int | None:
        """Return None: nobody can tell."""
        return None

    def abort(self) -> None:
        """Give up the call under way; the filesystem object may come to its end by itself."""
        self._calls.abort()

    def close(self) -> None:
        """End the connection, as far as the filesystem object knows how."""
        self._calls.close()
        self._fs = None

    # -- inside -------------------------------------------------------------------------------

    def _open(self) -> tuple[Any, str]:
        try:
            import fsspec
        except ImportError:
            raise TargetError("needs the package fsspec: pip install mistamover[url]") from None
        for name in _TALKATIVE:
            # What they say of every request would fill the log, and may hold what logs in there.
            logging.getLogger(name).setLevel(logging.WARNING)
        given: dict[str, object] = {}
        if self._settings.options_file is not None:
            try:
                given = options(self._settings.options_file)
            except SecretError as error:
                raise LinkError(str(error)) from error
            self._secrets = [text for text in _texts(given) if len(text) >= _SHORTEST_SECRET]
        scheme = self._settings.url.partition("://")[0]
        try:
            kind = fsspec.get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            raise TargetError(f"fsspec cannot serve {scheme}://: {error}") from error
        found = {**kind._get_kwargs_from_urls(self._settings.url), **given}
        # Listings that are remembered would hide what others do at the target.
        fs = kind(**{**found, "use_listings_cache": False, "skip_instance_cache": True})
        return fs, str(fs._strip_protocol(self._settings.url)).rstrip("/")

    def _path(self, path: bytes) -> str:
        if not path:
            return self._base or "/"
        if getattr(self._fs, "local_file", False):
            return f"{self._base}/{os.fsdecode(path)}"
        try:
            return f"{self._base}/{path.decode()}"
        except UnicodeDecodeError:
            raise FarRefusal("its name is not valid UTF-8, and must be at this target") from None

    def _write_piece(self, file: Any, data: bytes, tick: Callable[[], None]) -> None:
        self._run(lambda: file.write(data), tick)

    def _throw_away(self, file: Any) -> None:
        """Given a file that is not to appear, see to it that nothing closes it: that would let it appear."""
        with contextlib.suppress(TransportError):
            if self._settings.renames:
                self._run(file.close)
            else:
                self._run(lambda: getattr(file, "discard", _nothing)())
        if not self._settings.renames:
            with contextlib.suppress(AttributeError):
                file.closed = True

    def _run(self, call: Callable[[], T], tick: Callable[[], None] | None = None) -> T:
        """Given a call of the filesystem's, return what it returns. Raise TransportError for what goes wrong.

        `tick`: as that of `Calls.run`; what it raises comes out.
        """
        ticked: list[BaseException] = []

        def ticking() -> None:
            try:
                if tick is not None:
                    tick()
            except BaseException as error:
                ticked.append(error)
                raise

        try:
            return self._calls.run(_BOUND, call, ticking if tick is not None else None)
        except TransportError:
            raise
        except Exception as error:
            # What a filesystem raises is up to whoever wrote it.
            if ticked:
                raise
            self._translate(error)

    def _translate(self, error: Exception) -> NoReturn:
        text = " ".join(str(getattr(error, "strerror", None) or error).split())[:300] or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        # Its words may hold what was just taken out of ours.
        if isinstance(error, FileNotFoundError | FileExistsError | IsADirectoryError | NotADirectoryError):
            raise FarRefusal(text) from None
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in _REFUSALS):
            raise FarRefusal(text) from None
        if isinstance(error, OSError) and error.errno in _TARGET:
            raise TargetError(text) from None
        raise LinkError(f"{type(error).__name__}: {text}") from None


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> Transport:
    """Given a stream, one of its targets, and a name that is the stream's alone, return the transport for it."""
    access = target.access
    assert isinstance(access, UrlAccess)
    return by_file.make(lambda: FsspecFiles(access), stream, target, owner)


def _nothing() -> None:
    """Do nothing."""


def _texts(value: object) -> Iterator[str]:
    """Yield every text in options, however deep."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _mtime(found: dict[str, Any]) -> float:
    for key in ("mtime", "LastModified", "last_modified", "updated", "modified"):
        value = found.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
    return 0.0
