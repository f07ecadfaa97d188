"""Runs at the target: takes small files from standard input and puts each in place, proven and whole.

Its text is sent over the ssh connection and run there by `python3 -I -S`: nothing is installed.  So it
imports the standard library only, and works with every Python from 3.6 on.  `express` speaks to it, in the
frames described below; whatever it cannot do plainly it declines, and the sender sends it by rsync.

A file is written under a dot-name as rsync forms it (`.NAME.XXXXXX`), read back, compared by hash, given its
owner, mode and times, flushed where that is asked for, and renamed.  No name of the sender's is ever seen
by a shell, and no part of a path may be a symbolic link.
"""

import contextlib
import os
import select
import stat
import struct
import sys
import time

MYPY = False
if MYPY:
    from typing import BinaryIO

VERSION = 2

#: kind, length of name, length of content, mode, user, group, time of modification in ns
HEADER = struct.Struct("!BHIIIIq")

#: Kinds of frames: look whether we are where we began; begin a batch; the name of a user or group; a directory that
#: holds files of the batch; a file; the end of a batch; a directory that is to be there for its own sake; a message to
#: be put; a message to be fetched.  For USER and GROUP the name is text and the number stands in its own field; for
#: BEGIN the field `mode` is 1 when every file is to be flushed by itself; for FETCH `size` is the most bytes that are
#: wanted and `mode` the milliseconds in which it may still come.
LOOK, BEGIN, USER, GROUP, DIRECTORY, FILE, END, EMPTY, PUT, FETCH = range(1, 11)

#: Answers: to LOOK they are STAY, STOP or MOVED; to FILE, EMPTY and PUT, and to END for the whole batch, DONE or
#: DECLINED.  To FETCH it is the length of the content and the content, or NOTHING.
STAY, STOP, MOVED, DONE, DECLINED = b"s", b"p", b"m", b"d", b"x"
LENGTH = struct.Struct("!I")
NOTHING = LENGTH.pack(0xFFFFFFFF)

#: Whoever reads messages there may be another user.
MESSAGE_MODE = 0o644
#: Seconds between two looks for a message: the first and the longest.
LOOK_AGAIN, LOOK_AGAIN_AT_MOST = 0.001, 0.01

#: Descriptors of directories that are kept open within one batch.
MOST_DIRECTORIES = 200
#: Seconds after which answers are passed on even where there are few.
SAY_EVERY = 1.0
#: rsync cuts longer names to make room for its decoration, and so do we: what cleans up after it knows the form.
LONGEST_NAME = 255 - 8

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MESSAGE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Receiver:
    """The target directory, and what one batch has opened and changed in it."""

    def __init__(self, top: bytes, stop_file: bytes, algorithm: str, permit: bytes) -> None:
        """Given the target directory, the name of its stop file, a hash of hashlib's and a name for our permit, begin.

        The permit is a file; once it is gone nothing is put in place any more, whatever may still be in the pipe: the
        sender has given us up, and what it sends in other ways since then is newer.
        """
        import hashlib

        self._top, self._stop_file, self._new_hash = top, stop_file, getattr(hashlib, algorithm)
        self._root = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._place = _place(os.fstat(self._root))
        # Looked up by its name each time: on NFS a file that somebody has open does not go by being removed.
        self._permit = permit
        os.close(os.open(permit, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._root))
        self._open: dict[bytes, int] = {}
        self._used: dict[bytes, tuple[int, int]] = {}
        self._attributes: dict[bytes, tuple[int, int, int, int]] = {}
        self._created: set[bytes] = set()
        self._owners = Owners()
        self._flush = False
        # Part of temporary names; where it begins by chance, two receivers do not meet.
        self._number = int.from_bytes(os.urandom(3), "big")
        os.umask(0)

    def look(self) -> bytes:
        """Return STOP when the stop file is there, MOVED when the directory is not the one that was opened."""
        if not _same_place(self._top, self._place):
            return MOVED
        try:
            os.stat(self._stop_file, dir_fd=self._root, follow_symlinks=False)
        except OSError:
            return STAY
        return STOP

    def begin(self, flush: bool) -> None:
        """Given whether every file is to be flushed by itself, begin a batch: nothing is taken for granted."""
        self._forget()
        self._used.clear()
        self._attributes.clear()
        self._created.clear()
        self._flush = flush

    def owner(self, kind: int, number: int, name: bytes) -> None:
        """Given USER or GROUP, a number and its name at the source, remember who that is here."""
        self._owners.learn(kind == USER, number, name)

    def directory(self, name: bytes, mode: int, user: int, group: int, mtime_ns: int) -> None:
        """Given a directory that holds files of the batch, remember how it is to be; `end` makes it so."""
        self._attributes[name] = (mode, user, group, mtime_ns)

    def empty(self, name: bytes) -> bytes:
        """Given a directory of which `directory` has told how it is to be, see that it is there; DONE or DECLINED."""
        try:
            if name[:1] == b"/":
                raise ValueError("not a relative name")
            self._directory(name)
        except (OSError, ValueError):
            return DECLINED
        return DONE

    def file(
        self, name: bytes, digest: bytes, content: bytes, mode: int, user: int, group: int, mtime_ns: int
    ) -> bytes:
        """Given a file, put it in place whole; return DONE, or DECLINED with nothing changed under its name."""
        try:
            above, _, last = name.rpartition(b"/")
            if name[:1] == b"/":
                raise ValueError("not a relative name")
            directory = self._directory(above)
            self._number += 1
            temporary = b".%b.%06x" % (last[:LONGEST_NAME], self._number & 0xFFFFFF)
            # The mode that it is to have: where nothing interferes, that saves a call for every file.
            handle = os.open(temporary, _FILE_FLAGS, mode & 0o777, dir_fd=directory)
            try:
                self._fill(handle, digest, content, mode, user, group, mtime_ns)
                if self._flushes(above):
                    os.fsync(handle)
                # Our temporary file exists: whoever withdraws the permit removes that next, and the renaming fails.
                self._ask_for_permit()
                os.rename(temporary, last, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(temporary, dir_fd=directory)
                raise
            finally:
                os.close(handle)
        except (OSError, ValueError):
            return DECLINED
        return DONE

    def put(self, name: bytes, digest: bytes, content: bytes) -> bytes:
        """Given a message, let it appear by rename, in a directory that is there; return DONE or DECLINED."""
        try:
            self._number += 1
            # Beside the permit, where all goes with the session: nobody has to look for what is left of it.
            temporary = os.path.dirname(self._permit) + b"/m-%06x" % (self._number & 0xFFFFFF)
            above, _, last = name.rpartition(b"/")
            handle = os.open(temporary, _FILE_FLAGS, MESSAGE_MODE, dir_fd=self._root)
            try:
                self._write(handle, digest, content)
                self._ask_for_permit()
                os.rename(temporary, last, src_dir_fd=self._root, dst_dir_fd=self._directory(above, make=False))
            except BaseException:
                os.unlink(temporary, dir_fd=self._root)
                raise
            finally:
                os.close(handle)
        except (OSError, ValueError):
            return DECLINED
        return DONE

    def fetch(self, name: bytes, longest: int) -> bytes:
        """Given the name of a message and the most bytes that are wanted, return its length and content, or NOTHING."""
        above, _, last = name.rpartition(b"/")
        try:
            handle = os.open(last, _MESSAGE_FLAGS, dir_fd=self._directory(above, make=False))
        except (OSError, ValueError):
            return NOTHING
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > longest:
                return NOTHING
            content = os.pread(handle, longest + 1, 0)
        finally:
            os.close(handle)
        return LENGTH.pack(len(content)) + content if len(content) <= longest else NOTHING

    def end(self) -> bytes:
        """Finish the batch; return DONE, or DECLINED when what was put in place is not to be trusted."""
        try:
            for name in sorted(self._attributes, reverse=True):
                self._finish_directory(name, *self._attributes[name])
            above = {name.rpartition(b"/")[0] for name in self._created}
            for name in above.union(self._used):
                if self._flushes(name):
                    os.fsync(self._directory(name))
            moved = [name for name, place in self._used.items() if not _same_place(self._top + b"/" + name, place)]
            self._forget()
            return DECLINED if moved or not _same_place(self._top, self._place) else DONE
        except OSError:
            return DECLINED

    def close(self) -> None:
        """Give the permit back."""
        with contextlib.suppress(OSError):
            os.unlink(self._permit, dir_fd=self._root)

    def _ask_for_permit(self) -> None:
        """Raise FileNotFoundError when the sender has given us up."""
        os.stat(self._permit, dir_fd=self._root)

    def _fill(
        self, handle: int, digest: bytes, content: bytes, mode: int, user: int, group: int, mtime_ns: int
    ) -> None:
        self._write(handle, digest, content)
        self._owners.give(handle, user, group, mode)
        os.utime(handle, ns=(mtime_ns, mtime_ns))

    def _write(self, handle: int, digest: bytes, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        # What the filesystem gives back is compared, not what came over the wire.
        if self._new_hash(os.pread(handle, len(content) + 1, 0)).digest() != digest:
            raise ValueError("what was written is not what was sent")

    def _flushes(self, directory: bytes) -> bool:
        """Whether what is in a directory is flushed here; what flushes whole batches misses other filesystems."""
        place = self._used.get(directory)
        return self._flush or (place is not None and place[0] != self._place[0])

    def _directory(self, name: bytes, make: bool = True) -> int:
        """Given a directory's name, return a descriptor, opened part by part, never through a link; `make` what is not
        there.
        """
        if name in self._open:
            return self._open[name]
        if not name:
            self._used[b""] = self._place
            return self._root
        if len(self._open) >= MOST_DIRECTORIES:
            self._forget()
        above, _, last = name.rpartition(b"/")
        if last in (b"", b".", b".."):
            raise ValueError("not a plain name")
        parent = self._directory(above, make)
        try:
            handle = os.open(last, _DIRECTORY_FLAGS, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
            self._ask_for_permit()
            with contextlib.suppress(FileExistsError):  # another receiver of the same stream was quicker
                os.mkdir(last, 0o700, dir_fd=parent)
            self._created.add(name)
            handle = os.open(last, _DIRECTORY_FLAGS, dir_fd=parent)
        self._open[name] = handle
        self._used.setdefault(name, _place(os.fstat(handle)))
        return handle

    def _finish_directory(self, name: bytes, mode: int, user: int, group: int, mtime_ns: int) -> None:
        """As rsync does it with the directories above a file: owner, mode and time are those of the source."""
        if name not in self._used:
            return
        handle = self._directory(name)
        try:
            self._owners.give(handle, user, group, mode)
            os.utime(handle, ns=(mtime_ns, mtime_ns))
        except PermissionError:
            # A directory of somebody else, who lets us write into it: its mode and time are not ours to set.
            if name in self._created:
                raise

    def _forget(self) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()


class Owners:
    """Who the users and groups of the source are here, by the rules of rsync's -o and -g: names come before numbers."""

    def __init__(self) -> None:
        self._root = os.geteuid() == 0
        self._groups = {os.getegid(), *os.getgroups()}
        self._user = {0: 0}
        self._group = {0: 0}

    def learn(self, is_user: bool, number: int, name: bytes) -> None:
        """Given a number and its name at the source, find out who has the name here."""
        known = self._user if is_user else self._group
        try:
            if is_user:
                import pwd

                known[number] = pwd.getpwnam(os.fsdecode(name)).pw_uid
            else:
                import grp

                known[number] = grp.getgrnam(os.fsdecode(name)).gr_gid
        except KeyError:
            known[number] = number

    def give(self, handle: int, user: int, group: int, mode: int) -> None:
        """Given a descriptor, who owns the source and its mode, give it to the same, as far as we may, and the mode."""
        status = os.fstat(handle)
        user = self._user.get(user, user) if self._root else status.st_uid
        group = self._group.get(group, group)
        if not self._root and group not in self._groups:
            group = status.st_gid
        if (user, group) != (status.st_uid, status.st_gid):
            os.chown(handle, user, group)
            # That takes the special bits away.
            os.fchmod(handle, mode)
        elif status.st_mode & 0o7777 != mode:
            os.fchmod(handle, mode)


def _place(status: os.stat_result) -> "tuple[int, int]":
    return status.st_dev, status.st_ino


def _same_place(path: bytes, place: "tuple[int, int]") -> bool:
    try:
        return _place(os.stat(path)) == place
    except OSError:
        return False


def serve(source: "BinaryIO", sink: "BinaryIO") -> None:
    """Given where frames come from and where answers go, serve until the frames end."""
    top, stop_file, algorithm, permit = (source.read(struct.unpack("!H", source.read(2))[0]) for _ in range(4))
    receiver = Receiver(top, stop_file, algorithm.decode("ascii"), permit)
    try:
        _serve(receiver, source, sink)
    finally:
        receiver.close()


def _serve(receiver: Receiver, source: "BinaryIO", sink: "BinaryIO") -> None:
    digest_size = receiver._new_hash().digest_size
    sink.write(b"mistamover receiver %d\n" % VERSION)
    sink.flush()
    say_again = time.monotonic() + SAY_EVERY
    while True:
        header = source.read(HEADER.size)
        if len(header) < HEADER.size:
            return
        kind, length, size, mode, user, group, mtime_ns = HEADER.unpack(header)
        name = source.read(length)
        if kind in (FILE, PUT):
            digest, content = source.read(digest_size), source.read(size)
            if len(content) < size:
                return
            if kind == FILE:
                sink.write(receiver.file(name, digest, content, mode, user, group, mtime_ns))
            else:
                sink.write(receiver.put(name, digest, content))
            if time.monotonic() >= say_again:
                # Who waits for us wants to see that something moves.
                sink.flush()
                say_again = time.monotonic() + SAY_EVERY
        elif kind == FETCH:
            sink.write(_fetch(receiver, name, size, mode / 1000, source))
            sink.flush()
        elif kind in (DIRECTORY, EMPTY):
            receiver.directory(name, mode, user, group, mtime_ns)
            if kind == EMPTY:
                sink.write(receiver.empty(name))
        elif kind in (USER, GROUP):
            receiver.owner(kind, user if kind == USER else group, name)
        elif kind == BEGIN:
            receiver.begin(bool(mode))
        elif kind == END:
            sink.write(receiver.end())
            sink.flush()
        elif kind == LOOK:
            sink.write(receiver.look())
            sink.flush()
        else:
            return


def _fetch(receiver: Receiver, name: bytes, longest: int, patience: float, source: "BinaryIO") -> bytes:
    """Look for a message until it is there, the patience is over, or the sender says something."""
    ends, pause = time.monotonic() + patience, LOOK_AGAIN
    while True:
        found = receiver.fetch(name, longest)
        if found != NOTHING or time.monotonic() >= ends or select.select([source], [], [], pause)[0]:
            return found
        pause = min(2 * pause, LOOK_AGAIN_AT_MOST)


if __name__ == "__main__":
    assert sys.version_info >= (3, 6), "python3 is older than 3.6"
    with open(0, "rb", 1 << 18, closefd=False) as stdin, open(1, "wb", 1 << 14, closefd=False) as stdout:
        try:
            serve(stdin, stdout)
        except OSError as error:
            sys.exit(f"the target directory cannot be used: {error.strerror}")
