"""Room for carts: the quota and the disk, who is evicted for whom, and where files come from that no archive stages."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from carts_of_workers import CartSite
from job_sites import REQUEST, endpoint, ssh_endpoint
from mistamover.jobs.cart_model import Kept
from mistamover.jobs.carts import removal
from mistamover.jobs.model import Job, JobState
from mistamover.jobs.transfer import operations
from mistamover.testing.sshd import PrivateSshd
from small_disks import MIB, SmallDisk, mounted
from web_servers import web_site

SIZE = 1000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[CartSite]:
    made = CartSite(tmp_path)
    for name in "abcdef":
        (made.here / name).write_bytes(name.encode() * SIZE)
    yield made
    made.close()


def ready(site: CartSite, name: str, **words: object) -> Job:
    """Return a cart of one file, which is ready, and was used an hour after the one before."""
    site.ahead += 3600
    return site.succeed(site.cart(name, {name: f"dir/{name}"}, **words))


def here(site: CartSite) -> set[str]:
    """Return the uids of the carts that have a directory."""
    return {site.of(job).uid for each in site.volume.jobs() if (job := site.store.jobs.get(each)) is not None}


def live(site: CartSite) -> set[str]:
    return {cart.uid for cart in site.store.carts.page()[0]}


def test_who_was_not_used_for_longest_goes_first(site: CartSite) -> None:
    site.set(quota=3 * SIZE)
    jobs = {name: ready(site, name) for name in "abc"}
    # The oldest is used once more, by a download that has ended.
    site.ahead += 3600
    number = site.store.carts.begin_download(jobs["a"].id, 60)
    assert number is not None
    site.store.carts.end_download(number)
    ready(site, "d")
    assert here(site) == live(site) == {"a", "c", "d"}
    assert site.store.carts.reserved() == 3 * SIZE
    ready(site, "e")
    assert here(site) == live(site) == {"a", "d", "e"}
    assert site.of(jobs["b"]).kept is Kept.EVICTED


def test_nobody_goes_who_is_downloaded_or_was_used_lately_or_is_not_ready(site: CartSite) -> None:
    site.set(quota=3 * SIZE, lru_buffer_time=5000)
    jobs = {name: ready(site, name) for name in "ab"}
    assert site.store.carts.begin_download(jobs["a"].id, 10 * 86400) is not None
    # One that is under way, half of which is here.
    waiting = site.cart("c", {"c": "c", "d": "d"})
    claim = site.claim(waiting)
    site.store.carts.reserve(waiting.id, SIZE, quota=0, unused_since=0)
    # b was used an hour ago, which is lately.
    assert site.fail(site.cart("e", {"e": "e"})) == "No Space Available"
    assert (here(site), site.store.carts.reserved()) == ({"a", "b"}, 3 * SIZE)
    site.ahead += 5000
    site.succeed(site.cart("f", {"f": "f"}))
    assert here(site) == {"a", "f"}
    site.store.claims.put_back(claim)
    assert live(site) == {"a", "c", "e", "f"}


def test_a_stored_bundle_needs_twice_the_room_until_it_is_made(site: CartSite) -> None:
    site.set(quota=2 * SIZE - 1)
    assert site.fail(site.cart("a", {"a": "a"}, stored=True)) == "No Space Available"
    assert site.store.carts.reserved() == 0
    assert here(site) == set()
    site.set(quota=2 * SIZE)
    job = site.succeed(site.cart("a", {"a": "a"}, stored=True))
    assert site.of(job).reserved == site.volume.bundle(job.id, site.of(job).form.format).stat().st_size


def test_what_does_not_fit_evicts_nobody(site: CartSite) -> None:
    site.set(quota=2 * SIZE)
    ready(site, "a")
    site.ahead += 3600
    assert site.fail(site.cart("b", {"b": "b", "c": "c", "d": "d"})) == "No Space Available"
    assert here(site) == {"a"}


def test_one_that_found_no_room_can_be_tried_again(site: CartSite) -> None:
    site.set(quota=SIZE)
    job = site.cart("a", {"a": "a", "b": "b"})
    assert site.fail(job) == "No Space Available"
    assert site.items(job)[0].reason == "Not enough space to download file"
    site.set(quota=2 * SIZE)
    site.carts.retry(REQUEST.who, "a")
    site.succeed(job)
    assert site.files(job) == {"a": b"a" * SIZE, "b": b"b" * SIZE}


def test_deleted_carts_are_in_nobodys_way(site: CartSite) -> None:
    site.set(quota=SIZE, lru_buffer_time=10**6)
    job = ready(site, "a")
    site.store.carts.delete("a")
    ready(site, "b")
    assert here(site) == {"b"}
    assert site.of(job).reserved == 0


def test_two_workers_never_give_away_more_than_there_is(site: CartSite) -> None:
    site.set(quota=2 * SIZE)
    jobs = [site.cart(name, {name: name}) for name in "abcd"]
    claims = [site.claim(job) for job in jobs]
    contexts = [site.context, site.new_context()]
    most = []

    def work(number: int) -> None:
        for claim in claims[number::2]:
            outcome = operations.run(claim, contexts[number])
            most.append(site.store.carts.reserved())
            assert outcome.state is not None
            site.store.claims.finish(claim, outcome.state, reason=outcome.reason, objects=())

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    contexts[1].places.close()
    ended = [site.store.jobs.get(job.id) for job in jobs]
    assert {job.reason for job in ended if job is not None and job.state is JobState.FAILED} <= {"No Space Available"}
    assert sum(job is not None and job.state is JobState.DONE for job in ended) >= 2
    assert max(most) <= 2 * SIZE
    # What is said to be there is there, and nothing else.
    assert {site.of(job).uid for job in jobs if site.of(job).reserved} == here(site)


def test_a_full_disk_evicts_as_well_and_says_so_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", mib=11) as disk:
        site = CartSite(tmp_path / "site")
        with contextlib.closing(site):
            _fill(site, disk)


def _fill(site: CartSite, disk: SmallDisk) -> None:
    site.set(volume=disk.path / "carts")
    for name in "abc":
        (site.here / name).write_bytes(os.urandom(4 * MIB))
    ready(site, "a")
    ready(site, "b")
    ready(site, "c")
    assert here(site) == {"b", "c"}
    site.ahead += 3600
    assert site.fail(site.cart("all", {name: name for name in "abc"})) == "No Space Available"
    assert here(site) == set()
    # Others write there too, while a cart comes.
    (site.here / "d").write_bytes(b"d")
    ready(site, "b")
    site.ahead += 3600
    job = site.cart("u", {"d": "d", "c": "c"})
    (disk.path / "others").mkdir()

    def on_tell(seq: int, *_: object) -> None:
        if seq == 1 and not disk.ballast.exists():
            disk.leave(1)

    site.on_tell = on_tell
    site.succeed(job)
    assert here(site) == {"u"}
    disk.ballast.unlink()
    disk.leave(1)
    again = site.cart("v", {"b": "b"})
    site.set(lru_buffer_time=10**6)
    assert site.fail(again) == "No Space Available"
    assert here(site) == {"u"}


def test_what_is_not_kept_is_removed_and_nothing_that_is_under_way(site: CartSite) -> None:
    jobs = {name: ready(site, name) for name in "abc"}
    going = site.cart("d", {"d": "d"})
    claim = site.claim(going)
    site.volume.files(going.id).mkdir(parents=True)
    (site.volume.path / "something-else").mkdir()
    site.store.carts.delete("a")
    site.store.carts.delete("d")
    site.store.carts.reserve(jobs["c"].id, 5, quota=SIZE + 5, unused_since=site.now())  # which evicts b
    site.store.jobs.drop(jobs["c"].id)
    (site.volume.path / uuid.uuid4().hex).mkdir()
    assert removal.clear(site.volume, site.store, busy=()) == 4
    assert {path.name for path in site.volume.path.iterdir()} == {"something-else", going.id}
    site.store.claims.put_back(claim)
    assert removal.clear(site.volume, site.store, busy={going.id}) == 0
    assert removal.clear(site.volume, site.store, busy=()) == 1
    assert site.store.carts.reserved() == 0


def test_one_that_cannot_be_removed_is_in_the_way_of_no_other(site: CartSite) -> None:
    jobs = {name: ready(site, name) for name in "abc"}
    odd = [site.volume.cart(jobs[name].id) for name in "ab"]
    for path in odd:
        path.rename(site.volume.path / f"was-{path.name}")
        path.write_bytes(b"")
    # One is deleted, the other is evicted for the new one, and neither goes.
    site.set(quota=3 * SIZE)
    assert not site.carts.delete(REQUEST.who, "a")
    ready(site, "d", stored=False)
    site.store.carts.delete("c")
    assert removal.clear(site.volume, site.store, busy=()) == 1
    assert live(site) == {"d"}
    # It is tried again, and again.
    for path in odd:
        path.unlink()
        path.mkdir()
    assert removal.clear(site.volume, site.store, busy=()) == 2
    assert here(site) == {"d"}


def test_a_cart_is_not_forgotten_before_it_was_unused_for_as_long(site: CartSite) -> None:
    job = ready(site, "a")
    site.ahead += 100_000
    number = site.store.carts.begin_download(job.id, 60)
    assert number is not None
    site.store.carts.end_download(number)
    assert site.store.jobs.prune(site.now() - 50_000) == 0
    assert site.store.jobs.prune(site.now() + 1) == 1


@pytest.mark.parametrize("kind", ["here", "ssh", "web"])
def test_files_of_any_endpoint(tmp_path: Path, sshd: PrivateSshd, kind: str) -> None:
    with web_site() as web:
        site = CartSite(
            tmp_path, ssh_endpoint("ssh", sshd, tmp_path / "here"), endpoint("web", f"{web.url}/", read_only=True)
        )
        with contextlib.closing(site):
            names = {f"d {number}/{name}": os.urandom(number * 70_000) for number, name in enumerate("abc?é")}
            for name, content in names.items():
                (site.here / name).parent.mkdir(exist_ok=True)
                (site.here / name).write_bytes(content)
                web.files[f"/{name}"] = content
            job = site.succeed(site.cart("u", {name: f"in/{name}" for name in names}, archive=kind))
            assert site.files(job) == {f"in/{name}": content for name, content in names.items()}
            assert site.of(job).reserved == sum(map(len, names.values()))
            # The connections of the first are those of the second, whoever's threads have made them.
            site.succeed(site.cart("v", dict.fromkeys(list(names)[:1], "x"), archive=kind))
            if kind != "web":
                status = {path.stat().st_mtime_ns % 10**9 for path in site.volume.files(job.id).glob("in/*/*")}
                assert status == {0}


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("directory", "status file with error: directory is a directory"),
        ("none", "status file with error: none: no such file"),
        ("a*", "status file with error: a*: no such file or directory; a cart takes names as they are"),
        ("leads-out", "status file with error: leads-out: a link in it leads out"),
    ],
)
def test_what_is_no_file_is_refused(site: CartSite, id: str, words: str) -> None:
    (site.here / "directory").mkdir()
    (site.here / "leads-out").symlink_to("/etc/passwd")
    reason = site.fail(site.cart("u", {"a": "a", id: "x"}))
    assert reason.startswith(f"Failed to pull file(Failed to {words}")
    assert str(site.here) not in reason


def test_a_source_that_changes_while_it_is_read_is_read_again(site: CartSite) -> None:
    (site.here / "big").write_bytes(b"1" * (3 << 20))
    changes = iter([True])

    def on_tell(seq: int, state: object, done: int, size: int | None) -> None:
        if seq == 0 and done and next(changes, False):
            with (site.here / "big").open("r+b") as file:
                file.write(b"2")

    site.on_tell = on_tell
    job = site.succeed(site.cart("u", {"big": "big"}))
    assert site.files(job)["big"] == b"2" + b"1" * ((3 << 20) - 1)
