"""The far end that is a GridFTP server, met through programs: globus-url-copy carries content, gfal's do the rest.

Each call is a process of its own, which logs in anew; so this is a way for large files, not for many small ones.  The
server computes the MD5 of what it has, and renames files over others.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_from_bytes

from mistamover.config.access import GridFtpAccess
from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, SecretError, TargetError
from mistamover.files.private import read_private
from mistamover.model import Kind
from mistamover.transport import by_file
from mistamover.transport.base import Transport
from mistamover.transport.far import FarRefusal, Means, There
from mistamover.transport.reading import Reading

_HASH = "md5"
_PIECE = 1 << 20

#: Seconds that a program may take which carries no content, and that one may stand still which does.
_BOUND = 60.0
_STALL = 60
#: Most of the time is spent with logging in: so many files are sent at a time.
_SIDE_BY_SIDE = 4

#: Seconds between two looks whether a transfer is to be given up.
_LOOK = 0.2

#: Seconds that a proxy has to be valid still, and that a new one is.
_LEFT, _VALID = 3600, 12 * 3600

#: These do no more when they are done twice, and are repeated after a crash: gfal's sometimes have one when they are
#: through.
_REPEATABLE = ("gfal-stat", "gfal-sum", "gfal-rm")

_SYSTEM_PYTHON = "/usr/bin/python3"

_STATUS = re.compile(rb"^\s+Size: (\d+)\s+(.+?)\s*$", re.MULTILINE)
_MODIFIED = re.compile(rb"^Modify: ([0-9-]+ [0-9:]+)", re.MULTILINE)

#: In this order: a refused login may speak of a missing file, and a full disk of a refused command.
_NOT_REACHED = (
    "Valid credentials could not be found", "gss_init_sec_context failed", "Could not open the user certificate",
    "530 Login incorrect", "Unable to connect to", "Operation timed out",
)  # fmt: skip
_WHOLE_TARGET = ("No space left", "quota", "Read-only file system", "Input/output error")
_ONE_NAME = (
    "Permission denied", "Not a directory", "Is a directory", "No such file", "Invalid argument", "File exists",
    "File name too long", "Operation not permitted",
)  # fmt: skip


class GridFtpFiles:
    """One way to a server: no connection is kept, only what logs in."""

    def __init__(self, target: TargetSettings, access: GridFtpAccess, proxy: Proxy) -> None:
        """Given the target, how to get in, and by what, prepare."""
        self._access = access
        self._proxy = proxy
        above = target.directory if target.directory.startswith("/") else f"/~/{target.directory}"
        self._url = f"gsiftp://{target.host}:{access.port}{quote_from_bytes(os.fsencode(above.rstrip('/')))}"
        self._where = f"{target.host}:{target.directory}"
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._aborted = False

    def connect(self) -> Means:
        """See that we can log in, and that the target directory is there."""
        there = self.look(b"")
        if there is None or there.kind is not Kind.DIRECTORY:
            raise TargetError(f"{self._where} is not a directory there")
        return Means(
            description=f"GridFTP by {os.path.basename(self._access.cmd[0])} and gfal",
            rename=True,
            whole=False,
            # The program makes what is missing by itself.
            directories=False,
            links=False,
            attributes=False,
            flush=False,
            hashes=(_HASH,),
            resume=False,
            side_by_side=_SIDE_BY_SIDE,
        )

    def look(self, path: bytes) -> There | None:
        """Return what has a name."""
        try:
            said = self._run("gfal-stat", self._at(path))
        except _Nothing:
            return None
        found, modified = _STATUS.search(said), _MODIFIED.search(said)
        if found is None:
            raise LinkError(f"{self._where}: gfal-stat says nothing that is understood")
        kind = {b"regular file": Kind.FILE, b"directory": Kind.DIRECTORY, b"symbolic link": Kind.LINK}.get(found[2])
        mtime = 0.0
        if modified is not None:
            mtime = datetime.strptime(modified[1].decode(), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        return There(kind=kind or Kind.SPECIAL, size=int(found[1]), mtime=mtime)

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in a directory; those with newlines come out wrong, and none of ours has any."""
        try:
            said = self._run(*self._access.cmd, "-list", self._at(path) + "/")
        except _Nothing:
            raise FarRefusal("there is no such directory") from None
        lines = [line for line in said.split(b"\n")[1:] if line.startswith(b"    ")]
        return [line[4:].removesuffix(b" ").rstrip(b"/") for line in lines]

    def make_directory(self, path: bytes) -> None:
        """Do nothing: what is written makes its directories."""

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        """Write a file and the directories above it."""
        reading = Reading(source)
        words = [*self._access.cmd, "-cd", "-stall-timeout", str(_STALL), "-rst-retries", "1"]
        process = self._start([*words, f"file:///proc/self/fd/{source}", self._at(path)], pass_fds=(source,))
        try:
            while not _ended(process, _LOOK):
                told(0)
            self._judge(process, *process.communicate(timeout=_BOUND))
            reading.same()
        finally:
            self._end(process)
        told(size)

    def read(self, path: bytes) -> Iterator[bytes]:
        """Yield the content of a file."""
        process = self._start([*self._access.cmd, "-stall-timeout", str(_STALL), self._at(path), "-"])
        try:
            assert process.stdout is not None
            while piece := process.stdout.read(_PIECE):
                yield piece
            self._judge(process, *process.communicate(timeout=_BOUND))
        finally:
            self._end(process)

    def digest(self, path: bytes, algorithm: str) -> str:
        """Return the MD5 that the server computes."""
        said = self._run("gfal-sum", self._at(path), algorithm.upper()).split()
        if not said or not re.fullmatch(rb"[0-9a-fA-F]{32}", said[-1]):
            raise FarRefusal("the server computes no MD5 of it")
        return said[-1].decode().lower()

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Do nothing."""

    def flush(self, paths: Sequence[bytes]) -> None:
        """Do nothing: the server is trusted to keep what it has taken."""

    def rename(self, old: bytes, new: bytes) -> None:
        """Give a file of ours another name."""
        words = ("gfal-rename", self._at(old), self._at(new))
        try:
            self._run(*words)
        except _Crashed:
            # Perhaps when it was through. Nobody else renames what is ours: where the old name is gone, it is done.
            with contextlib.suppress(_Nothing):
                if self.look(old) is not None:
                    self._run(*words)

    def symlink(self, text: bytes, path: bytes) -> None:
        """Refuse."""
        raise FarRefusal("no links can be made by GridFTP")

    def remove(self, path: bytes) -> None:
        """Remove a file."""
        with contextlib.suppress(_Nothing):
            self._run("gfal-rm", self._at(path))

    def remove_directory(self, path: bytes) -> None:
        """Refuse: the program removes what is in a directory as well."""
        raise FarRefusal("directories are not removed by GridFTP")

    def free(self) -> int | None:
        """Return None: nobody can tell."""
        return None

    def abort(self) -> None:
        """End every program that runs."""
        with self._lock:
            self._aborted = True
            running = list(self._processes)
        for process in running:
            process.kill()

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    # -- inside -------------------------------------------------------------------------------

    def _at(self, path: bytes) -> str:
        if any(byte < 0x20 or byte == 0x7F for byte in path):
            raise FarRefusal("its name has control characters, which GridFTP's commands cannot carry")
        try:
            path.decode()
        except UnicodeDecodeError:
            raise FarRefusal("its name is not valid UTF-8, and gfal takes no other") from None
        return f"{self._url}/{quote_from_bytes(path)}" if path else self._url

    def _run(self, *words: str) -> bytes:
        """Given a command, return what it prints. Raise LinkError, TargetError, FarRefusal."""
        try:
            return self._run_once(*words)
        except _Crashed:
            if words[0] not in _REPEATABLE:
                raise
            return self._run_once(*words)

    def _run_once(self, *words: str) -> bytes:
        process = self._start(list(words))
        try:
            out, err = process.communicate(timeout=_BOUND)
            return self._judge(process, out, err)
        except subprocess.TimeoutExpired:
            raise LinkError(f"{self._where}: {words[0]} gave no answer within {_BOUND:g} s") from None
        finally:
            self._end(process)

    def _start(self, words: list[str], *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        environment = self._proxy.environment()
        with self._lock:
            if self._aborted:
                raise LinkError("the connection was cut")
            try:
                process = subprocess.Popen(
                    words,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=pass_fds,
                )
            except OSError as error:
                raise TargetError(f"{words[0]} cannot be started: {error.strerror}") from error
            self._processes.add(process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(_BOUND)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        with self._lock:
            self._processes.discard(process)

    def _judge(self, process: subprocess.Popen[bytes], out: bytes, err: bytes) -> bytes:
        """Given a program that has ended and what it said, return what it printed; its status must be 0."""
        if self._aborted:
            raise LinkError("the connection was cut")
        if process.returncode == 0:
            return out
        if process.returncode < 0:
            raise _Crashed(f"{self._where}: {_program(process)} was ended by signal {-process.returncode}")
        # What gfal-rm says of each name it prints.
        text = " ".join((err or out).decode(errors="replace").split())
        words = f"{_program(process)}: {text[:300] or f'ended with status {process.returncode}'}"
        if any(each in text for each in _NOT_REACHED):
            raise LinkError(words)
        if any(each in text for each in _WHOLE_TARGET):
            raise TargetError(words)
        if "No such file" in text or "MISSING" in text:
            raise _Nothing(words)
        if any(each in text for each in _ONE_NAME):
            raise FarRefusal(words)
        raise LinkError(words)


class Proxy:
    """What logs in: a proxy of our own where a password for one is given, else the user's."""

    def __init__(self, access: GridFtpAccess, path: Path) -> None:
        """Given how to get in, and a path in a private directory, make nothing yet."""
        self._access = access
        self._path = path
        # Several lanes may need a new one at a time.
        self._lock = threading.Lock()

    def environment(self) -> dict[str, str]:
        """Return the environment of a program that is to log in now. Raise LinkError, TargetError."""
        environment = _environment()
        password = _password(self._access)
        if password:
            with self._lock:
                if not self._is_valid():
                    self._renew(password, environment)
            environment["X509_USER_PROXY"] = str(self._path)
            # Taken before the proxy, and its key has the password.
            environment.pop("X509_USER_CERT", None)
            environment.pop("X509_USER_KEY", None)
        return environment

    def _is_valid(self) -> bool:
        try:
            return time.time() - self._path.stat().st_mtime < _VALID - _LEFT
        except OSError:
            return False

    def _renew(self, password: str, environment: dict[str, str]) -> None:
        hours, fresh = f"{_VALID // 3600}", self._path.with_suffix(".new")
        words = ["grid-proxy-init", "-pwstdin", "-q", "-valid", f"{hours}:00", "-out", str(fresh)]
        if self._access.proxy_server:
            words = ["myproxy-logon", "-S", "-q", "-s", self._access.proxy_server, "-t", hours, "-o", str(fresh)]
            words += ["-l", self._access.username] if self._access.username else []
        try:
            ended = subprocess.run(
                words,
                env=environment,
                input=password.encode() + b"\n",
                capture_output=True,
                timeout=_BOUND,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LinkError(f"{words[0]} gave no answer within {_BOUND:g} s") from None
        except OSError as error:
            raise TargetError(f"{words[0]} cannot be started: {error.strerror}") from error
        if ended.returncode:
            said = " ".join((ended.stderr or ended.stdout).decode(errors="replace").replace(password, "***").split())
            raise LinkError(f"{words[0]}: {said[:300] or f'ended with status {ended.returncode}'}")
        fresh.replace(self._path)


class _Crashed(LinkError):
    """A program was ended by a signal that is not ours."""


class _Nothing(FarRefusal):
    """Nothing has the name."""


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> Transport:
    """Given a stream, one of its targets, and a name that is the stream's alone, return the transport for it."""
    access = target.access
    assert isinstance(access, GridFtpAccess)
    run_dir = stream.state_dir / "run"
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    proxy = Proxy(access, run_dir / "x509-proxy")
    return by_file.make(lambda: GridFtpFiles(target, access, proxy), stream, target, owner)


def _environment() -> dict[str, str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if home := environment.get("GLOBUS_LOCATION"):
        environment["PATH"] = f"{home}/bin:{environment.get('PATH', os.defpath)}"
    if os.access(_SYSTEM_PYTHON, os.X_OK):
        # gfal looks for a Python that knows it, and may find ours first.
        environment.setdefault("GFAL_PYTHONBIN", _SYSTEM_PYTHON)
    return environment


def _password(access: GridFtpAccess) -> str:
    if access.password_file is None:
        return access.password
    try:
        return next(iter(read_private(access.password_file)), "")
    except SecretError as error:
        raise LinkError(str(error)) from error


def _program(process: subprocess.Popen[bytes]) -> str:
    words = process.args
    return os.path.basename(str(words[0])) if isinstance(words, list) else ""


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
