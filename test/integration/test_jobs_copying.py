"""Copies and moves of files between endpoints: this host and a real ssh server, in all directions."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from job_sites import REQUEST, JobSite, destination, leftovers, sha256, spec, ssh_endpoint
from mistamover.jobs.model import ItemState, Location, Op
from mistamover.jobs.submission import SourceSpec
from mistamover.jobs.transfer import rsync_way
from mistamover.jobs.transfer.places import Place
from mistamover.testing.sshd import PrivateSshd

BIG = os.urandom(1 << 20) * 9 + b"end"


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[JobSite]:
    made = JobSite(
        tmp_path,
        ssh_endpoint("hpc", sshd, tmp_path / "hpc"),
        ssh_endpoint("far", sshd, tmp_path / "far"),
        ssh_endpoint("slow", sshd, tmp_path / "slow", options={"via": "sftp"}),
    )
    yield made
    made.close()


def directory(site: JobSite, name: str) -> Path:
    return Path(site.endpoints.need(name).base)


WAYS = [
    ("here", "tape"),
    ("here", "hpc"),
    ("hpc", "here"),
    ("hpc", "far"),
    ("hpc", "hpc"),
    ("here", "here"),
    ("here", "slow"),
    ("slow", "here"),
    ("slow", "hpc"),
]


@pytest.mark.parametrize("content", [b"", b"small", BIG], ids=["empty", "small", "big"])
@pytest.mark.parametrize(("source", "target"), WAYS)
def test_a_file_is_copied_whole_with_its_time_and_hash(site: JobSite, source: str, target: str, content: bytes) -> None:
    old, new = directory(site, source) / "a file", directory(site, target) / "new" / "dir" / "b"
    old.write_bytes(content)
    old.chmod(0o640)
    os.utime(old, (1_600_000_000, 1_600_000_000))

    job = site.succeed(site.copy(f"{source}:a file", f"{target}:new/dir/b"))

    assert new.read_bytes() == content
    assert (new.stat().st_mtime, stat.S_IMODE(new.stat().st_mode)) == (1_600_000_000, 0o640)
    assert old.read_bytes() == content
    (item,) = site.items(job)
    assert (item.algorithm, item.digest, item.size) == ("sha256", sha256(content), len(content))
    assert item.landed == Location(endpoint=target, path="new/dir/b")
    assert job.result == {"files": 1, "bytes": len(content)}
    assert not leftovers(old.parent, new.parent)


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_a_move_takes_the_source_away(site: JobSite, source: str, target: str) -> None:
    old, new = directory(site, source) / "a", directory(site, target) / "sub" / "b"
    old.write_bytes(b"content")
    job, _ = site.desk.copy(REQUEST, [spec(f"{source}:a")], destination(f"{target}:sub/b"), op=Op.MOVE)
    site.succeed(job)
    assert new.read_bytes() == b"content"
    assert not old.exists()
    assert not leftovers(old.parent, new.parent)


@pytest.mark.parametrize("target", ["tape", "hpc"])
def test_what_is_there_is_replaced_only_if_that_is_asked_for(site: JobSite, target: str) -> None:
    there = directory(site, target) / "b"
    (site.here / "a").write_bytes(b"new one")
    there.write_bytes(b"old one")
    assert "is there already" in site.fail(site.copy("here:a", f"{target}:b"))
    assert there.read_bytes() == b"old one"
    site.succeed(site.copy("here:a", f"{target}:b", overwrite=True))
    assert there.read_bytes() == b"new one"
    inode = there.stat().st_ino
    site.succeed(site.copy("here:a", f"{target}:b"))
    assert there.stat().st_ino == inode, "the same content counts as delivered"
    assert not leftovers(there.parent)


@pytest.mark.parametrize("target", ["tape", "hpc"])
def test_a_directory_takes_a_file_in_under_its_own_name(site: JobSite, target: str) -> None:
    (site.here / "a").write_bytes(b"content")
    (directory(site, target) / "d").mkdir()
    site.succeed(site.copy("here:a", f"{target}:d"))
    site.succeed(site.copy("here:a", f"{target}:e/"))
    assert (directory(site, target) / "d" / "a").read_bytes() == b"content"
    assert (directory(site, target) / "e" / "a").read_bytes() == b"content"


def test_a_hash_that_is_expected_is_compared(site: JobSite) -> None:
    (site.here / "a").write_bytes(b"content")
    good = SourceSpec(
        location=Location(endpoint="here", path="a"), hash_type="MD5", hash_value="9A0364B9E99BB480DD25E1F0284C8555"
    )
    job = site.succeed(site.copy(good, "hpc:b"))
    assert site.items(job)[0].algorithm == "md5"
    bad = SourceSpec(location=Location(endpoint="here", path="a"), hash_type="md5", hash_value="0" * 32)
    assert "was expected" in site.fail(site.copy(bad, "hpc:c"))
    assert not (directory(site, "hpc") / "c").exists()
    assert not leftovers(directory(site, "hpc"))


def test_a_source_that_is_missing_fails_at_once(site: JobSite) -> None:
    for source in ("here", "hpc"):
        job = site.copy(f"{source}:none", "tape:b")
        assert "no such file" in site.fail(job)
        assert site.store.jobs.get(job.id).attempts == 1  # type: ignore[union-attr]


def test_several_sources_go_into_a_directory(site: JobSite) -> None:
    for name in ("a", "b"):
        (site.here / name).write_bytes(name.encode())
    job, _ = site.desk.copy(REQUEST, [spec("here:a"), spec("here:b")], destination("hpc:d"))
    site.succeed(job)
    assert {path.name for path in (directory(site, "hpc") / "d").iterdir()} == {"a", "b"}


def test_progress_is_told_while_bytes_move(site: JobSite) -> None:
    (site.here / "a").write_bytes(BIG)
    told: list[tuple[ItemState, int]] = []
    site.on_tell = lambda seq, state, done, size: told.append((state, done))
    site.succeed(site.copy("here:a", "hpc:a"))
    sent = [done for state, done in told if state is ItemState.TRANSFERRING]
    assert sent == sorted(sent)
    assert len(set(sent)) > 5
    assert sent[-1] == len(BIG)


def test_odd_names_arrive_as_they_are(site: JobSite) -> None:
    for name in ("with\nnewline", "-rf", "*", "ünïcode", "a'b\"c$(touch x)", "%2e%2e"):
        (site.here / name).write_bytes(name.encode())
        (site.here / "bad\udcff").write_bytes(b"bytes")
    for name in [path.name for path in site.here.iterdir()]:
        source = SourceSpec(location=Location(endpoint="here", path=name))
        site.succeed(site.copy(source, f"hpc:out/{name}"))
    made = {path.name: path.read_bytes() for path in (directory(site, "hpc") / "out").iterdir()}
    assert made == {path.name: path.read_bytes() for path in site.here.iterdir()}


@pytest.mark.parametrize(("source", "target"), [("here", "hpc"), ("hpc", "here"), ("hpc", "far"), ("here", "slow")])
def test_rsync_carries_large_files_where_both_ends_have_it(
    site: JobSite, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[str] = []
    copy = rsync_way.copy

    def counted(place: Place, *words: Any) -> None:
        carried.append(place.settings.name)
        copy(place, *words)

    monkeypatch.setattr(rsync_way, "copy", counted)
    name = "-e odd $(name)'\n"
    (directory(site, source) / name).write_bytes(BIG)
    site.succeed(site.copy(SourceSpec(location=Location(endpoint=source, path=name)), f"{target}:got"))
    assert (directory(site, target) / "got").read_bytes() == BIG
    assert carried == (["hpc"] if "here" in (source, target) and target != "slow" else [])


@pytest.mark.parametrize(("source", "target"), [("here", "hpc"), ("hpc", "here")])
def test_a_large_file_that_changes_under_rsync_does_not_appear(site: JobSite, source: str, target: str) -> None:
    old, new = directory(site, source) / "a", directory(site, target) / "a"
    old.write_bytes(BIG)
    os.utime(old, (1_600_000_000, 1_600_000_000))
    changes = 0

    def change(seq: int, state: ItemState, done: int, size: int | None) -> None:
        nonlocal changes
        if state is ItemState.TRANSFERRING and done and not changes:
            changes += 1
            with old.open("r+b") as file:
                file.seek(len(BIG) // 2)
                file.write(b"changed")

    site.on_tell = change
    job = site.copy(f"{source}:a", f"{target}:a")
    assert site.attempt(job).state is None
    assert not new.exists()
    site.succeed(job)
    assert new.read_bytes() == old.read_bytes() != BIG
    assert not leftovers(old.parent, new.parent)


@pytest.mark.parametrize("name", ["[x]y", "a*", "a?y", "back\\[x]y"])
def test_rsync_takes_no_name_at_the_far_end_for_a_pattern(site: JobSite, name: str) -> None:
    """rsync looks for files that a name may stand for, and sends these in its place."""
    base = directory(site, "hpc")
    (base / name).write_bytes(BIG)
    for decoy in ("xy", "ay", "axy"):
        (base / decoy).write_bytes(b"x" * len(BIG))
    where = Location(endpoint="hpc", path=name)
    site.succeed(site.copy(SourceSpec(location=where), "here:got"))
    assert (site.here / "got").read_bytes() == BIG


@pytest.mark.parametrize("change", ["grows", "shrinks"])
@pytest.mark.parametrize(("source", "target"), [("here", "hpc"), ("hpc", "here")])
def test_a_large_file_that_grows_or_shrinks_under_rsync_is_tried_again(
    site: JobSite, source: str, target: str, change: str
) -> None:
    old, new = directory(site, source) / "a", directory(site, target) / "a"
    old.write_bytes(BIG)
    changes = 0

    def tell(seq: int, state: ItemState, done: int, size: int | None) -> None:
        nonlocal changes
        if state is ItemState.TRANSFERRING and done and not changes:
            changes += 1
            os.truncate(old, 5 if change == "shrinks" else len(BIG) + 5)

    site.on_tell = tell
    job = site.copy(f"{source}:a", f"{target}:a")
    assert site.attempt(job).state is None
    assert site.items(job)[0].fault == "changed"
    assert not new.exists()
    site.succeed(job)
    assert new.read_bytes() == old.read_bytes()
