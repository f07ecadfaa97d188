"""Deliveries by GridFTP to a private server, with its own certificates.

The whole contract is not tried: each file takes a second.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import contract
import laws
from agents import agent_of, log_of
from contract import End, Traits, Watcher, confirmed, fault
from mistamover.config.access import GridFtpAccess
from mistamover.config.settings import TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.model import FaultClass, Unit, Verdict
from mistamover.testing.gridftp import PrivateGridFtp
from mistamover.transport.base import Transport
from mistamover.transport.by_file import ByFile
from mistamover.transport.gridftp import GridFtpFiles, Proxy
from support import Site, free_port, wait_until


def deliver(transport: Transport, units: Sequence[Unit], guard: Watcher | None = None) -> dict[bytes, Verdict]:
    """As the contract has it; again, as a stream does, when one of the programs of gfal has crashed."""
    if guard is None:
        for _ in range(2):
            try:
                return contract.deliver(transport, units)
            except LinkError as error:
                if "was ended by signal" not in str(error):
                    raise
    return contract.deliver(transport, units, guard)


class Grid(End):
    traits = Traits(links=False, directories=False, attributes=False, reserve=False)

    def __init__(self, place: Path, server: PrivateGridFtp) -> None:
        self._server = server
        super().__init__(place, self._to)
        self.target = server.place(uuid.uuid4().hex)
        self._changes = {"directory": os.fspath(self.target), "host": server.host}

    def access(self, **changes: object) -> GridFtpAccess:
        """Return how to get there."""
        given: dict[str, object] = {
            "cmd": ("globus-url-copy",),
            "port": self._server.port,
            "username": None,
            "proxy_server": None,
            "password": self._server.password,
            "password_file": None,
        }
        return GridFtpAccess(**{**given, **changes})  # type: ignore[arg-type]

    def _to(self, _: End, target: TargetSettings, keep: bool) -> Transport:
        access = target.access if isinstance(target.access, GridFtpAccess) else self.access()
        proxy = Proxy(access, self.run / uuid.uuid4().hex)
        return ByFile(
            lambda: GridFtpFiles(target, access, proxy),
            source=os.fsencode(self.source),
            target=target,
            run_dir=self.run,
            owner="me",
            keep_extra=keep,
        )


@pytest.fixture
def end(scratch: Path, gridftp: PrivateGridFtp, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grid]:
    for name, value in gridftp.environment.items():
        monkeypatch.setenv(name, value)
    made = Grid(scratch, gridftp)
    yield made
    made.close()
    assert not made.leftovers()


def test_files_arrive_as_they_are(end: Grid) -> None:
    transport = end.transport()
    assert not transport.open().trees
    end.put("empty", b"")
    end.put("deep/er/100% #?& \u00fc", b"content")
    end.sparse("large", 20 << 20)
    units = [end.unit(name) for name, entry in end.expected().items() if entry.kind == "file"]
    verdicts = confirmed(deliver(transport, units))
    assert {verdict.algorithm for verdict in verdicts.values()} == {"md5"}
    end.same(end.public(), end.expected())
    confirmed(deliver(transport, [end.put("empty", b"not any more")]))
    end.same(end.public(), end.expected())


def test_names_and_places_that_it_refuses(end: Grid) -> None:
    transport = end.transport()
    transport.open()
    os.mkdir(end.target / "not ours", 0o755)
    verdicts = deliver(transport, [end.put(name) for name in (b"\xff", b"new\nline", b"not ours/file", b"good")])
    assert {fault(verdicts[name]) for name in (b"\xff", b"new\nline", b"not ours/file")} == {FaultClass.REFUSED}
    assert set(end.files()) == {b"good"}
    (end.target / "not ours").rmdir()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_rename_that_crashes(end: Grid, scratch: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """As gfal's programs do now and then: mostly when they are through."""
    real, once = shutil.which("gfal-rename"), scratch / "once"
    done = f'{real} "$@"' if moment == "after" else ":"
    program = scratch / "bin/gfal-rename"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ -e {once} ] && exec {real} "$@"\n: >{once}\n{done}\nkill -ABRT $$\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    confirmed(contract.deliver(end.transport(), [end.put("file")]))
    assert once.exists()
    end.same(end.public(), end.expected())


def test_removal_and_the_stop_file(end: Grid) -> None:
    transport = end.transport()
    assert not transport.suspended()
    end.plant(b".stop", b"")
    assert transport.suspended()
    confirmed(deliver(transport, [end.put("file")]))
    assert transport.remove([b"file", b"never there", b".stop"]) == [b"file", b"never there", b".stop"]
    assert end.files() == {}
    transport.probe()


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"password": "wrong"}, LinkError, "grid-proxy-init"),
        ({"password": ""}, LinkError, "certificate"),
        ({"port": 1}, LinkError, "Unable to connect"),
        ({"cmd": ("no-such-program",)}, TargetError, "no-such-program"),
    ],
)
def test_what_is_wrong_is_said(end: Grid, changes: dict[str, object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        end.transport(access=end.access(**changes)).open()
    assert end.access().password not in str(caught.value) + repr(end.access())


def test_a_directory_that_is_not_there(end: Grid) -> None:
    with pytest.raises(TargetError, match="not a directory"):
        end.transport(directory=f"{end.target}/nothing").open()


def test_it_is_cut_from_another_thread(end: Grid) -> None:
    transport = end.transport()
    transport.open()
    unit = end.sparse("large", 200 << 20)
    cutter = threading.Thread(target=lambda: (wait_until(end.leftovers, 20, "it is under way"), transport.abort()))
    cutter.start()
    with contextlib.suppress(LinkError):
        assert fault(deliver(transport, [unit])[b"large"]) is FaultClass.LINK
    cutter.join(30)
    assert not end.files()
    guard = Watcher()
    threading.Thread(target=lambda: (wait_until(end.leftovers, 20, "it is under way"), guard.give_up())).start()
    assert fault(deliver(transport, [unit], guard)[b"large"]) is FaultClass.ABANDONED
    assert not end.files()


def test_a_move_through_an_outage(gridftp: PrivateGridFtp, scratch: Path) -> None:
    site = Site(scratch)
    place = gridftp.place(uuid.uuid4().hex)
    server = {"target_host": gridftp.host, "target_dir": place, "transfer_protocol": "gridftp_certificate"}
    login = {"port": gridftp.port, "password": gridftp.password}
    one = site.add("one", data_stream={"settle_time": 0.3}, outgoing=server, gridftp_certificate=login)
    promised = {name: laws.put(one.source / name, name.encode()) for name in ("a", "b c", "d")}
    gridftp.stop()
    try:
        with agent_of(site, env=gridftp.environment):
            wait_until(lambda: "Unable to connect" in log_of(site, "dtc_one"), 30, "the outage is told")
            gridftp.start()
            wait_until(lambda: not any(one.source.iterdir()), 60, "all are delivered")
    finally:
        gridftp.stop()
        gridftp.start()
    assert {path.name: laws.digest(path.read_bytes()) for path in place.iterdir()} == promised
    assert gridftp.password not in laws.logs(site)


def test_programs_that_are_missing_are_a_problem_at_the_start(scratch: Path) -> None:
    site = Site(scratch)
    (scratch / "bin").mkdir()
    for protocol, login in (
        ("gridftp_certificate", {"port": free_port(), "password": "geheim"}),
        ("gridftp_myproxy", {"username": "robot", "password": "geheim", "proxy": "proxy.example.org"}),
    ):
        outgoing = {"target_host": "grid.example.org", "target_dir": "/in", "transfer_protocol": protocol}
        site.add("one", outgoing=outgoing, **{protocol: {**login, "cmd": "no-such-url-copy"}})
        said = site.one_off()
        assert said.returncode == 2
        assert "no-such-url-copy is not installed" in said.stderr
        assert "sftp, rsync_ssh, or s3" in said.stderr
        assert "geheim" not in said.stderr + said.stdout
