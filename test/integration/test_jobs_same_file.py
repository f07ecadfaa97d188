"""A source and a target that are one file by two names: a move must not remove the only copy there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, endpoint, leftovers, spec, ssh_endpoint
from mistamover.jobs.model import Job, Location, Op
from mistamover.testing.sshd import PrivateSshd

CONTENT = os.urandom(1 << 16)


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[JobSite]:
    """`here`, and the same directory once more by ssh, and a part of it as an endpoint of its own."""
    (tmp_path / "here" / "inner").mkdir(parents=True)
    made = JobSite(
        tmp_path,
        ssh_endpoint("far", sshd, tmp_path / "here"),
        endpoint("part", f"file://{tmp_path}/here/inner"),
    )
    (made.here / "inner" / "f").write_bytes(CONTENT)
    (made.here / "way").symlink_to("inner")
    yield made
    made.close()


def move(site: JobSite, source: str, to: str, *, overwrite: bool = False) -> Job:
    return site.desk.copy(REQUEST, [spec(source)], destination(to), op=Op.MOVE, overwrite=overwrite)[0]


@pytest.mark.parametrize("overwrite", [False, True], ids=["kept", "overwritten"])
@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("here:way/f", "here:inner/f"),
        ("here:inner/f", "here:way/f"),
        ("here:inner/f", "here:way/"),
        ("far:way/f", "far:inner/f"),
        ("here:inner/f", "part:f"),
        ("part:f", "here:inner/f"),
        ("here:inner/f", "far:inner/f"),
        ("far:inner/f", "part:f"),
        ("far:way/f", "part:f"),
        ("here:inner/*", "far:way/"),
    ],
)
def test_a_file_is_not_moved_onto_itself(site: JobSite, source: str, to: str, overwrite: bool) -> None:
    site.done(move(site, source, to, overwrite=overwrite))
    assert (site.here / "inner" / "f").read_bytes() == CONTENT
    assert not leftovers(site.here)


@pytest.mark.parametrize(("source", "to"), [("here:inner/f", "here:inner/g"), ("here:inner/f", "far:other/f")])
def test_a_file_is_moved_beside_itself(site: JobSite, source: str, to: str) -> None:
    site.succeed(move(site, source, to))
    assert not (site.here / "inner" / "f").exists()
    assert (site.here / to.partition(":")[2]).read_bytes() == CONTENT


def test_of_a_link_that_is_moved_the_file_shares_nothing_with_the_copy(site: JobSite) -> None:
    (site.here / "link").symlink_to("inner/f")
    site.succeed(move(site, "here:link", "here:moved"))
    with (site.here / "inner" / "f").open("r+b") as file:
        file.write(b"changed in place")
    assert (site.here / "moved").read_bytes() == CONTENT
    assert not (site.here / "link").is_symlink()


def test_a_removal_that_was_begun_spares_another_file_of_the_same_size(site: JobSite) -> None:
    """A move inside of an endpoint knows no hash: what was put there meanwhile is told by its content."""
    job = move(site, "here:inner/f", "here:g")
    claim = site.claim(job)
    os.link(site.here / "inner" / "f", site.here / "g")
    landed = claim.items[0].target
    assert landed is not None
    site.store.claims.item_removing(claim, 0, landed=landed, algorithm="", digest="", size=len(CONTENT))
    site.store.claims.release("w")
    (site.here / "inner" / "f").unlink()
    (site.here / "inner" / "f").write_bytes(b"x" * len(CONTENT))
    assert "has changed" in site.fail(job)
    assert (site.here / "inner" / "f").read_bytes() == b"x" * len(CONTENT)


@pytest.mark.parametrize("op", [Op.COPY, Op.MOVE])
def test_a_directory_that_was_replaced_is_looked_up_anew(site: JobSite, tmp_path: Path, op: Op) -> None:
    """Connections are kept: what they know of a directory may be true of another one by now."""
    site.succeed(site.copy("here:inner/f", "here:warm/f"))
    (site.here / "warm").rename(tmp_path / "saved")
    (site.here / "warm").mkdir()
    (site.here / "warm" / "f").write_bytes(b"new")
    site.succeed(site.desk.copy(REQUEST, [spec("here:warm/f")], destination("tape:f"), op=op)[0])
    assert (site.tape / "f").read_bytes() == b"new"
    assert (tmp_path / "saved" / "f").read_bytes() == CONTENT


def test_a_deletion_in_a_directory_that_was_replaced_stays_inside(site: JobSite, tmp_path: Path) -> None:
    site.succeed(site.copy("here:inner/f", "here:warm/f"))
    (site.here / "warm").rename(tmp_path / "saved")
    (site.here / "warm").mkdir()
    (site.here / "warm" / "f").write_bytes(b"new")
    site.succeed(site.desk.delete(REQUEST, Location(endpoint="here", path="warm/f"))[0])
    assert (tmp_path / "saved" / "f").read_bytes() == CONTENT
    assert not (site.here / "warm" / "f").exists()
