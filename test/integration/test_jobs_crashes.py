"""Jobs that are cut off at any moment, and done again by another worker: nothing partial is seen, nothing is lost."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from job_sites import REQUEST, JobSite, destination, leftovers, spec, ssh_endpoint
from mistamover.errors import JobCancelled, LostClaim
from mistamover.jobs.model import ItemState, Job, JobState, Op
from mistamover.jobs.transfer import operations
from mistamover.testing.sshd import PrivateSshd

BIG = os.urandom(1 << 20) * 3


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[JobSite]:
    made = JobSite(tmp_path, ssh_endpoint("hpc", sshd, tmp_path / "hpc"))
    yield made
    made.close()


class Killed(BaseException):
    """Stands for the end of the worker: nothing of what would be undone by an exception is undone."""


def directory(site: JobSite, name: str) -> Path:
    return Path(site.endpoints.need(name).base)


def crash_points(site: JobSite, job: Job) -> int:
    """Given a job, do it in a rehearsal, and return how often `tell` is called."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    site.on_tell = count
    site.succeed(job)
    return calls


def submit(site: JobSite, op: Op, name: str, target: str) -> Job:
    source = "here" if target != "here" else "hpc"
    (directory(site, source) / name).write_bytes(BIG)
    return site.desk.copy(REQUEST, [spec(f"{source}:{name}")], destination(f"{target}:{name}"), op=op)[0]


@pytest.mark.parametrize("op", [Op.COPY, Op.MOVE])
@pytest.mark.parametrize("target", ["tape", "hpc", "here"])
def test_a_job_that_is_cut_off_anywhere_ends_well_in_the_next_attempt(site: JobSite, op: Op, target: str) -> None:
    calls = crash_points(site, submit(site, op, "rehearsal", target))
    for point in sorted({0, 1, 2, 3, calls // 2, calls - 2, calls - 1}):
        name = f"f{point}"
        job = submit(site, op, name, target)
        left = point

        def die(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise LostClaim("killed")

        site.on_tell = die
        claim = site.claim(job)
        with pytest.raises(LostClaim):
            operations.run(claim, site.context)
        seen = directory(site, target) / name
        assert not seen.exists() or seen.read_bytes() == BIG
        site.on_tell = lambda *_: None
        assert site.store.claims.release("w") == [job.id]
        assert site.succeed(job).progress.items_done == 1
        assert seen.read_bytes() == BIG
    assert not leftovers(directory(site, "here"), directory(site, "hpc"), directory(site, "tape"))


@pytest.mark.parametrize("target", ["tape", "hpc"])
def test_temporary_names_of_a_dead_worker_are_found_and_removed(site: JobSite, target: str) -> None:
    job = submit(site, Op.COPY, "a", target)
    temporary = site.context.traces.name(b"sub/a", job.id, 0)
    place = site.context.places.of(target)
    with place.lend() as visit:
        visit.make_way(temporary)
        visit.real("sub/a")
        with pytest.raises(Killed), site.context.traces.beside(visit, b"sub/a", job.id, 0):
            (directory(site, target) / os.fsdecode(temporary)).write_bytes(b"half")
            # As if nothing more could be done at all.
            raise Killed
    (directory(site, target) / os.fsdecode(temporary)).write_bytes(b"half")
    stranger = directory(site, target) / "sub" / ".mistamover-0123456789ab-of-another-agent"
    stranger.write_bytes(b"theirs")
    # A new process has the same notes, and another name for its own.
    context = site.new_context()
    assert context.traces.clean(context.places, set()) == 1
    assert leftovers(directory(site, target)) == [stranger]
    assert context.traces.clean(context.places, set()) == 0
    context.places.close()


def test_a_copy_that_was_confirmed_before_is_not_copied_again_when_only_the_removal_is_left(site: JobSite) -> None:
    job = submit(site, Op.MOVE, "a", "hpc")
    claim = site.claim(job)
    # As it is when a worker is killed between the confirmation and the removal.
    copied = directory(site, "hpc") / "a"
    copied.write_bytes(BIG)
    landed = claim.items[0].target
    assert landed is not None
    import hashlib

    digest = hashlib.sha256(BIG).hexdigest()
    site.store.claims.item_removing(claim, 0, landed=landed, algorithm="sha256", digest=digest, size=len(BIG))
    inode = copied.stat().st_ino
    site.store.claims.release("w")
    site.succeed(job)
    assert not (site.here / "a").exists()
    assert copied.stat().st_ino == inode


def test_a_source_that_was_changed_since_it_was_copied_stays(site: JobSite) -> None:
    job = submit(site, Op.MOVE, "a", "hpc")
    source, copied = site.here / "a", directory(site, "hpc") / "a"
    os.utime(source, (1_600_000_000, 1_600_000_000))

    def change(seq: int, state: ItemState, done: int, size: int | None) -> None:
        if copied.exists():
            return
        if state is ItemState.VERIFYING and source.read_bytes() == BIG:
            source.write_bytes(b"x" * len(BIG))

    site.on_tell = change
    assert "has changed since it was copied" in site.fail(job)
    assert source.read_bytes() == b"x" * len(BIG)
    assert copied.read_bytes() == BIG


NEW = bytes(reversed(BIG))


def write_anew(source: Path) -> None:
    """Change the content in place, and nothing else that lstat tells but the times of the change."""
    source.write_bytes(NEW)


def put_another(source: Path) -> None:
    """Put another file in its place, of the same size and time, as a producer does that keeps times."""
    other, status = source.with_name("another"), source.stat()
    other.write_bytes(NEW)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(source)


class Late:
    """The real claims, but something happens while it is written down that a source is about to go."""

    def __init__(self, claims: Any, happens: Callable[[], None]) -> None:
        self._claims = claims
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._claims, name)

    def item_removing(self, *words: Any, **named: Any) -> None:
        self._claims.item_removing(*words, **named)
        self._happens()


# Another file of the same size and time cannot be told over SFTP; and what has two names at one endpoint is one file.
@pytest.mark.parametrize(
    ("origin", "target", "change"),
    [
        ("here", "tape", write_anew),
        ("here", "tape", put_another),
        ("here", "hpc", write_anew),
        ("here", "hpc", put_another),
        ("here", "here", put_another),
        ("hpc", "tape", write_anew),
    ],
)
def test_a_source_that_changes_while_its_removal_is_written_down_stays(
    site: JobSite, origin: str, target: str, change: Callable[[Path], None]
) -> None:
    source = directory(site, origin) / "a"
    source.write_bytes(BIG)
    os.utime(source, (1_600_000_000, 1_600_000_000))
    job, _ = site.desk.copy(REQUEST, [spec(f"{origin}:a")], destination(f"{target}:b"), op=Op.MOVE)
    claims: Any = Late(site.context.claims, lambda: change(source))
    site.context = dataclasses.replace(site.context, claims=claims)
    assert "has changed since it was copied" in site.fail(job)
    assert source.read_bytes() == NEW
    assert (directory(site, target) / "b").read_bytes() == BIG


@pytest.mark.parametrize("target", ["tape", "hpc"])
def test_another_file_of_the_same_size_and_time_is_not_removed_for_the_one_that_was_copied(
    site: JobSite, target: str
) -> None:
    job = submit(site, Op.MOVE, "a", target)
    source = site.here / "a"
    os.utime(source, (1_600_000_000, 1_600_000_000))

    def change(seq: int, state: ItemState, done: int, size: int | None) -> None:
        if state is ItemState.VERIFYING and source.read_bytes() == BIG:
            put_another(source)

    site.on_tell = change
    assert "has changed since it was copied" in site.fail(job)
    assert source.read_bytes() == NEW


def test_a_source_that_a_program_has_open_for_writing_stays_until_it_is_closed(site: JobSite) -> None:
    job = submit(site, Op.MOVE, "a", "tape")
    with (site.here / "a").open("r+b"):
        claim = site.claim(job)
        outcome = operations.run(claim, site.context)
        assert outcome.state is None
        assert "open for writing" in outcome.reason
        assert (site.here / "a").read_bytes() == BIG
        site.store.claims.put_back(claim, reason=outcome.reason)
    site.succeed(job)
    assert not (site.here / "a").exists()
    assert (site.tape / "a").read_bytes() == BIG


@pytest.mark.parametrize("target", ["tape", "hpc"])
def test_a_cancelled_job_ends_in_the_middle_of_a_file_and_leaves_nothing(site: JobSite, target: str) -> None:
    job = submit(site, Op.MOVE, "a", target)

    def cancel(seq: int, state: ItemState, done: int, size: int | None) -> None:
        if done:
            raise JobCancelled("cancelled")

    site.on_tell = cancel
    claim = site.claim(job)
    with pytest.raises(JobCancelled):
        operations.run(claim, site.context)
    assert site.store.claims.finish(claim, JobState.CANCELLED)
    assert [path.name for path in directory(site, target).rglob("*")] == []
    assert (site.here / "a").exists()


def test_a_file_that_grows_while_it_is_read_is_tried_again(site: JobSite) -> None:
    job = submit(site, Op.COPY, "a", "hpc")
    grown = False

    def grow(seq: int, state: ItemState, done: int, size: int | None) -> None:
        nonlocal grown
        if done and not grown:
            grown = True
            with (site.here / "a").open("ab") as file:
                file.write(b"more")

    site.on_tell = grow
    outcome = site.attempt(job)
    assert outcome.state is None
    assert "changed" in outcome.reason
    site.succeed(job)
    assert (directory(site, "hpc") / "a").read_bytes() == BIG + b"more"
    assert site.items(job)[0].attempts == 1


@pytest.mark.parametrize("via", ["auto", "sftp"])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_a_connection_that_breaks_in_the_middle_is_made_again_and_nothing_is_left(
    private_sshd: PrivateSshd, tmp_path: Path, via: str, up: bool
) -> None:
    site = JobSite(tmp_path, ssh_endpoint("hpc", private_sshd, tmp_path / "hpc", options={"via": via}))
    content = os.urandom(1 << 20) * 24
    source, target = ("here", "hpc") if up else ("hpc", "here")
    (directory(site, source) / "a").write_bytes(content)
    job, _ = site.desk.copy(REQUEST, [spec(f"{source}:a")], destination(f"{target}:b"), op=Op.MOVE)
    broken = 0

    def cut(seq: int, state: ItemState, done: int, size: int | None) -> None:
        nonlocal broken
        if done and not broken:
            broken = private_sshd.kill_sessions()

    site.on_tell = cut
    outcome = site.attempt(job)
    assert broken
    if outcome.state is None:
        assert list(outcome.endpoints) == ["hpc"], outcome
        assert not (directory(site, target) / "b").exists()
        site.succeed(job)
    assert (directory(site, target) / "b").read_bytes() == content
    assert not (directory(site, source) / "a").exists()
    site.context.traces.clean(site.context.places, set())
    assert not leftovers(site.here, tmp_path / "hpc")
    site.close()
