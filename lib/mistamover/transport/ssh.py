"""One owned OpenSSH connection to one target, and a control shell over it.

Everything that goes to a target shares this connection (ControlMaster), so keys,
agents, jump hosts and known hosts are OpenSSH's and are asked for once.  The
socket lies in a private directory and is named relative to it, which keeps it
below the length that the system allows for sockets.

The control shell runs two fixed words for us, `look` and `sync`.  It never
sees the name of a delivered file.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shlex
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from mistamover.config.settings import TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.files.durable import write_whole
from mistamover.transport import ciphers
from mistamover.transport import process as processes
from mistamover.transport.mux import LOST, Session

logger = logging.getLogger(__name__)

#: ssh gives a dead peer up after 3 unanswered questions of 15 s; so no wait for one is longer than that.
_KEEP_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")

#: Seconds for an answer of the control shell that needs no disk.
_ANSWER = 60.0

#: Removes rsync's temporary files.  $1 is the file that is as old as our first session that did not end in order;
#: $2 is what stands between a name and its decoration: nothing, or `*` for names that rsync has cut.  The names come
#: as data, as parameters of a fixed script.
_REMOVE_TEMPORARIES = """
since=$1 cut=$2; shift 2
for name do
  for file in "$name"$cut.[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]; do
    [ -f "$file" ] && [ ! -L "$file" ] && [ ! "$since" -nt "$file" ] && rm -f -- "$file"
  done
done
exit 0
"""

#: Seconds that a target may need to flush its disk.
_FLUSH = 900.0

#: Runs at the target.  $1 is the target directory, $2 our place in it, $3 this session, $4 the stop file.
_CONTROL = """
mkdir -p -- "$1" && cd -- "$1" || exit 3
mkdir -p -m 700 -- "$2" || exit 3
find "$2" -mindepth 1 -maxdepth 1 \\( -name 's-*' -o -mtime +7 \\) -exec rm -rf -- {} + || exit 3
[ -e "$2/since" ] || : > "$2/since" || exit 3
mkdir -m 700 -- "$2/$3" || exit 3
echo "mistamover ready $(pwd)"
while read -r word; do
  here=moved; [ . -ef "$1" ] && [ -d "$2/$3" ] && here=here
  case $word in
    look) if [ -e "$4" ] || [ -L "$4" ]; then echo "$here stop"; else echo "$here go"; fi;;
    sync) if sync -f . ; then echo "$here 0"; else echo "$here 1"; fi;;
    sweep) rm -rf -- "$2/$3"/old-*; echo "$here 0";;
    leave) rm -rf -- "$2/$3" "$2/since"; rmdir -- "$2" "${2%/*}" 2>/dev/null; echo "$here 0";;
    clean) rm -rf -- "$2"; rmdir -- "${2%/*}" 2>/dev/null; echo "$here 0";;
  esac
done
rm -rf -- "$2/$3"
"""

_HINTS = (
    ("Host key verification failed", "log in once by hand, or add the key with ssh-keyscan, to make the host known"),
    ("Permission denied", "check username and identity_file, and that the target's authorized_keys holds the key"),
    ("Could not resolve hostname", "check target_host"),
    ("Connection refused", "is sshd running there, and is the port right?"),
    ("timed out", "is the host up, and does a firewall let ssh through?"),
)


class SshConnection:
    """The connection of one stream to one target; `open` may be called again after a loss."""

    def __init__(self, target: TargetSettings, run_dir: Path, place: str) -> None:
        """Given the target, a private directory of ours, and our place below the target directory, do nothing yet."""
        self._target = target
        self._run_dir = run_dir
        self._place = place
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._master: subprocess.Popen[bytes] | None = None
        self._control: Session | None = None
        self._socket = ""
        self.session = ""
        """Name of this session's directory below our place at the target."""
        self.directory = ""
        """The target directory as the target itself calls it: absolute."""
        self.generation = 0
        """Counts successful logins: whoever remembers a number sees that the connection is another one."""

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        master, control = self._master, self._control
        return master is not None and control is not None and master.poll() is None and control.poll() is None

    def open(self) -> None:
        """Connect and start the control shell, unless both stand. Raise LinkError or TargetError."""
        with self._lock:
            if self.alive:
                return
            self.close(finished=False)
            try:
                self._connect()
                self._start_control()
            except BaseException:
                self.close(finished=False)
                raise
            self.generation += 1

    def _connect(self) -> None:
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_orphan(self._run_dir)
        self._socket = f"./c{next(self._numbers)}"
        (self._run_dir / self._socket).unlink(missing_ok=True)
        settings = self._target.ssh
        argv = [*settings.ssh, *_KEEP_ALIVE, "-o", "BatchMode=yes"]
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
            self._master = processes.spawn(argv, directory=self._run_dir, stdin=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise LinkError(f"{error}: install the package openssh-client") from None
        _remember(self._run_dir, self._master.pid)
        # Twice the connect timeout: it bounds the TCP connection only, the login comes after.
        said = processes.read_line(self._master, 2 * settings.connect_timeout + 5)
        while said is not None and said != b"connected":
            said = processes.read_line(self._master, settings.connect_timeout)
        if said is None:
            raise LinkError(self._explain(processes.last_words(self._master)))

    def _configuration(self) -> list[str]:
        """Return the options that name the configuration file to read and the ciphers to use."""
        settings = self._target.ssh
        preferring = ciphers.configuration(settings.ssh[0], settings.ssh_config) if settings.ciphers is None else None
        if preferring is not None and not any(word.startswith("-F") for word in settings.ssh):
            write_whole(self._run_dir / "ssh_config", preferring.encode(), durable=False)
            return ["-F", "./ssh_config"]
        named = ["-F", str(settings.ssh_config)] if settings.ssh_config is not None else []
        return named if settings.ciphers is None else [*named, "-o", f"Ciphers={settings.ciphers}"]

    def _start_control(self) -> None:
        self.session = f"s-{os.getpid()}-{os.urandom(6).hex()}"
        words = [self._target.directory, self._place, self.session, self._target.stop_file]
        script = "exec sh -c " + shlex.quote(_CONTROL) + " mistamover " + " ".join(map(shlex.quote, words))
        self._control = self.open_session(script)
        while (said := self._control.read_line(_ANSWER)) is not None:
            # Whatever a start-up file of the login shell prints comes before.
            if said.startswith(b"mistamover ready "):
                self.directory = os.fsdecode(said.removeprefix(b"mistamover ready "))
                return
        words_said = self._control.last_words()
        if not self._master or self._master.poll() is not None or self._control.wait(1.0) == LOST:
            raise LinkError(self._explain(words_said))
        raise TargetError(
            f"{self._target.host}: cannot prepare {self._target.directory}: {words_said or 'the login gives no shell'}"
        )

    def _explain(self, said: str) -> str:
        user = f"{self._target.ssh.username}@" if self._target.ssh.username else ""
        hint = next((f" ({hint})" for words, hint in _HINTS if words in said), "")
        return f"cannot connect to {user}{self._target.host}: {said or 'no answer'}{hint}"

    def remote_shell(self) -> str:
        """Return the value of rsync's -e: a client of this connection, which never makes one of its own."""
        return f"ssh -F none -S {self._socket} -o ProxyCommand=false"

    def open_session(self, command: str, *, subsystem: bool = False) -> Session:
        """Given a remote command line or the name of a subsystem, run it over this connection. Raise LinkError."""
        return Session(self._run_dir, self._socket, command, subsystem=subsystem)

    def look(self) -> bool:
        """Tell whether the stop file is there. Raise TargetError when the directory is not the one we opened."""
        return self._ask("look", _ANSWER) == "stop"

    def flush(self) -> None:
        """Wait until everything written below the target directory is on disk there."""
        if self._ask("sync", _FLUSH) != "0":
            raise TargetError(f"{self._target.host}: `sync -f` failed in {self._target.directory}")

    def sweep(self) -> None:
        """Remove what this session has put aside."""
        self._ask("sweep", _FLUSH)

    def link_tree(self, tree: bytes, copy: bytes) -> None:
        """Given a directory at the target and a new name, make the new name a tree of hard links to the first.

        The names travel as data, not as a command.  Raise TargetError if it cannot be done.
        """
        self._run("exec xargs -0 cp -alT --", [tree, copy], "build on the directory that is there")

    def remove_temporaries(self, whole: Sequence[bytes], cut: Sequence[bytes]) -> None:
        """Given how the names of rsync's temporary files begin, whole or cut, remove what is there of them.

        The names travel as data.  Raise LinkError or TargetError.
        """
        for names, between in ((whole, ""), (cut, "*")):
            if names:
                words = ["mistamover", f"{self._place}/since", between]
                script = f"sh -c {shlex.quote(_REMOVE_TEMPORARIES)} " + " ".join(map(shlex.quote, words))
                self._run(f"exec xargs -0 {script}", names, "remove temporary files")

    def _run(self, remote: str, names: Sequence[bytes], what: str) -> None:
        """Given a command line for the target directory and the names that it reads, run it to its end."""
        line = f"cd -- {shlex.quote(self.directory)} && {remote}"
        session = self.open_session(line)
        try:
            with contextlib.suppress(BrokenPipeError):
                session.write(b"".join(name + b"\0" for name in names))
            session.finish_input()
            words = session.last_words(_FLUSH)[-300:]
            status = session.wait(_ANSWER)
        except OSError as error:
            raise LinkError(f"the connection to {self._target.host} was lost: {error.strerror or error}") from None
        finally:
            session.close()
        if status is None:
            raise LinkError(f"no answer from {self._target.host} in {_FLUSH:g} s")
        if status == LOST:
            raise LinkError(f"the connection to {self._target.host} was lost: {words}")
        if status:
            raise TargetError(f"{self._target.host}: cannot {what}: {words}")

    def _ask(self, word: str, timeout: float) -> str:
        with self._lock:
            control = self._control
            if control is None:
                raise LinkError(f"not connected to {self._target.host}")
            try:
                control.write(word.encode() + b"\n")
                answer = control.read_line(timeout)
            except OSError:
                answer = None
            if answer is None:
                self.close(finished=False)
                raise LinkError(f"the connection to {self._target.host} was lost, or no answer came in {timeout:g} s")
            here, _, rest = answer.decode("ascii", "replace").partition(" ")
            if here != "here":
                self.close(finished=False)
                raise TargetError(
                    f"{self._target.host}: {self._target.directory} was removed or replaced by another directory"
                )
            return rest

    def abort(self) -> None:
        """Kill the connection, without waiting for whoever uses it."""
        # The ssh process holds the other ends of all that anybody waits for.
        master = self._master
        if master is not None:
            master.kill()

    def close(self, *, finished: bool) -> None:
        """End the connection and all that runs over it; with `finished`, leave nothing of ours at the target."""
        with self._lock:
            if self.alive and self._control:
                with contextlib.suppress(OSError):
                    self._control.write(b"clean\n" if finished else b"leave\n")
                    self._control.read_line(_ANSWER)
            if self._control is not None:
                self._control.close()
            if self._master is not None:
                processes.end(self._master)
            self._control = self._master = None
            if self._socket:
                (self._run_dir / self._socket).unlink(missing_ok=True)


def _remember(run_dir: Path, pid: int) -> None:
    started = psutil.Process(pid).create_time()
    write_whole(run_dir / "ssh.pid", f"{pid} {started}\n".encode(), durable=False)


def end_orphan(run_dir: Path) -> None:
    """Given a run directory, end the connection that a killed predecessor left behind, if it still stands."""
    try:
        pid, started = (run_dir / "ssh.pid").read_text().split()
        orphan = psutil.Process(int(pid))
        if abs(orphan.create_time() - float(started)) < 0.1:
            logger.info("ending ssh process %s that an earlier process left behind", pid)
            orphan.kill()
            orphan.wait(5)
    except (OSError, ValueError, psutil.Error):
        return
    finally:
        (run_dir / "ssh.pid").unlink(missing_ok=True)
