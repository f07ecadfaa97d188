"""The target at the other end of the owned connection: made ready, and asked small things by a control shell.

The control shell runs a few fixed words for us, such as `look` and `sync`.  It never
sees the name of a delivered file.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

from mistamover.config.settings import TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.links.chosen import ChosenLink
from mistamover.links.login import Login
from mistamover.links.mux import LOST, Session

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

#: The status with which it says that the target cannot be made ready.
_UNPREPARED = 3


class NoShell(TargetError):
    """The login runs no command of ours: it may be good for something else."""


class NoRsync(TargetError):
    """There is a shell and no rsync: files can go by SFTP."""


#: Runs at the target.  $1 is the target directory, $2 our place in it, $3 this session, $4 the stop file.
_CONTROL = """
mkdir -p -- "$1" && cd -- "$1" || exit 3
mkdir -p -m 700 -- "$2" || exit 3
find "$2" -mindepth 1 -maxdepth 1 \\( -name 's-*' -o -mtime +7 \\) -exec rm -rf -- {} + || exit 3
[ -e "$2/since" ] || : > "$2/since" || exit 3
mkdir -m 700 -- "$2/$3" || exit 3
command -v rsync >/dev/null 2>&1 || echo 'mistamover has no rsync'
echo "mistamover ready $(pwd)"
while read -r word; do
  here=moved; [ . -ef "$1" ] && [ -d "$2/$3" ] && here=here
  case $word in
    look) if [ -e "$4" ] || [ -L "$4" ]; then echo "$here stop"; else echo "$here go"; fi;;
    room) echo "$here $(stat -f -c '%a %S' .)";;
    sync) if sync -f . ; then echo "$here 0"; else echo "$here 1"; fi;;
    sweep) rm -rf -- "$2/$3"/old-*; echo "$here 0";;
    leave) rm -rf -- "$2/$3" "$2/since"; rmdir -- "$2" "${2%/*}" 2>/dev/null; echo "$here 0";;
    clean) rm -rf -- "$2"; rmdir -- "${2%/*}" 2>/dev/null; echo "$here 0";;
  esac
done
rm -rf -- "$2/$3"
"""


class SshConnection:
    """The connection of one stream to one target; `open` may be called again after a loss."""

    def __init__(self, target: TargetSettings, run_dir: Path, links_dir: Path, place: str) -> None:
        """Given the target, a private directory of ours, the one of shared connections, and our place below the target
        directory, do nothing yet.
        """
        self._target = target
        self.place = place
        """Our own directory below the target directory."""
        self._lock = threading.RLock()
        self._login = Login.of(target)
        self._link = ChosenLink(self._login, run_dir, links_dir, name="c")
        self._control: Session | None = None
        self.session = ""
        """Name of this session's directory below our place at the target."""
        self.directory = ""
        """The target directory as the target itself calls it: absolute."""
        self.has_rsync = True
        """Whether the target's shell finds rsync, as of the last login."""
        self.generation = 0
        """Counts logins: whoever remembers a number sees that the connection is another one."""

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        control = self._control
        return self._link.alive and control is not None and control.poll() is None

    def open(self) -> None:
        """Connect and start the control shell, unless both stand. Raise LinkError or TargetError."""
        if not self.alive:
            # Who finds it alive does not wait here, behind somebody for whom a disk is being flushed.
            self._open_anew()

    def _open_anew(self) -> None:
        with self._lock:
            if self.alive:
                return
            self._drop()
            # Before anything of the last login is removed at the target.
            self.generation += 1
            try:
                self._link.open()
                self._start_control()
            except BaseException:
                self._drop()
                raise

    def _start_control(self) -> None:
        self.session = f"s-{os.getpid()}-{os.urandom(6).hex()}"
        words = [self._target.directory, self.place, self.session, self._target.stop_file]
        script = "exec sh -c " + shlex.quote(_CONTROL) + " mistamover " + " ".join(map(shlex.quote, words))
        control = self.open_session(script)
        self.has_rsync = True
        while (said := control.read_line(_ANSWER)) is not None:
            # Whatever a start-up file of the login shell prints comes before.
            if said == b"mistamover has no rsync":
                self.has_rsync = False
            if said.startswith(b"mistamover ready "):
                self.directory = os.fsdecode(said.removeprefix(b"mistamover ready "))
                self._control = control
                return
        words_said = control.last_words()
        status = control.wait(1.0)
        control.close()
        if not self._link.alive or status == LOST:
            raise LinkError(self._login.explain(words_said))
        # The shell itself, if it is one, ends with 3.
        kind = TargetError if status in (_UNPREPARED, None) else NoShell
        raise kind(
            f"{self._target.host}: cannot prepare {self._target.directory}: {words_said or 'the login gives no shell'}"
        )

    def rsync_shell(self) -> contextlib.AbstractContextManager[str]:
        """Yield the value of rsync's -e, good for one rsync within the context. Raise LinkError."""
        return self._link.rsync_shell()

    def open_session(self, command: str, *, subsystem: bool = False) -> Session:
        """Given a remote command line or the name of a subsystem, run it over this connection. Raise LinkError."""
        return self._link.session(command, subsystem=subsystem)

    def look(self) -> bool:
        """Tell whether the stop file is there. Raise TargetError when the directory is not the one we opened."""
        return self._ask("look", _ANSWER) == "stop"

    def need_room(self) -> None:
        """Make sure that more is free at the target than is to stay free. Raise TargetError if it is not."""
        if not self._target.reserve:
            return
        try:
            blocks, size = map(int, self._ask("room", _ANSWER).split())
        except ValueError:
            raise TargetError(f"{self._target.host}: cannot tell what is free in {self._target.directory}") from None
        if blocks * size <= self._target.reserve:
            free, kept = blocks * size >> 20, self._target.reserve >> 20
            raise TargetError(
                f"{self._target.host}: {free} MiB are free in {self._target.directory}, and {kept} are to stay free"
                " (target_reserve)"
            )

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

    @property
    def session_place(self) -> str:
        """This session's directory at the target, relative to the target directory."""
        return f"{self.place}/{self.session}"

    def withdraw(self, permits: Sequence[bytes]) -> None:
        """Given permits of receivers that were given up, remove them. Raise LinkError or TargetError."""
        self._run("exec xargs -0 rm -f --", permits, "end a receiver")

    def remove_temporaries(self, whole: Sequence[bytes], cut: Sequence[bytes]) -> None:
        """Given how the names of rsync's temporary files begin, whole or cut, remove what is there of them.

        The names travel as data.  Raise LinkError or TargetError.
        """
        for names, between in ((whole, ""), (cut, "*")):
            if names:
                words = ["mistamover", f"{self.place}/since", between]
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
        self._link.abort()

    def close(self, *, finished: bool) -> None:
        """End the connection and all that runs over it; with `finished`, leave nothing of ours at the target."""
        with self._lock:
            stood = self._control is not None
            if not self._part(finished=finished) and finished and stood:
                # It was lost while nothing was asked of it.
                with contextlib.suppress(LinkError, TargetError):
                    self.open()
                    self._part(finished=True)
            self._drop()

    def _part(self, *, finished: bool) -> bool:
        """Have what is ours removed at the target; return whether it answered."""
        control = self._control
        if control is None or not self.alive:
            return False
        try:
            control.write(b"clean\n" if finished else b"leave\n")
            return control.read_line(_ANSWER) is not None
        except OSError:
            return False

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
        self._control = None
        self._link.close()
