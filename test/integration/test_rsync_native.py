"""Streams to rsync daemons, end to end: nothing is lost, whatever dies; and what a server refuses is done without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import laws
from agents import agent_of, log_of
from contract import End, confirmed, deliver, fault
from integration.test_contract_rsync_only import NativeEnd, access, native
from integration.test_handshake import Pair
from mistamover.errors import TargetError
from mistamover.model import FaultClass
from mistamover.testing.rsyncd import PrivateRsyncd
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, contents, wait_until


def site_of(scratch: Path, rsyncd: PrivateRsyncd, module: str = "all", **sections: Any) -> tuple[Site, Stream]:
    """Return a site whose stream goes to a daemon."""
    target = scratch / "remote/one"
    outgoing = {
        "transfer_protocol": "rsync_native",
        "target_host": rsyncd.address,
        "target_dir": rsyncd.place(target, module),
        **sections.pop("outgoing", {}),
    }
    native_section = {
        "username": rsyncd.user,
        "password_file": rsyncd.password_file,
        **sections.pop("rsync_native", {}),
    }
    return laws.make(scratch, None, outgoing=outgoing, rsync_native=native_section, **sections)  # type: ignore[arg-type]


def make_files(stream: Stream, number: int) -> dict[bytes, str | bytes]:
    return {
        name: laws.put(os.fsencode(stream.source) + b"/" + name, b"%d" % count * (count % 300 + 1))
        for count in range(number)
        for name in [b"d%d/file %d" % (count % 5, count)]
    }


def test_files_arrive_as_they_are(rsyncd: PrivateRsyncd, scratch: Path) -> None:
    site, one = site_of(scratch, rsyncd)
    (one.source / "link").symlink_to("/etc")
    promised = make_files(one, 50) | {b"new\nline\xff": laws.put(os.fsencode(one.source) + b"/new\nline\xff", b"x")}
    with laws.lawful(site, one):
        laws.arrived(one, promised, timeout=30)
        late = {b"late": laws.put(one.source / "late", b"late")}
        laws.arrived(one, late, timeout=30)
        wait_until(lambda: not os.path.lexists(one.source / "link"), 10, "the link goes")
    history = site.history()
    assert {record["algorithm"] for record in history if record["kind"] == "file"} == {"xxh128"}
    said = "".join(path.read_text() for path in site.logs.iterdir())
    assert rsyncd.password not in said


@pytest.mark.parametrize("mode", ["move", "mirror"])
def test_servers_and_agents_die_and_nothing_is_lost(private_rsyncd: PrivateRsyncd, scratch: Path, mode: str) -> None:
    site, one = site_of(scratch, private_rsyncd, rsync_native={"transfer_mode": mode, "bandwidth_limit": "300"})
    promised = make_files(one, 500)

    def some(number: int) -> None:
        wait_until(lambda: len(laws.public(one)) >= number, 60, f"{number} are there")

    with agent_of(site) as agent:
        some(20)
        private_rsyncd.stop()
        private_rsyncd.start()
        some(100)
        agent.kill()
    laws.somewhere(one, promised)
    site.write_global(rsync_native={"bandwidth_limit": None})
    with laws.lawful(site, one, timeout=60):
        if mode == "move":
            laws.arrived(one, promised, timeout=60)
        else:
            wait_until(lambda: laws.public(one) == promised, 60, "all are there")
            assert contents(one.source) == promised
    assert not list((site.state / "streams/one/run").glob("password-*"))


def test_a_password_that_is_wrong_is_said(rsyncd: PrivateRsyncd, scratch: Path) -> None:
    (scratch / "wrong").touch(mode=0o600)
    (scratch / "wrong").write_text("nothing\n")
    site, one = site_of(scratch, rsyncd, rsync_native={"password_file": scratch / "wrong"})
    laws.put(one.source / "file", b"x")
    with agent_of(site):
        wait_until(lambda: "check username and password" in log_of(site, "dtc_one"), 20, "it is said")
    assert (one.source / "file").exists()


# -- servers that refuse ----------------------------------------------------------------------


@pytest.fixture
def end(scratch: Path, rsyncd: PrivateRsyncd) -> Iterator[End]:
    place = rsyncd.place(scratch / "target").strip("/")
    made = NativeEnd(scratch, native, host=rsyncd.address, directory=place, access=access(rsyncd))
    yield made
    made.close()


def in_module(end: End, rsyncd: PrivateRsyncd, module: str) -> dict[str, object]:
    return {
        "directory": rsyncd.place(end.target, module).strip("/"),
        "access": access(rsyncd, username=None, password=""),
    }


def test_where_nothing_may_be_removed(end: End, rsyncd: PrivateRsyncd, caplog: pytest.LogCaptureFixture) -> None:
    transport = end.transport(**in_module(end, rsyncd, "keeps"))
    found = transport.open()
    assert not found.removal and dict(found.ways)["removal"] == ""
    assert "what a crash leaves there stays" in caplog.text
    confirmed(deliver(transport, [end.put(f"file {number}") for number in range(20)]))
    transport.probe()
    with pytest.raises(TargetError, match="nothing can be removed"):
        transport.remove([b"file 1"])
    assert end.leftovers() == []
    end.same(end.public(), end.expected())


def test_where_rsync_is_old_or_strict(end: End, rsyncd: PrivateRsyncd, caplog: pytest.LogCaptureFixture) -> None:
    transport = end.transport(**in_module(end, rsyncd, "plain"))
    found = transport.open()
    assert "md5" in found.description and dict(found.ways)["flush"] == ""
    assert "trusted" in caplog.text and "proven by md5" in caplog.text
    verdicts = confirmed(deliver(transport, [end.put(f"file {number}") for number in range(20)]))
    assert {verdict.algorithm for verdict in verdicts.values()} == {"md5"}
    confirmed(deliver(transport, [end.sparse("big", 20 << 20)]))
    end.same(end.public(), end.expected())


def test_where_one_may_only_write(end: End, rsyncd: PrivateRsyncd) -> None:
    transport = end.transport(**in_module(end, rsyncd, "writeonly"))
    transport.open()
    assert not transport.suspended()
    end.plant(b".stop", b"")
    assert transport.suspended()
    end.uproot(b".stop")
    confirmed(deliver(transport, [end.put("file")]))
    assert transport.remove([b"file"]) == [b"file"]


def test_where_one_may_only_read(end: End, rsyncd: PrivateRsyncd) -> None:
    transport = end.transport(**in_module(end, rsyncd, "readonly"))
    with pytest.raises(TargetError, match="read only = no"):
        transport.open()


def test_a_module_that_is_not_there(end: End, rsyncd: PrivateRsyncd) -> None:
    with pytest.raises(TargetError, match="first part of target_dir"):
        end.transport(directory="nowhere/target").open()


def test_a_directory_that_is_not_there_is_made(end: End, rsyncd: PrivateRsyncd) -> None:
    transport = end.transport(directory=rsyncd.place(end.target / "new/er", "all").strip("/"))
    transport.open()
    confirmed(deliver(transport, [end.put("file")]))
    assert (end.target / "new/er/file").exists()
    end.target = end.target / "new/er"


def test_a_link_that_the_server_bends_is_not_confirmed(scratch: Path, tmp_path: Path) -> None:
    with PrivateRsyncd(
        tmp_path / "rsyncd", tmp_path, modules={"bends": ("use chroot = no", "munge symlinks = no")}
    ) as server:
        end = NativeEnd(scratch, native, host=server.address, directory="", access=access(server))
        transport = end.transport(**in_module(end, server, "bends"))
        (end.source / "out").symlink_to("/etc")
        (end.source / "in").symlink_to("file")
        verdicts = deliver(transport, [end.unit(b"out"), end.unit(b"in"), end.put("file")])
        assert fault(verdicts[b"out"]) is FaultClass.REFUSED
        confirmed({name: verdict for name, verdict in verdicts.items() if name != b"out"})
        end.close()


@pytest.mark.parametrize("module", ["all", "unrooted"])
def test_messages_arrive_and_come_back(end: End, rsyncd: PrivateRsyncd, module: str) -> None:
    transport = end.transport(directory=rsyncd.place(end.target, module).strip("/"))
    messages = {b".plain": b"1", b".new\nline": b"2", b".\xff": b"3"}
    transport.put(messages)  # type: ignore[attr-defined]
    assert transport.fetch([*messages, b"none"], 100, 0.0) == messages  # type: ignore[attr-defined]
    for name in messages:
        end.uproot(name)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_receipts(rsyncd: PrivateRsyncd, sshd: PrivateSshd, scratch: Path, algorithm: str) -> None:
    pair = Pair(
        scratch,
        sshd,
        transfer_protocol="rsync_native",
        target_host=rsyncd.address,
        target_dir=rsyncd.place(scratch / "b/incoming/one"),
        checksum_algorithm=algorithm,
    )
    pair.here.write_global(rsync_native={"username": rsyncd.user, "password_file": rsyncd.password_file})
    files = {f"file {number}": b"%d" % number * 50 for number in range(40)}
    with pair.monitor(), agent_of(pair.here):
        pair.drop(files)
        pair.arrived(files, timeout=40)
    taken, given = pair.books()
    assert set(taken) == set(given) == {name.encode() for name in files}
