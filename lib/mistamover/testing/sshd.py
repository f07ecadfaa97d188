"""A private OpenSSH server on the loopback: the real thing, with its own keys, for tests and the quickstart.

It never touches the user's ssh files, needs no root, and takes everything it started with it when it
ends.  Never import this from production code.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

#: Where sshd and rsync are looked for besides PATH; users often have no sbin in theirs.
EXTRA_PATH: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
#: Seconds within which a started server answers, and a killed process is gone.
DEADLINE: Final = 15.0
#: Ports tried when another process takes the free one before sshd has bound it.
ATTEMPTS: Final = 10
#: Compiled into sshd: as root it locks itself in there before the login.
PRIVSEP_DIRECTORY: Final = Path("/run/sshd")


def available() -> str | None:
    """Return why a private sshd with rsync cannot run here, or None if it can."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen", "rsync") if find(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:
        return f"user {os.geteuid()} has no entry in the password database, so sshd lets nobody in"
    if Path(user.pw_shell).name in ("nologin", "false"):
        return f"user {user.pw_name} has no login shell ({user.pw_shell})"
    return None


class PrivateSshd:
    """A real sshd on 127.0.0.1, started by `start` or `with`, for the user who runs it.

    Clients need nothing but `ssh -F {ssh_config}`.  Sessions have an empty home of their own (`home`), so
    that the shell reads no dot files; a relative path still starts at the user's real home, because sshd
    changes to that directory itself: give absolute ones.
    """

    def __init__(self, directory: Path | None = None, *, options: Sequence[str] = ()) -> None:
        """Given a directory for keys and logs (default: a temporary one) and more sshd_config lines, prepare it all.

        The first of two equal keywords wins in sshd_config, and `options` come first.
        """
        self._temporary = tempfile.mkdtemp(prefix="mistamover-sshd-") if directory is None else None
        self.directory = Path(self._temporary or directory or "").absolute()
        self.host = "127.0.0.1"
        self.port = 0
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.home = self.directory / "home"
        self.key = self.directory / "user_key"
        self.ssh_config = self.directory / "ssh_config"
        self.log = self.directory / "sshd.log"
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._host_key = self.directory / "host_key"
        self._sshd_config = self.directory / "sshd_config"
        self._known_hosts = self.directory / "known_hosts"
        self.home.mkdir(parents=True, exist_ok=True)
        for key in (self._host_key, self.key):
            if not key.exists():
                _generate_key(key)

    def __enter__(self) -> Self:
        """Start and return the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server; remove its directory if it is a temporary one."""
        self.close()

    @property
    def running(self) -> bool:
        """Whether the listener is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the listener; raise RuntimeError if it was never started."""
        if self._process is None:
            raise RuntimeError("the private sshd is not started")
        return self._process.pid

    def start(self) -> None:
        """Start listening: at a free port the first time, at the same port ever after.

        Return when the server has sent its greeting; raise RuntimeError if it does not within the deadline.
        """
        if self.running:
            return
        if os.geteuid() == 0:
            PRIVSEP_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
        for port in [self.port] if self.port else (free_port() for _ in range(ATTEMPTS)):
            self._write_configuration(port)
            if self._launch(port):
                self.port = port
                return
        raise RuntimeError(f"sshd does not start; its log: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """End the listener and every session at once, as a switched-off machine would; harmless when not running."""
        process, self._process = self._process, None
        if process is None:
            return
        victims: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            listener = psutil.Process(process.pid)
            listener.suspend()  # no new session between the list and the kill
            victims = listener.children(recursive=True)
        process.kill()
        process.wait(DEADLINE)
        kill(victims)

    def restart(self) -> None:
        """Stop, then start again at the same port with the same keys."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove the directory if it is a temporary one."""
        self.stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def kill_sessions(self) -> int:
        """Kill (SIGKILL) the server's process of every connection; return how many there were.

        The listener lives on.  What the sessions ran (rsync, a shell) is not killed: it sees its input end,
        as it would after a real crash of the connection.
        """
        sessions = self._sessions()
        kill(sessions)
        return len(sessions)

    def pause(self) -> None:
        """Freeze the listener and every connection: to the clients it looks like a network that swallows packets."""
        os.kill(self.pid, signal.SIGSTOP)
        for session in self._sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                session.suspend()

    def resume(self) -> None:
        """Let everything that `pause` froze go on."""
        for session in self._sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                session.resume()
        os.kill(self.pid, signal.SIGCONT)

    def ssh(self, *command: str) -> list[str]:
        """Given a remote command, return the argv that runs it over a new connection."""
        return [find("ssh") or "ssh", "-F", str(self.ssh_config), self.host, *command]

    def _sessions(self) -> list[psutil.Process]:
        """Return the sshd processes of all connections (two for each where sshd separates privileges)."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.pid).children()
            return children + [
                grandchild for child in children for grandchild in _children(child) if _name(grandchild) == _name(child)
            ]
        return []

    def _launch(self, port: int) -> bool:
        """Given the port in its configuration, start sshd; return False if it ends instead of listening."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [find("sshd") or "sshd", "-D", "-e", "-f", str(self._sshd_config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the program that uses us
            )
        deadline = time.monotonic() + DEADLINE
        try:
            while time.monotonic() < deadline:
                if _greets(self.host, port) and process.poll() is None:
                    self._process = process
                    return True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.01)  # between two looks; returns early if it ended
                    return False
            return False
        finally:
            if self._process is not process:
                process.kill()
                process.wait(DEADLINE)

    def _write_configuration(self, port: int) -> None:
        """Given a port, write the files that the server and its clients read."""
        authorized = self.directory / "authorized_keys"
        shutil.copy(self.key.with_suffix(".pub"), authorized)
        host_key = self._host_key.with_suffix(".pub").read_text().strip()
        self._known_hosts.write_text(f"[{self.host}]:{port},[localhost]:{port} {host_key}\n")
        self._sshd_config.write_text("\n".join([*self._options, *self._server_lines(port, authorized), ""]))
        self.ssh_config.write_text(
            f"""Host *
    User {self.user}
    Port {port}
    IdentityFile "{self.key}"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile "{self._known_hosts}"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    AddressFamily inet
    BatchMode yes
    LogLevel ERROR
"""
        )

    def _server_lines(self, port: int, authorized: Path) -> list[str]:
        """Given the port and the file of allowed keys, return the lines of sshd_config."""
        return [
            f"ListenAddress {self.host}:{port}",
            f'HostKey "{self._host_key}"',
            f'AuthorizedKeysFile "{authorized}"',
            "PidFile none",
            "UsePAM no",
            "StrictModes no",  # scratch directories may be writable by others
            "PubkeyAuthentication yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "Subsystem sftp internal-sftp",
            # A home without dot files: bash reads ~/.bashrc even for `ssh host command`, which can cost 150 ms.
            f'SetEnv "HOME={self.home}" "PATH={_session_path()}"',
            "MaxSessions 64",
            "MaxStartups 100",
            "UseDNS no",
            # The hybrid exchange that is the default costs a client six times the processor time of all the rest.
            "KexAlgorithms curve25519-sha256",
            "LogLevel VERBOSE",
        ]


def find(program: str) -> str | None:
    """Given a program's name, return its path, or None; sbin directories count."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *EXTRA_PATH]))


def _session_path() -> str:
    """Return the PATH of sessions: the system's, with the directory of our rsync before it."""
    rsync = find("rsync")
    first = [str(Path(rsync).parent)] if rsync else []
    return os.pathsep.join(dict.fromkeys([*first, *EXTRA_PATH]))


def _generate_key(path: Path) -> None:
    """Given a path, write a new ed25519 key there and its public half beside it (`.pub`)."""
    subprocess.run(
        [find("ssh-keygen") or "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE,
    )


def free_port() -> int:
    """Return a TCP port of the loopback that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _greets(host: str, port: int) -> bool:
    """Given an address, return whether an ssh server answers there."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    """Given a process, return its children; none if it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children()
    return []


def _name(process: psutil.Process) -> str | None:
    """Given a process, return the name of its program, or None if it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return None


def kill(processes: list[psutil.Process]) -> None:
    """Given processes, end them with SIGKILL and wait until they are gone; raise RuntimeError if one stays."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE)
    if alive:
        raise RuntimeError(f"processes that SIGKILL does not end: {[process.pid for process in alive]}")
