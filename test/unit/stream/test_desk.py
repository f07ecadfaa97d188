"""The desk: how a quarantine ends, with any name, on one filesystem and across two, and whatever dies in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mistamover.files import leases
from mistamover.files.identity import identity_of
from mistamover.model import FaultClass
from mistamover.stream import desk as desks
from mistamover.stream import requests
from mistamover.stream.books import Books
from mistamover.stream.desk import Desk
from mistamover.stream.ledger import Trouble
from mistamover.stream.requests import Outcome, Verb
from support import TOP
from unit.stream.desks import OfOneStream

ODD = [b"plain", b"with blank", b"-n", b"new\nline", b"\xff\xfe", b"deep/er/file", b"'\"$(x)", b"x" * 255]

#: At every which line a process is killed; 1 is every line, and takes minutes.
EVERY = os.environ.get("MISTAMOVER_KILL_EVERY", "17")


@pytest.fixture(autouse=True)
def survive_breaks() -> Iterator[None]:
    before = signal.getsignal(signal.SIGIO)
    leases.hear_breaks()
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture(params=["same", "other"])
def away(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Path]:
    """A quarantine directory on the filesystem of the stream, or on another one."""
    if request.param == "same":
        yield scratch / "away"
        return
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == scratch.stat().st_dev:
        pytest.skip("no second filesystem")
    with tempfile.TemporaryDirectory(dir=shared) as other:
        yield Path(other) / "q"


@pytest.fixture
def site(scratch: Path, away: Path) -> OfOneStream:
    return OfOneStream(scratch / "site", away)


@pytest.fixture
def near(scratch: Path) -> OfOneStream:
    """A stream with its quarantine on its own filesystem."""
    return OfOneStream(scratch / "site", scratch / "away")


def one(site: OfOneStream, verb: Verb, name: bytes, *, to: bool = True) -> requests.Ended:
    (ended,) = site.ask(verb, name, to=to)
    assert ended.name == name
    return ended


def in_quarantine(site: OfOneStream) -> list[bytes]:
    with site.ledger() as ledger:
        assert ledger.relocations() == []
        return [trouble.name for trouble in ledger.troubles() if trouble.quarantined]


def ours(site: OfOneStream) -> list[bytes]:
    return [
        name
        for top in site.directories
        for _, below, names in os.walk(top)
        for name in (*below, *names)
        if name.startswith(b".mistamover")
    ]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("verb", list(Verb))
def test_a_unit_goes_whole_and_is_forgotten(site: OfOneStream, verb: Verb, name: bytes) -> None:
    site.quarantine(name)
    ended = one(site, verb, name)
    assert (ended.done, ended.where) == (True, site.path(site.destination(verb), name))
    assert (site.lies_in_quarantine(name), site.lies(site.destination(verb), name)) == (False, True)
    assert (in_quarantine(site), ours(site)) == ([], [])
    assert os.listdir(site.settings.quarantine_dir) == []
    assert site.looked_at == ([name] if verb is Verb.RETRY else [])


@pytest.mark.parametrize("verb", list(Verb))
def test_a_tree_goes_whole(site: OfOneStream, verb: Verb) -> None:
    site.quarantine(b"tree", tree=True)
    assert one(site, verb, b"tree").done
    assert (site.lies_in_quarantine(b"tree"), site.lies(site.destination(verb), b"tree")) == (False, True)


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("taker", ["file", "link", "directory"])
def test_a_name_that_is_taken_is_never_replaced(site: OfOneStream, verb: Verb, taker: str) -> None:
    site.quarantine(b"d/f")
    path = Path(os.fsdecode(site.path(site.destination(verb), b"d/f")))
    path.parent.mkdir(exist_ok=True)
    {"file": lambda: path.write_text("new"), "link": lambda: path.symlink_to("/no"), "directory": path.mkdir}[taker]()
    before = os.lstat(path)
    ended = one(site, verb, b"d/f")
    assert (ended.outcome, ended.done) == (Outcome.TAKEN, False)
    assert "is taken" in ended.words and os.fsdecode(path) in ended.words
    assert os.lstat(path) == before
    assert (site.lies_in_quarantine(b"d/f"), site.has_note(b"d/f"), in_quarantine(site)) == (True, True, [b"d/f"])
    assert ours(site) == []


def test_a_link_that_leads_out_of_the_directory_is_refused(near: OfOneStream) -> None:
    near.quarantine(b"d/f")
    (near.root / "d").rmdir()
    (near.root / "d").symlink_to(near.aside)
    ended = one(near, Verb.RETRY, b"d/f")
    assert (ended.outcome, os.listdir(near.aside)) == (Outcome.FAILED, [])
    assert "symbolic link" in ended.words
    assert near.lies_in_quarantine(b"d/f")


def test_what_is_written_to_is_not_copied_away(scratch: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == scratch.stat().st_dev:
        pytest.skip("no second filesystem")
    with tempfile.TemporaryDirectory(dir=shared) as other:
        site = OfOneStream(scratch / "site", Path(other) / "q")
        place = site.quarantine(b"f")
        with open(place, "ab"):
            ended = one(site, Verb.RETRY, b"f")
        assert ended.outcome is Outcome.FAILED
        assert "open for writing" in ended.words
        assert (site.lies_in_quarantine(b"f"), ours(site)) == (True, [])
        assert one(site, Verb.RETRY, b"f").done


def test_what_somebody_took_away_or_never_was_there_is_said(near: OfOneStream) -> None:
    os.unlink(near.quarantine(b"f"))
    gone, absent = near.ask(Verb.RETRY, b"f", b"never")
    assert (gone.outcome, absent.outcome) == (Outcome.GONE, Outcome.ABSENT)
    assert in_quarantine(near) == []


def test_a_release_without_a_directory_leaves_the_unit_and_its_note(near: OfOneStream) -> None:
    near.quarantine(b"f")
    ended = one(near, Verb.RELEASE, b"f", to=False)
    assert (ended.done, ended.where) == (True, near.path(near.settings.quarantine_dir, b"f"))
    assert (near.lies_in_quarantine(b"f"), near.has_note(b"f"), in_quarantine(near)) == (True, True, [])
    with near.ledger() as ledger:
        (release,) = ledger.releases(name=b"f")
        assert (release.who, release.reason, release.place) == ("me", "no luck", ended.where)
        assert ledger.standing_releases() == {}
        assert (ledger.totals().quarantined, ledger.totals().released) == (0, 1)


def test_what_could_not_be_moved_is_tried_again_where_it_is(near: OfOneStream) -> None:
    near.quarantine(b"stuck", moved=False)
    assert one(near, Verb.RETRY, b"stuck").done
    assert (near.lies(near.root, b"stuck"), in_quarantine(near), near.looked_at) == (True, [], [b"stuck"])


def test_what_could_not_be_moved_is_released_as_it_is(near: OfOneStream) -> None:
    path = near.quarantine(b"stuck", moved=False)
    assert one(near, Verb.RELEASE, b"stuck", to=False).done
    with near.ledger() as ledger:
        assert ledger.standing_releases() == {b"stuck": identity_of(os.lstat(path))}


def test_what_has_changed_since_is_not_released(near: OfOneStream) -> None:
    path = near.quarantine(b"stuck", moved=False)
    os.utime(path, ns=(1, 1))
    for to in (False, True):
        assert one(near, Verb.RELEASE, b"stuck", to=to).outcome is Outcome.CHANGED
    assert in_quarantine(near) == [b"stuck"]


def test_what_could_not_be_moved_can_be_moved_by_its_release(near: OfOneStream) -> None:
    near.quarantine(b"d/stuck", moved=False)
    assert one(near, Verb.RELEASE, b"d/stuck").done
    assert (near.lies(near.root, b"d/stuck"), near.lies(near.aside, b"d/stuck")) == (False, True)


def test_the_source_of_a_mirror_is_never_moved(scratch: Path) -> None:
    site = OfOneStream(scratch / "site", scratch / "away", mirror=True)
    site.quarantine(b"f", moved=False)
    ended = one(site, Verb.RELEASE, b"f")
    assert (ended.outcome, site.lies(site.root, b"f")) == (Outcome.FAILED, True)
    assert "a mirror leaves its source alone" in ended.words
    assert one(site, Verb.RELEASE, b"f", to=False).done
    assert site.lies(site.root, b"f")


def test_the_same_name_twice_in_one_request_is_one_unit(near: OfOneStream) -> None:
    near.quarantine(b"f")
    assert [ended.outcome for ended in near.ask(Verb.RETRY, b"f", b"f")] == [Outcome.RETRIED] * 2


def test_many_units_are_dealt_with_a_few_at_a_time(near: OfOneStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "_AT_ONCE", 7)
    names = [b"f%d" % number for number in range(20)]
    for name in names:
        near.quarantine(name)
    key = requests.submit(near.settings.state_dir, near.request(Verb.RETRY, *names))
    rounds = 0
    with near.ledger() as ledger:
        desk = Desk(Books(near.settings, ledger), lambda name, now: None)
        while not rounds or desk.busy:
            desk.serve()
            rounds += 1
    answer = requests.take_answer(near.settings.state_dir, key)
    assert answer is not None
    assert [ended.name for ended in answer if ended.done] == names
    assert rounds == 3
    assert requests.pending(near.settings.state_dir) == []


def test_requests_are_answered_in_their_order_and_rubbish_is_passed_over(near: OfOneStream) -> None:
    near.quarantine(b"f")
    place = near.settings.state_dir / requests.DIRECTORY
    first = requests.submit(near.settings.state_dir, near.request(Verb.RELEASE, b"f", to=False))
    (place / "00000000000000000001-1-00.request").write_text('{"verb": "explode"}')
    second = requests.submit(near.settings.state_dir, near.request(Verb.RETRY, b"f"))
    assert near.ask(Verb.RETRY, b"f")[0].outcome is Outcome.ABSENT
    outcomes = [requests.take_answer(near.settings.state_dir, key) for key in (first, second)]
    assert [[each.outcome for each in answer or ()] for answer in outcomes] == [[Outcome.RELEASED], [Outcome.ABSENT]]


def test_a_directory_where_we_may_not_write_is_said(near: OfOneStream) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    near.quarantine(b"f")
    near.aside.chmod(0o500)
    assert one(near, Verb.RELEASE, b"f").outcome is Outcome.FAILED
    assert near.lies_in_quarantine(b"f")


def test_the_sum_holds_whichever_way_a_quarantine_ends(near: OfOneStream) -> None:
    for name in (b"again", b"free", b"stays"):
        near.quarantine(name)
    keys = [
        requests.submit(near.settings.state_dir, near.request(verb, name))
        for verb, name in ((Verb.RETRY, b"again"), (Verb.RELEASE, b"free"))
    ]
    with near.ledger() as ledger:
        books = Books(near.settings, ledger)
        # As the process that has seen and quarantined them counts them.
        books.counts.seen = books.counts.quarantined = 3
        books.set_aside.update([b"again", b"free", b"stays"])
        desk = Desk(books, lambda name, now: None)
        while requests.pending(near.settings.state_dir):
            desk.serve()
    counts = books.counts
    assert (counts.seen, counts.quarantined, counts.released) == (2, 1, 1)
    assert all(requests.take_answer(near.settings.state_dir, key) for key in keys)


def test_a_unit_that_was_just_moved_to_quarantine_when_a_process_died_is_found_there(near: OfOneStream) -> None:
    """The intent was noted, the unit was renamed, and that was not noted any more."""
    near.quarantine(b"f")
    path = near.make(b"f")
    trouble = Trouble(
        name=b"f",
        target="t",
        quarantined=True,
        attempts=1,
        fault=FaultClass.SOURCE,
        reason="no",
        since=1.0,
        retry_at=0.0,
        identity=identity_of(os.lstat(path)),
    )
    with near.ledger() as ledger:
        ledger.note_troubles([trouble])
    os.rename(path, near.path(near.settings.quarantine_dir, b"f.1"))
    near.recover()
    with near.ledger() as ledger:
        places = [trouble.moved_to for trouble in ledger.troubles()]
    assert places == [near.path(near.settings.quarantine_dir, name) for name in (b"f", b"f.1")]


@pytest.mark.parametrize("verb", list(Verb))
def test_several_of_one_name_are_several_units(near: OfOneStream, verb: Verb) -> None:
    places = [near.quarantine(b"d/f") for _ in range(3)]
    assert in_quarantine(near) == [b"d/f"] * 3
    second = requests.Meant(b"d/f", places[1])
    assert near.ask_for(verb, second)[0].done
    assert [os.path.lexists(place) for place in places] == [True, False, True]
    (first, third) = near.ask_for(verb, *(requests.Meant(b"d/f", place) for place in (places[0], places[2])))
    assert (first.outcome, third.outcome) == (Outcome.TAKEN, Outcome.TAKEN)
    os.unlink(near.path(near.destination(verb), b"d/f"))
    (first, third) = near.ask_for(verb, *(requests.Meant(b"d/f", place) for place in (places[0], places[2])))
    assert (first.done, third.outcome) == (True, Outcome.TAKEN)
    assert (in_quarantine(near), os.path.lexists(places[2])) == ([b"d/f"], True)


def test_what_has_the_name_now_is_another_matter(near: OfOneStream) -> None:
    """Its failures and its end say nothing about what had the name and was moved away."""
    place = near.quarantine(b"f")
    with near.ledger() as ledger:
        books = Books(near.settings, ledger)
        books.note_troubles([replace(books.moved[place], quarantined=False, moved_to=None, retry_at=9.0)])
        assert len(ledger.troubles()) == 2
        books.forget_trouble(b"f")
        assert [trouble.moved_to for trouble in ledger.troubles()] == [place]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "tree"])
@pytest.mark.parametrize("verb", list(Verb))
def test_killed_anywhere_the_unit_is_in_one_place_and_the_ledger_knows(
    scratch: Path, away: Path, verb: Verb, kind: str
) -> None:
    program = TOP / "test" / "unit" / "stream" / "kill_points.py"
    words = [sys.executable, str(program), str(scratch / "s"), str(away), verb.value, kind, EVERY]
    path = f"{TOP / 'lib'}:{TOP / 'test'}"
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200
