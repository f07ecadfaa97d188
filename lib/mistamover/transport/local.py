"""The protocol `local`: a directory of this machine, or a share that is mounted here.

Every path is resolved below a descriptor of the target directory, part by part and never through a link.  Content is
shared with the source where the filesystem can (a clone), copied by the kernel where that is possible, and read back
from the disk rather than from memory where that is cheap.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.files.durable import sync_filesystem
from mistamover.files.identity import DirectoryHandles, kind_of
from mistamover.files.names import display, parent
from mistamover.transport import by_file
from mistamover.transport.far import FarRefusal, Means, There

#: Bytes that are read and written at a time.
CHUNK = 1 << 20

#: Bytes that are copied between two looks at whether the attempt is to end.
STRIDE = 8 << 20

#: From this size on a clone is worth a try, and what is read back comes from the disk.
_LARGE = 1 << 20

#: Paths that are flushed one by one; for more, their whole filesystem is.
_FEW = 32

#: ioctl: share the content of another file.
_FICLONE = 0x40049409

_TARGET = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.EFBIG})
_LOST = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ESHUTDOWN})

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class LocalFiles:
    """See `FarFiles`."""

    def __init__(self, directory: str) -> None:
        """Given the target directory, open nothing yet."""
        self._directory = os.fsencode(directory)
        self._handles = DirectoryHandles(self._directory)
        self._place = (0, 0)
        self._us = (os.geteuid(), os.getegid())
        self._aborted = False
        # What was written last is most likely to be read back and dressed next.
        self._last: tuple[bytes, int] | None = None

    def connect(self) -> Means:
        """See `FarFiles.connect`; the directory is not made: where nothing is mounted, it would be a wrong one."""
        try:
            status = os.fstat(self._handles.get(b""))
        except OSError as error:
            where, why = display(self._directory), error.strerror or error
            hint = ": make it, or mount what it is on" if error.errno == errno.ENOENT else ""
            raise TargetError(f"the target directory {where} cannot be used ({why}){hint}") from error
        self._place = (status.st_dev, status.st_ino)
        return Means(
            description=f"copied into the directory {display(self._directory)} of this machine",
            rename=True,
            whole=False,
            directories=True,
            links=True,
            attributes=True,
            flush=True,
            hashes=(),
            resume=True,
            owners=os.geteuid() == 0,
        )

    def look(self, path: bytes) -> There | None:
        """See `FarFiles.look`."""
        if b"/" not in path:
            self._still_there()
        try:
            with Refusing(path):
                status = self._handles.lstat(path)
        except _Missing:
            return None
        mode = stat.S_IMODE(status.st_mode)
        return There(kind=kind_of(status), size=status.st_size, mtime=status.st_mtime, mode=mode)

    def names(self, path: bytes) -> list[bytes]:
        """See `FarFiles.names`."""
        with Refusing(path):
            return [os.fsencode(name) for name in os.listdir(self._handles.get(path))]

    def make_directory(self, path: bytes) -> None:
        """See `FarFiles.make_directory`."""
        above, last = self._split(path)
        # Somebody may have removed or replaced the one that we know.
        self._handles.forget(path)
        with Refusing(path):
            with contextlib.suppress(FileExistsError):
                os.mkdir(last, 0o700, dir_fd=above)
            self._handles.get(path)

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        """See `FarFiles.write`."""
        handle = self._opened_for_writing(path, WRITE if offset else WRITE | os.O_TRUNC)
        if size - offset >= _LARGE:
            offset = self._by_kernel(path, handle, source, size, offset, told)
        while offset < size:
            piece = os.pread(source, min(CHUNK, size - offset), offset)
            if not piece:
                return
            with Refusing(path):
                write_all(handle, piece, offset)
            offset += len(piece)
            told(offset)
            if offset < size:
                self._go_on()

    def read(self, path: bytes) -> Iterator[bytes]:
        """See `FarFiles.read`."""
        with self.opened(path) as handle:
            with Refusing(path):
                size = os.fstat(handle).st_size
                if size >= _LARGE:
                    # What is on the disk already can be forgotten, and is then read from there.
                    os.fdatasync(handle)
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            position = 0
            while position < size:
                self._go_on()
                with Refusing(path):
                    piece = os.pread(handle, min(CHUNK, size - position), position)
                if not piece:
                    return
                yield piece
                position += len(piece)

    def digest(self, path: bytes, algorithm: str) -> str:
        """See `FarFiles.digest`: nobody else is there who could compute one."""
        raise FarRefusal(f"{display(path)}: nothing at the target computes {algorithm}")

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """See `FarFiles.set_attributes`."""
        with self.opened(path) as handle, Refusing(path):
            status = os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                # What comes into it belongs to its group: that is the target's own affair.
                mode |= status.st_mode & stat.S_ISGID
            if stat.S_IMODE(status.st_mode) != mode:
                os.fchmod(handle, mode)
            os.utime(handle, ns=(mtime_ns, mtime_ns))

    def set_owner(self, path: bytes, user: int, group: int) -> None:
        """See `OwningFiles.set_owner`; only the superuser is asked for it."""
        if (user, group) == self._us:
            return
        above, last = self._split(path)
        with Refusing(path):
            try:
                os.chown(last, user, group, dir_fd=above, follow_symlinks=False)
            except OSError as error:
                # A share that gives everything to one user, or to nobody.
                if error.errno not in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP):
                    raise

    def flush(self, paths: Sequence[bytes]) -> None:
        """See `FarFiles.flush`."""
        if len(paths) <= _FEW:
            for path in paths:
                with self.opened(path, links=True) as handle, Refusing(path):
                    os.fsync(handle)
        else:
            flushed = set()
            for directory in {parent(path) for path in paths}:
                with Refusing(directory):
                    handle = self._handles.get(directory)
                    device = os.fstat(handle).st_dev
                    if device not in flushed:
                        sync_filesystem(handle)
                        flushed.add(device)
        self._still_there()
        self._handles_still_lead_there({parent(path) for path in paths})

    def rename(self, old: bytes, new: bytes) -> None:
        """See `FarFiles.rename`."""
        self._go_on()
        from_above, from_last = self._split(old)
        to_above, to_last = self._split(new)
        with Refusing(new):
            os.rename(from_last, to_last, src_dir_fd=from_above, dst_dir_fd=to_above)
        if self._last is None or self._last[0] != old:
            # Perhaps a directory: descriptors of what was in it are not where they were.
            self._handles.close()
        self._let_go()

    def symlink(self, text: bytes, path: bytes) -> None:
        """See `FarFiles.symlink`."""
        above, last = self._split(path)
        with Refusing(path):
            os.symlink(text, last, dir_fd=above)

    def remove(self, path: bytes) -> None:
        """See `FarFiles.remove`."""
        try:
            above, last = self._split(path)
            with Refusing(path):
                os.unlink(last, dir_fd=above)
        except _Missing:
            return

    def remove_directory(self, path: bytes) -> None:
        """See `FarFiles.remove_directory`."""
        self._let_go()
        try:
            above, last = self._split(path)
            with Refusing(path):
                os.rmdir(last, dir_fd=above)
        except _Missing:
            return
        self._handles.close()

    def free(self) -> int | None:
        """See `FarFiles.free`."""
        with Refusing(b""):
            room = os.fstatvfs(self._handles.get(b""))
        return room.f_bavail * room.f_frsize

    def abort(self) -> None:
        """See `FarFiles.abort`: a call of the kernel cannot be cut, what follows it is."""
        self._aborted = True

    def close(self) -> None:
        """See `FarFiles.close`."""
        self._let_go()
        self._handles.close()

    # -- inside -------------------------------------------------------------------------------

    def _opened_for_writing(self, path: bytes, flags: int) -> int:
        self._let_go()
        above, last = self._split(path)
        with Refusing(path):
            handle = os.open(last, flags, 0o600, dir_fd=above)
            self._last = (path, handle)
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FarRefusal(f"{display(path)} is not a file")
        return handle

    def _by_kernel(
        self, path: bytes, handle: int, source: int, size: int, offset: int, told: Callable[[int], None]
    ) -> int:
        """Let the kernel share or copy what it can; return how far it came."""
        if not offset:
            try:
                fcntl.ioctl(handle, _FICLONE, source)
            except OSError:
                pass
            else:
                told(size)
                return size
        while offset < size:
            try:
                copied = os.copy_file_range(source, handle, min(STRIDE, size - offset), offset, offset)
            except OSError as error:
                if error.errno in _TARGET and error.errno != errno.EIO:
                    raise _turned(path, error) from error
                # Who is to blame, if anybody, is found out by reading and writing.
                return offset
            if not copied:
                return offset
            offset += copied
            # The disk is kept busy meanwhile, so that little is left for the end.
            os.posix_fadvise(handle, 0, offset, os.POSIX_FADV_DONTNEED)
            told(offset)
            self._go_on()
        return offset

    @contextlib.contextmanager
    def opened(self, path: bytes, *, links: bool = False) -> Iterator[int]:
        """Yield a descriptor of what has a name; with `links`, of the directory of a link. Raise as all of it."""
        if self._last is not None and self._last[0] == path:
            yield self._last[1]
            return
        above, last = self._split(path)
        with Refusing(path):
            if not path:
                handle = os.dup(self._handles.get(b""))
            elif links and stat.S_ISLNK(self._handles.lstat(path).st_mode):
                handle = os.dup(above)
            else:
                handle = os.open(last, _READ, dir_fd=above)
        try:
            yield handle
        finally:
            os.close(handle)

    def _split(self, path: bytes) -> tuple[int, bytes]:
        """Given a path, return a descriptor of its directory, and its name there."""
        above, _, last = path.rpartition(b"/")
        try:
            return self._handles.get(above), last
        except OSError as error:
            raise _turned(path, error) from error

    def _let_go(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            os.close(last[1])

    def _go_on(self) -> None:
        if self._aborted:
            raise LinkError("the connection was cut")

    def _still_there(self) -> None:
        self._go_on()
        try:
            status = os.stat(self._directory)
        except OSError as error:
            raise TargetError(f"{display(self._directory)}: {error.strerror or error}") from error
        if (status.st_dev, status.st_ino) != self._place:
            raise TargetError(f"{display(self._directory)} was removed or replaced by another directory")

    def _handles_still_lead_there(self, directories: set[bytes]) -> None:
        """Make sure that what was put into directories can be found under their names."""
        for directory in directories:
            if not directory:
                continue
            with Refusing(directory):
                kept, found = os.fstat(self._handles.get(directory)), self._handles.lstat(directory)
                if (kept.st_dev, kept.st_ino) != (found.st_dev, found.st_ino):
                    self._handles.close()
                    raise TargetError(f"{display(directory)} was replaced by another directory at the target")


class Refusing:
    """Turns what the system says about a path into our exceptions.

    A class, not a generator: it is used a dozen times for each file.
    """

    __slots__ = ("_path",)

    def __init__(self, path: bytes) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise _turned(self._path, error) from error


class _Missing(FarRefusal):
    """There is nothing of the name."""


def _turned(path: bytes, error: OSError) -> Exception:
    words = f"{display(path)}: {error.strerror or error}"
    if error.errno in _LOST:
        return LinkError(words)
    if error.errno in _TARGET:
        return TargetError(words)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _Missing(words)
    return FarRefusal(words)


def write_all(handle: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, position)
        position += written
        view = view[written:]


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> by_file.ByFile:
    """See `registry.Maker`."""
    return by_file.make(lambda: LocalFiles(target.directory), stream, target, owner)
