"""The owned connection: one ssh process that has logged in, and the sessions over it.

Keys, agents, jump hosts and known hosts are OpenSSH's and are asked for once.  The
socket lies in a private directory and is named relative to it, which keeps it
below the length that the system allows for sockets.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import subprocess
from pathlib import Path

from mistamover.config.settings import TargetSettings
from mistamover.errors import LinkError
from mistamover.files.durable import write_whole
from mistamover.transport import ciphers
from mistamover.transport import process as processes
from mistamover.transport.mux import Session

logger = logging.getLogger(__name__)

#: ssh gives a dead peer up after 3 unanswered questions of 15 s; so no wait for one is longer than that.
_KEEP_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")

_HINTS = (
    ("Host key verification failed", "log in once by hand, or add the key with ssh-keyscan, to make the host known"),
    ("Permission denied", "check username and identity_file, and that the target's authorized_keys holds the key"),
    ("Could not resolve hostname", "check target_host"),
    ("Connection refused", "is sshd running there, and is the port right?"),
    ("timed out", "is the host up, and does a firewall let ssh through?"),
)


class Link:
    """One connection to one target; `open` may be called again after a loss."""

    def __init__(self, target: TargetSettings, run_dir: Path, *, name: str, background: bool = False) -> None:
        """Given the target, a private directory and a name that is unique in it, do nothing yet.

        With `background` the connection gives way: see `giving_way`.
        """
        self._target = target
        self._run_dir = run_dir
        self._name = name
        self._background = background
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = ""

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        return self._process is not None and self._process.poll() is None

    def open(self) -> None:
        """Log in, unless the connection stands. Raise LinkError."""
        if self.alive:
            return
        self.close()
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_orphan(self._run_dir, self._name)
        self._socket = f"./{self._name}{next(self._numbers)}"
        (self._run_dir / self._socket).unlink(missing_ok=True)
        settings = self._target.ssh
        argv = [*(giving_way() if self._background else ()), *settings.ssh, *_KEEP_ALIVE, "-o", "BatchMode=yes"]
        argv += ["-o", f"ConnectTimeout={max(1, round(settings.connect_timeout))}"]
        argv += ["-o", "ControlPersist=no", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected"]
        argv += ["-o", "ForwardX11=no", "-o", "ForwardAgent=no", "-o", "ClearAllForwardings=yes"]
        argv += self._configuration()
        if settings.identity_file is not None:
            argv += ["-i", str(settings.identity_file), "-o", "IdentitiesOnly=yes"]
        if settings.port is not None:
            argv += ["-p", str(settings.port)]
        if settings.username is not None:
            argv += ["-l", settings.username]
        argv += ["-M", "-N", "-S", self._socket, "--", self._target.host]
        try:
            self._process = processes.spawn(argv, directory=self._run_dir, stdin=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise LinkError(f"{error}: install the package openssh-client") from None
        _remember(self._run_dir, self._name, self._process.pid)
        # Twice the connect timeout: it bounds the TCP connection only, the login comes after.
        said = processes.read_line(self._process, 2 * settings.connect_timeout + 5)
        while said is not None and said != b"connected":
            said = processes.read_line(self._process, settings.connect_timeout)
        if said is None:
            words = self.explain(processes.last_words(self._process))
            self.close()
            raise LinkError(words)

    def rsync_shell(self) -> str:
        """Return the value of rsync's -e: a client of this connection, which never makes one of its own."""
        return f"ssh -F none -S {self._socket} -o ProxyCommand=false"

    def session(self, command: str, *, subsystem: bool = False) -> Session:
        """Given a remote command line or the name of a subsystem, run it over this connection. Raise LinkError."""
        return Session(self._run_dir, self._socket, command, subsystem=subsystem)

    def explain(self, said: str) -> str:
        """Given what ssh said, return it as the reason of a LinkError."""
        user = f"{self._target.ssh.username}@" if self._target.ssh.username else ""
        hint = next((f" ({hint})" for words, hint in _HINTS if words in said), "")
        return f"cannot connect to {user}{self._target.host}: {said or 'no answer'}{hint}"

    def abort(self) -> None:
        """Kill the connection, from any thread: ssh holds the other ends of all that anybody waits for."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the connection and all that runs over it."""
        if self._process is not None:
            processes.end(self._process)
            self._process = None
        if self._socket:
            (self._run_dir / self._socket).unlink(missing_ok=True)

    def _configuration(self) -> list[str]:
        """Return the options that name the configuration file to read and the ciphers to use."""
        settings = self._target.ssh
        preferring = ciphers.configuration(settings.ssh[0], settings.ssh_config) if settings.ciphers is None else None
        if preferring is not None and not any(word.startswith("-F") for word in settings.ssh):
            write_whole(self._run_dir / "ssh_config", preferring.encode(), durable=False)
            return ["-F", "./ssh_config"]
        named = ["-F", str(settings.ssh_config)] if settings.ssh_config is not None else []
        return named if settings.ciphers is None else [*named, "-o", f"Ciphers={settings.ciphers}"]


def giving_way() -> tuple[str, ...]:
    """Return the words before a command that is to leave the processors to all others, as soon as they want them.

    Measured with two busy processors: a small file beside a huge one takes 40 ms where that is run by `nice -n 10`,
    10 ms where it is run as SCHED_IDLE.  But on a host that is busy all the time such a process gets next to
    nothing; there it must be `nice`.
    """
    busy = os.getloadavg()[0] >= (os.cpu_count() or 1)
    chrt = None if busy else shutil.which("chrt")
    return (chrt, "-i", "0") if chrt else ("nice", "-n", "10")


def end_orphan(run_dir: Path, name: str) -> None:
    """Given a run directory and a connection's name, end the one that a killed predecessor left behind, if any."""
    noted = run_dir / f"{name}.pid"
    try:
        pid, started = noted.read_text().split()
        if _started(int(pid)) == started:
            logger.info("ending ssh process %s that an earlier process left behind", pid)
            os.kill(int(pid), signal.SIGKILL)
    except (OSError, ValueError):
        return
    finally:
        noted.unlink(missing_ok=True)


def _remember(run_dir: Path, name: str, pid: int) -> None:
    write_whole(run_dir / f"{name}.pid", f"{pid} {_started(pid)}\n".encode(), durable=False)


def _started(pid: int) -> str:
    """Given a process, return when it was started, in the kernel's own clock: its number may be another's by now.

    Raise OSError or ValueError when there is no such process.
    """
    # Behind the program's name, which may hold anything; see proc(5), /proc/PID/stat, field 22.
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
