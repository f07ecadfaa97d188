"""The transport `rsync_ssh`: batches by rsync over the owned ssh connection.

rsync's exit status alone decides nothing.  A batch is confirmed by status 0 *and*
a line with a hash for every file; after any other end that left files behind, a second
look (a dry run that compares checksums) says which files did arrive.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mistamover.config.settings import StreamSettings, TargetSettings, TransferMode
from mistamover.errors import LinkError, TargetError
from mistamover.files.names import MARK, display
from mistamover.links.link import OwnLink
from mistamover.links.login import Login
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.base import Capabilities, Guard, Zip
from mistamover.transport.express import Express
from mistamover.transport.leftovers import Leftovers, temporary_prefixes
from mistamover.transport.messenger import ExpressMessenger
from mistamover.transport.rsync_output import Line, content_matches, parse_errors
from mistamover.transport.rsync_run import RsyncRun
from mistamover.transport.rsync_verdicts import PARTIAL, judge, verdicts_of, worst
from mistamover.transport.rsync_zips import ZipDelivery
from mistamover.transport.rsyncs import Rsyncs
from mistamover.transport.sftp import Sftp
from mistamover.transport.small_files import SmallFiles
from mistamover.transport.ssh import NoRsync, SshConnection

#: Seconds for an answer of the target that needs no disk.
_ANSWER = 60.0

#: So many small files are flushed one by one; beyond, one `sync -f` for all of them is quicker.
_FEW = 8

#: As above while a large file is under way, of which `sync -f` would flush all that has come.
_FEW_BESIDE_LARGE = 200

#: Units in a batch from which on starting an rsync ahead costs nothing that anybody waits for.
_MANY = 200

#: From this size on a file is worth resuming after a broken attempt.
_RESUME_FROM = 16 * 1024 * 1024

#: From this size on a file is worth a connection of its own, so that no small one waits behind its bytes.
_APART_FROM = 64 * 1024 * 1024

#: Runs at the target beside a large file.  First it makes its connection give way (see `process.give_way`), and with it
#: all that is started over it later.  $1 is where the file is being written: what has come is sent to the disk again
#: and again (an advice that it is not needed in memory starts that, and waits for nothing), so that little is left for
#: the end.  It ends with its connection: nobody takes what it says any more.
_WRITE_BEHIND = """
read -r load rest < /proc/loadavg
if [ "${load%%.*}" -lt "$(nproc)" ] && chrt -i -p 0 "$PPID"; then :; else renice -n 10 -p "$PPID"; fi >/dev/null 2>&1
cd -- "$1" || exit
while echo; do
  for file in .[!.]*; do [ -f "$file" ] && dd if="./$file" iflag=nocache count=0 2>/dev/null; done
  sleep 0.01
done
"""


class RsyncSsh:
    """One target of one stream by rsync over ssh."""

    def __init__(
        self,
        *,
        source: bytes,
        target: TargetSettings,
        state_dir: Path,
        links_dir: Path,
        owner: str,
        keep_extra: bool,
    ) -> None:
        """Given the stream's directory, the target, a private directory, that of shared connections, and a name that is
        ours alone, do nothing.

        `keep_extra`: a directory unit that is at the target already keeps what the new one does not hold.
        """
        self._keep_extra = keep_extra
        self._source = source
        self._target = target
        self._place = f".mistamover/{owner}"
        self._ssh = SshConnection(target, state_dir, links_dir, self._place)
        self._apart = OwnLink(Login.of(target), state_dir, name="a", background=True)
        self._sftp = Sftp(self._ssh)
        self._express = Express(source=source, target=target, ssh=self._ssh)
        self._large_under_way = False
        self._rsyncs = Rsyncs(source=source, target=target, ssh=self._ssh, apart=self._apart, run_dir=state_dir)
        self._messenger = ExpressMessenger(self._express, SmallFiles(self._rsyncs, state_dir))
        self._zips = ZipDelivery(ssh=self._ssh, sftp=self._sftp, rsyncs=self._rsyncs)
        self._leftovers = Leftovers(state_dir)
        self._cleaning = threading.Lock()

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        self._ready()
        small = ", small files by a receiver of ours" if self._express.open() else ""
        return Capabilities(
            description=f"rsync over one ssh connection to {self._target.host}{small}, flushed by sync -f",
            trees=True,
            removal=True,
            ways=(
                ("rename", "by rsync, from dot-names" + (", and by a receiver of ours" if small else "")),
                ("flush", "by sync -f at the target"),
                ("hash", f"{self._rsyncs.proof}, computed by rsync at both ends"),
                ("resume", f"from {_RESUME_FROM >> 20} MiB on"),
                ("directories", "by one rename"),
                ("removal", "by SFTP"),
            ),
        )

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        self._ready()
        answer = self._express.look()
        return self._ssh.look() if answer is None else answer

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`."""
        return self._deliver(batch, guard, flush=True)

    def deliver_unflushed(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `MessagingTransport.deliver_unflushed`."""
        return self._deliver(batch, guard, flush=False)

    def _deliver(self, batch: Batch, guard: Guard, *, flush: bool) -> list[Verdict]:
        self._ready()
        self._ssh.need_room()
        trees = [unit for unit in batch.units if unit.kind is Kind.TREE]
        others = [unit for unit in batch.units if unit.kind is not Kind.TREE]
        verdicts, flushed = self._deliver_small(others, guard, flush=flush)
        rest = [unit for unit in others if unit.name not in verdicts]
        unflushed: list[Verdict] = []
        try:
            if rest:
                # Before rsync writes the same names: its temporary files are not to be taken for leftovers.
                self._clean()
                unflushed += self._deliver_units(rest, guard)
            for tree in trees:
                with self._one_login():
                    unflushed.append(self._deliver_tree(tree, guard))
        except (LinkError, TargetError) as error:
            if not verdicts and not unflushed:
                raise
            # What is confirmed stays confirmed, whatever became of the rest.
            fault = FaultClass.LINK if isinstance(error, LinkError) else FaultClass.TARGET
            judged = {verdict.unit.name for verdict in unflushed}
            left = [unit for unit in (*rest, *trees) if unit.name not in judged]
            unflushed += [Failed(unit=unit, fault=fault, reason=str(error)) for unit in left]
        if not flush:
            return [*verdicts.values(), *unflushed]
        if flushed:
            return [*verdicts.values(), *self._flushed(unflushed)]
        return self._flushed([*verdicts.values(), *unflushed])

    def _ready(self) -> None:
        """Connect, and clean up after batches that ended badly. Raise NoRsync where the target has none."""
        self._ssh.open()
        # One that is not in its shell's PATH may be named in `cmd`.
        if not self._ssh.has_rsync and not any(word.startswith("--rsync-path") for word in self._target.ssh.rsync):
            raise NoRsync(f"{self._target.host}: there is no rsync: install it, or name it by --rsync-path in cmd")
        self._clean()

    def _clean(self) -> None:
        with self._cleaning:
            # In this order: see `Receiver.file`.
            self._express.withdraw()
            for batch, names in self._leftovers.found():
                self._ssh.remove_temporaries(*temporary_prefixes(names))
                self._leftovers.end(batch)

    def _deliver_small(self, units: Sequence[Unit], guard: Guard, *, flush: bool) -> tuple[dict[bytes, Verdict], bool]:
        """Send what may go the express way; return the verdicts, by name, and whether what they confirm is flushed, as
        few files are at once where that is asked for.
        """
        small = [unit for unit in units if self._express.takes(unit)]
        if not small or not self._express.open():
            return {}, True
        flush = flush and len(small) <= (_FEW_BESIDE_LARGE if self._large_under_way else _FEW)
        batch = self._leftovers.begin([unit.name for unit in small])
        clean = False
        try:
            verdicts, clean = self._express.deliver(small, guard, flush=flush)
        finally:
            if clean:
                self._leftovers.end(batch)
            else:
                self._leftovers.fail(batch)
        return verdicts, flush

    def _deliver_units(self, units: Sequence[Unit], guard: Guard) -> list[Verdict]:
        login = self._ssh.generation
        if len(units) == 1 and units[0].identity.size >= _RESUME_FROM:
            run = self._deliver_large(units[0], guard)
        else:
            names = [unit.name for unit in units]
            batch = self._leftovers.begin(names)
            ended_well = False
            try:
                run = self._rsyncs.take()
                if len(units) > _MANY:
                    # More will follow: the next rsync starts while this one works.
                    self._rsyncs.prepare()
                run.send(names, guard)
                if run.refused and self._stands(login):
                    run = self._rsyncs.start()
                    run.send(names, guard)
                ended_well = run.status == 0
            finally:
                if ended_well:
                    self._leftovers.end(batch)
                else:
                    self._leftovers.fail(batch)
            self._rsyncs.prepare()
        return self._judge(units, run, login)

    def _deliver_large(self, unit: Unit, guard: Guard) -> RsyncRun:
        """Send a file that takes a while; from a certain size on over a connection of its own, which gives way.

        On one connection everything else would stand in line behind it.
        """
        if unit.identity.size < _APART_FROM:
            run = self._rsyncs.start(resume=unit)
            run.send([unit.name], guard)
            return run
        self._apart.open()
        where = f"{self._ssh.directory}/{self._ssh.session_place}"
        words = " ".join((shlex.quote(_WRITE_BEHIND), "mistamover", shlex.quote(where)))
        behind = self._apart.session(f"exec sh -c {words}")
        self._large_under_way = True
        try:
            behind.read_line(_ANSWER)
            run = self._rsyncs.start(resume=unit, apart=True)
            run.send([unit.name], guard)
        finally:
            self._large_under_way = False
            behind.close()
        return run

    def _flushed(self, verdicts: list[Verdict]) -> list[Verdict]:
        if not any(isinstance(verdict, Confirmed) for verdict in verdicts):
            return verdicts
        try:
            self._ssh.flush()
        except TargetError as error:
            return _unproven(verdicts, FaultClass.TARGET, str(error))
        except LinkError as error:
            return _unproven(verdicts, FaultClass.LINK, str(error))
        return verdicts

    def _judge(self, units: Sequence[Unit], run: RsyncRun, login: int) -> list[Verdict]:
        lost = not self._stands(login)
        algorithm = self._rsyncs.algorithm
        return judge(self._source, units, run, lost=lost, second_look=self._second_look, algorithm=algorithm)

    def _stands(self, login: int) -> bool:
        return self._ssh.alive and self._ssh.generation == login

    @contextlib.contextmanager
    def _one_login(self) -> Iterator[None]:
        """A target that refuses because another lane had to log in anew meanwhile is not at fault."""
        login = self._ssh.generation
        try:
            yield
        except TargetError as error:
            if self._stands(login):
                raise
            raise LinkError(f"the connection to {self._target.host} was lost ({error})") from error

    def _second_look(self, units: Sequence[Unit]) -> dict[bytes, Line] | None:
        """Compare the content of units at both ends; return the lines that match, None if that is impossible."""
        if not self._ssh.alive:
            return None
        run = self._rsyncs.compare()
        run.send([unit.name for unit in units], None)
        if run.status != 0 and run.status not in PARTIAL:
            return None
        return {name: line for name, line in run.lines.items() if content_matches(line)}

    # -- directory units ----------------------------------------------------------------------

    def _deliver_tree(self, unit: Unit, guard: Guard) -> Verdict:
        """Build the directory under a dot-name, then let it appear under its own by one rename."""
        staging = f"{self._place}/u-{unit.key()}"
        # rsync refuses a temporary directory outside its destination, so this one is inside, and never sent.
        temporary = f"{MARK.decode()}-t"
        self._sftp.make_directory(staging)
        self._sftp.make_directory(f"{staging}/{temporary}")
        parts = [
            Unit(
                name=unit.name + b"/" + entry.name,
                kind=entry.kind,
                identity=entry.identity,
                first_seen=unit.first_seen,
            )
            for entry in unit.manifest
            if entry.kind is not Kind.SPECIAL
        ]
        top = Unit(name=unit.name, kind=Kind.DIRECTORY, identity=unit.identity)
        staged = os.fsencode(f"{staging}/") + unit.name
        if self._keep_extra and not self._sftp.exists(staged) and self._sftp.exists(unit.name):
            # What is there already stays: the new content is laid over links to the old, and both appear at once.
            # Under another name first: a merge that was broken off must not look like a whole one.
            merging = os.fsencode(f"{self._ssh.session_place}/merge-{os.urandom(6).hex()}")
            self._ssh.link_tree(unit.name, merging)
            self._sftp.rename(merging, staged)
        run = self._rsyncs.start_tree(staging, temporary)
        run.send([part.name for part in [top, *parts]], guard)
        verdicts = self._judge_tree([top, *parts], run)
        if (bad := worst([verdict for verdict in verdicts if isinstance(verdict, Failed)])) is not None:
            return Failed(unit=unit, fault=bad.fault, reason=f"{display(bad.unit.name)}: {bad.reason}")
        self._ssh.flush()
        self._sftp.replace(staged, unit.name, self._ssh.session_place, staging)
        parts_confirmed = [v for v in verdicts if isinstance(v, Confirmed) and v.unit is not top]
        return Confirmed(unit=unit, digest="", parts=parts_confirmed)

    def _judge_tree(self, units: Sequence[Unit], run: RsyncRun) -> list[Verdict]:
        complaints, algorithm = parse_errors(run.stderr), self._rsyncs.algorithm
        proven = run.status == 0
        return verdicts_of(self._source, units, run.lines, complaints, run, proven=proven, algorithm=algorithm)

    # -- the rest of the contract -------------------------------------------------------------

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """See `Transport.deliver_zip`."""
        self._ready()
        with self._one_login():
            return self._zips.deliver(made, guard)

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """See `Transport.remove`."""
        self._ssh.open()
        with self._one_login():
            return self._sftp.remove(names)

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """See `Messenger.put`."""
        self._ssh.open()
        self._messenger.put(files)

    def fetch(self, names: Sequence[bytes], longest: int, patience: float) -> dict[bytes, bytes]:
        """See `Messenger.fetch`."""
        self._ssh.open()
        return self._messenger.fetch(names, longest, patience)

    def probe(self) -> None:
        """See `Transport.probe`."""
        self._ssh.open()
        with self._one_login():
            self._ssh.look()
            self._ssh.need_room()
            self._sftp.probe(f"{self._ssh.session_place}/probe", f"{self._ssh.session_place}/probed")
            self._ssh.flush()

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._ssh.abort()
        self._apart.abort()
        self._rsyncs.abort()

    def close(self, *, finished: bool) -> None:
        """See `Transport.close`."""
        self._rsyncs.close()
        self._sftp.close()
        self._express.close()
        self._apart.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._ssh.close(finished=finished)


def _unproven(verdicts: list[Verdict], fault: FaultClass, reason: str) -> list[Verdict]:
    return [
        Failed(unit=verdict.unit, fault=fault, reason=reason) if isinstance(verdict, Confirmed) else verdict
        for verdict in verdicts
    ]


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> RsyncSsh:
    """See `registry.Maker`."""
    return RsyncSsh(
        source=os.fsencode(stream.directory),
        target=target,
        state_dir=stream.state_dir / "run",
        links_dir=stream.links_dir,
        owner=owner,
        keep_extra=stream.mode is TransferMode.MOVE or not stream.mirror_delete,
    )
