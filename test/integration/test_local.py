"""Streams with transfer_protocol = local, end to end: into another directory of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

import agents
import laws
from integration.test_move import KEPT_NAMES
from support import Site, Stream, tree, wait_until


def make(scratch: Path, *, mode: str = "move", **sections: Mapping[str, object]) -> tuple[Site, Stream]:
    """Return a site with one stream that delivers into a directory."""
    site = Site(scratch, outgoing={"transfer_protocol": "local"}, local={"transfer_mode": mode})
    quick = {"empty_directory_age": 0.5, "settle_time": 0.3, "rescan_interval": 2}
    stream = {**quick, **sections.pop("data_stream", {})}
    return site, site.add("one", data_stream=stream, outgoing={"target_host": None, **sections.pop("outgoing", {})})


def plant(one: Stream, files: int = 500) -> dict[bytes, str]:
    """Put files of any name into the stream's directory; return their contents."""
    top = os.fsencode(one.source) + b"/"
    promised = {name: laws.put(top + name, name * 7) for name in KEPT_NAMES}
    for number in range(files - len(promised)):
        name = b"d%d/sub/file %d" % (number % 10, number)
        promised[name] = laws.put(top + name, os.urandom(number * 10))
    return promised


def test_500_files_are_moved(scratch: Path) -> None:
    site, one = make(scratch)
    promised = plant(one)
    before = {name: entry for name, entry in tree(one.source).items() if entry.kind == "file"}
    with laws.lawful(site, one, timeout=20):
        laws.arrived(one, promised, timeout=30)
        wait_until(lambda: not os.listdir(one.source), 10, "emptied directories go")
    assert {name: entry for name, entry in tree(one.target).items() if entry.kind == "file"} == before
    assert len(site.history()) >= 500
    assert "read back and compared" in laws.logs(site)


def test_500_files_are_mirrored(scratch: Path) -> None:
    site, one = make(scratch, mode="mirror", outgoing={"mirror_delete": True})
    plant(one)
    before = tree(one.source)
    with laws.lawful(site, one, timeout=20):
        wait_until(lambda: laws.tree(one.target).keys() >= before.keys(), 30, "all is there")
        wait_until(lambda: laws.snapshot(site, one).get("waiting") == 0, 20, "all have ended")
        (one.source / "plain").unlink()
        laws.put(one.source / "d1/sub/file 1", b"a new version")
        shutil.rmtree(one.source / "d2")
        wait_until(lambda: laws.contents(one.target) == laws.contents(one.source), 20, "both are equal")
    source = tree(one.source)
    assert tree(one.target).keys() == source.keys()
    kept = [name for name in before if name in source and name != b"d1/sub/file 1" and before[name].kind == "file"]
    assert {name: source[name] for name in kept} == {name: before[name] for name in kept}


def test_it_is_killed_while_it_moves(scratch: Path) -> None:
    site, one = make(scratch)
    promised = {}
    for number in range(500):
        name = b"d%d/file %d" % (number % 5, number)
        promised[name] = laws.put(os.fsencode(one.source) + b"/" + name, os.urandom(40_000))
    agent = agents.start(site)
    try:
        wait_until(lambda: len(laws.public(one)) > 20, 20, "some have arrived", every=0.001)
        agent.kill()
    finally:
        agents.end_all(site)
    laws.somewhere(one, promised)
    partial = {name: c for name, c in laws.public(one).items() if c != promised[name]}
    assert not partial
    with laws.lawful(site, one, timeout=20):
        laws.arrived(one, promised, timeout=30)


def test_directory_units_appear_whole(scratch: Path) -> None:
    site, one = make(scratch, data_stream={"transfer_unit": "directory", "settle_time": 0.5})
    aside = scratch / "building"
    promised = {b"unit/%d/f" % n: laws.put(aside / f"{n}/f", b"%d" % n) for n in range(30)}
    aside.rename(one.source / "unit")
    with laws.lawful(site, one):
        laws.arrived(one, promised)


@pytest.mark.parametrize("where", ["inside", "around", "relative"])
def test_a_target_that_cannot_be(scratch: Path, where: str) -> None:
    site, one = make(scratch)
    target = {"inside": one.source / "out", "around": one.source.parent, "relative": "out"}[where]
    site.add("one", data_stream={"name": "one"}, outgoing={"target_host": None, "target_dir": target})
    done = site.run("--one-off", str(site.global_ini))
    assert done.returncode == 2
    assert "target_dir" in done.stderr
    assert ("absolute" if where == "relative" else "lie in one another") in done.stderr
