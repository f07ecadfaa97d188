"""The decision about a unit: each reason in turn, and what holds for any facts whatever."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.settings import LinkPolicy, TransferMode, TransferUnit
from mistamover.model import Action, FaultClass, Identity, Kind, Reason, Writers
from mistamover.stream.decide import Facts, Rules, counts_as_attempt, decide, ignored_by_name

NOW = 1_000_000.0
ONE = Identity(1, 2, 3, 4, 5)
RULES = Rules(
    mode=TransferMode.MOVE,
    unit=TransferUnit.FILE,
    send_dot_files=False,
    symlinks=LinkPolicy.KEEP,
    stop_file=b".stop",
    ignore=re.compile(rb"(?s:.*\.bak)\Z"),
    ignore_paths=re.compile(rb"(?s:cache/.*)\Z"),
    temporary_suffixes=(b".tmp", b"~"),
    reserved=re.compile(rb"\..*(ctrl|rcpt)(_tmp)?", re.DOTALL),
    settle_time=5.0,
    minimum_age=0.0,
    empty_directory_age=10.0,
    retry_count=3,
)
FACTS = Facts(name=b"a", kind=Kind.FILE, identity=ONE, writers=Writers.NONE, unchanged_since=NOW - 1)


def codes(facts: Facts, rules: Rules = RULES, now: float = NOW) -> list[str]:
    return [reason.code for reason in decide(facts, rules, now).reasons]


def test_closed_file_is_sent_at_once() -> None:
    decision = decide(FACTS, RULES, NOW)
    assert (decision.action, codes(FACTS)) == (Action.SEND, ["wanted", "closed"])


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        (b"pipe", Kind.SPECIAL, "special"),
        (b".mistamover/x/y", Kind.FILE, "ours"),
        (b"d/.mistamover-1", Kind.FILE, "ours"),
        (b".stop", Kind.FILE, "stop-file"),
        (b"d/.x.ctrl", Kind.FILE, "handshake"),
        (b".x.rcpt_tmp", Kind.FILE, "handshake"),
        (b".x.nc.Ab3dE9", Kind.FILE, "temporary"),
        (b".hidden", Kind.FILE, "dot"),
        (b"d/.git/x", Kind.FILE, "dot"),
        (b"d/x.bak", Kind.FILE, "ignore"),
        (b"x\n.bak", Kind.FILE, "ignore"),
        (b"cache/x", Kind.FILE, "ignore"),
        (b"x.tmp", Kind.FILE, "suffix"),
        (b"x~", Kind.FILE, "suffix"),
    ],
)
def test_ignored_by_name(name: bytes, kind: Kind, code: str) -> None:
    decision = decide(replace(FACTS, name=name, kind=kind), RULES, NOW)
    assert (decision.action, [r.code for r in decision.reasons]) == (Action.IGNORE, [code])


@pytest.mark.parametrize("name", [b"x.bakery", b"dcache/x", b"x.y", b"d/a.b", b"stop", b"d/.stop.x"[2:]])
def test_similar_names_are_not_ignored(name: bytes) -> None:
    expected = name.startswith(b".")
    assert (ignored_by_name(name, Kind.FILE, RULES) is not None) is expected


def test_dot_files_are_sent_where_wanted_but_no_temporary_of_rsync() -> None:
    rules = replace(RULES, send_dot_files=True)
    assert decide(replace(FACTS, name=b".hidden"), rules, NOW).action is Action.SEND
    assert codes(replace(FACTS, name=b".hidden.aB1cD2"), rules) == ["temporary"]


@pytest.mark.parametrize(
    ("policy", "action"),
    [(LinkPolicy.KEEP, Action.SEND), (LinkPolicy.IGNORE, Action.IGNORE), (LinkPolicy.QUARANTINE, Action.QUARANTINE)],
)
def test_links(policy: LinkPolicy, action: Action) -> None:
    assert decide(replace(FACTS, kind=Kind.LINK), replace(RULES, symlinks=policy), NOW).action is action


def test_quarantined_stays_so() -> None:
    decision = decide(replace(FACTS, quarantined="no"), RULES, NOW)
    assert (decision.action, decision.reasons[0].text) == (Action.QUARANTINE, "quarantined: no")


def test_mirror_is_done_when_unchanged_only() -> None:
    rules = replace(RULES, mode=TransferMode.MIRROR)
    assert decide(replace(FACTS, delivered=ONE), rules, NOW).action is Action.DONE
    assert decide(replace(FACTS, delivered=ONE._replace(ctime_ns=6)), rules, NOW).action is Action.SEND
    assert decide(replace(FACTS, delivered=ONE), RULES, NOW).action is Action.SEND  # a move sends it again


@pytest.mark.parametrize(("retry_count", "allowed"), [(0, 1), (1, 1), (3, 3)])
def test_attempts_run_out(retry_count: int, allowed: int) -> None:
    rules = replace(RULES, retry_count=retry_count)
    assert decide(replace(FACTS, attempts=allowed - 1), rules, NOW).action is Action.SEND
    assert decide(replace(FACTS, attempts=allowed, last_failure="no"), rules, NOW).action is Action.QUARANTINE


def test_reasons_to_wait_come_in_order() -> None:
    hold = Reason(code="circuit", words="down")
    facts = replace(FACTS, hold=hold, retry_at=NOW + 9, writers=Writers.SOME, attempts=1)
    decision = decide(facts, RULES, NOW)
    assert ([r.code for r in decision.reasons], decision.look_again) == (["wanted", "attempts", "circuit"], None)
    decision = decide(replace(facts, hold=None), RULES, NOW)
    assert (decision.reasons[-1].code, decision.look_again) == ("retry", NOW + 9)
    decision = decide(replace(facts, hold=None, retry_at=NOW), RULES, NOW)
    assert decision.reasons[-1].code == "open"
    assert decision.look_again is not None and decision.look_again > NOW


def test_unknown_writers_need_quiet() -> None:
    facts = replace(FACTS, writers=Writers.UNKNOWN)
    decision = decide(facts, RULES, NOW)
    assert (decision.reasons[-1].code, decision.look_again) == ("settle", NOW + 4)
    assert decide(facts, RULES, NOW + 4).action is Action.SEND


def test_minimum_age_counts_even_without_writers() -> None:
    rules = replace(RULES, minimum_age=60.0)
    assert decide(FACTS, rules, NOW).look_again == NOW + 59
    assert decide(FACTS, rules, NOW + 59).action is Action.SEND


def test_empty_directory_waits_for_its_age_in_a_move_only() -> None:
    facts = replace(FACTS, kind=Kind.DIRECTORY)
    assert decide(facts, RULES, NOW).look_again == NOW + 9
    assert decide(facts, replace(RULES, mode=TransferMode.MIRROR), NOW).action is Action.SEND


def test_tree_settles_although_nobody_writes() -> None:
    assert codes(replace(FACTS, kind=Kind.TREE)) == ["wanted", "settle"]


def test_unreadable_is_tried_and_says_so() -> None:
    facts = replace(FACTS, unreadable="cannot be opened", writers=Writers.UNKNOWN, unchanged_since=NOW - 99)
    assert (decide(facts, RULES, NOW).action, codes(facts)) == (Action.SEND, ["wanted", "unreadable"])


def test_faults_that_count() -> None:
    assert {fault for fault in FaultClass if counts_as_attempt(fault)} == {FaultClass.SOURCE, FaultClass.REFUSED}


ZIPS = replace(RULES, unit=TransferUnit.DIRECTORY, zips=True, dir_size_limit=1 << 20)
TREE = replace(FACTS, name=b"run", kind=Kind.TREE, unchanged_since=NOW - 9)


def sized(size: int) -> Facts:
    return replace(TREE, identity=Identity(1, 2, size, 4, 5))


def test_it_says_that_a_directory_is_zipped() -> None:
    assert codes(TREE, ZIPS) == ["wanted", "zip", "settled"]
    assert "run.zip" in decide(TREE, ZIPS, NOW).reasons[1].text
    assert codes(TREE, replace(ZIPS, zips=False)) == ["wanted", "settled"]
    assert codes(FACTS, ZIPS) == ["wanted", "closed"]


@pytest.mark.parametrize(
    ("size", "limit", "action"),
    [
        (1 << 20, 1 << 20, Action.SEND),
        ((1 << 20) + 1, 1 << 20, Action.QUARANTINE),
        (1 << 40, 0, Action.SEND),
    ],
)
def test_the_largest_directory_that_is_zipped(size: int, limit: int, action: Action) -> None:
    rules = replace(ZIPS, dir_size_limit=limit)
    decision = decide(sized(size), rules, NOW)
    assert decision.action is action
    if action is Action.QUARANTINE:
        words = "it holds 1048577 bytes, more than may be zipped: dir_size_limit = 1 MiB (1048576 bytes)"
        assert decision.reasons[-1].text == words
        assert decide(sized(size), replace(rules, zips=False), NOW).action is Action.SEND


def test_a_directory_that_still_grows_is_not_judged_by_its_size() -> None:
    growing = replace(sized(1 << 30), unchanged_since=NOW - 1)
    assert (decide(growing, ZIPS, NOW).action, codes(growing, ZIPS)[-1]) == (Action.WAIT, "settle")
    assert codes(replace(growing, writers=Writers.SOME), ZIPS)[-1] == "open"


def test_what_would_have_one_name_at_the_target() -> None:
    waits = decide(replace(TREE, beside="run.zip lies beside it"), ZIPS, NOW)
    assert (waits.action, waits.reasons[-1].code) == (Action.WAIT, "beside")
    assert waits.look_again is not None
    assert waits.look_again > NOW
    taken = decide(replace(FACTS, name=b"run.zip", taken="it has the name of a zip"), ZIPS, NOW)
    assert (taken.action, taken.reasons[-1].code) == (Action.QUARANTINE, "taken")


def test_a_name_that_is_too_long_for_its_zip() -> None:
    assert decide(replace(TREE, name=b"x" * 251), ZIPS, NOW).action is Action.SEND
    too_long = replace(TREE, name=b"x" * 252)
    assert (decide(too_long, ZIPS, NOW).action, codes(too_long, ZIPS)[-1]) == (Action.QUARANTINE, "long")


NAMES = st.one_of(
    st.binary(min_size=1, max_size=40).filter(lambda n: b"\0" not in n and not n.startswith(b"/")),
    st.sampled_from([b".stop", b"a/.mistamover/b", b".a.123456", b"x.tmp", b"d/x.bak", b"cache/a", b"-rf"]),
)
TIMES = st.floats(min_value=0, max_value=2 * NOW, allow_nan=False)
IDENTITIES = st.builds(Identity, *[st.integers(0, 3)] * 5)
ANY_FACTS = st.builds(
    Facts,
    name=NAMES,
    kind=st.sampled_from(Kind),
    identity=IDENTITIES,
    writers=st.sampled_from(Writers),
    unchanged_since=TIMES,
    attempts=st.integers(0, 5),
    retry_at=TIMES,
    last_failure=st.text(max_size=5),
    quarantined=st.sampled_from(["", "", "", "why"]),
    delivered=st.none() | IDENTITIES,
    hold=st.none() | st.just(Reason(code="circuit", words="down")),
    unreadable=st.sampled_from(["", "no"]),
)
ANY_RULES = st.builds(
    lambda mode, dots, links, quiet, age, retries: replace(
        RULES,
        mode=mode,
        send_dot_files=dots,
        symlinks=links,
        settle_time=quiet,
        minimum_age=age,
        retry_count=retries,
    ),
    st.sampled_from(TransferMode),
    st.booleans(),
    st.sampled_from(LinkPolicy),
    st.floats(0, 100),
    st.floats(0, 100),
    st.integers(0, 5),
)


@given(ANY_FACTS, ANY_RULES, TIMES)
def test_any_facts_give_one_reasoned_decision(facts: Facts, rules: Rules, now: float) -> None:
    decision = decide(facts, rules, now)
    assert decision == decide(facts, rules, now)
    assert decision.reasons
    assert all(reason.code and reason.text for reason in decision.reasons)
    if decision.look_again is not None:
        assert decision.action is Action.WAIT


@given(ANY_FACTS, ANY_RULES, TIMES)
def test_waiting_ends(facts: Facts, rules: Rules, now: float) -> None:
    """A unit of which nothing changes is not waiting for ever: following the looks leads to an end, or to an event."""
    for _ in range(5):
        decision = decide(facts, rules, now)
        if decision.action is not Action.WAIT or decision.look_again is None or facts.writers is Writers.SOME:
            return
        assert decision.look_again >= now
        now = decision.look_again + 1e-3
    raise AssertionError("it waits and waits")


@pytest.mark.parametrize(("heard", "pause"), [(0.0, 0.002), (0.1, 0.1), (3600.0, 5.0)])
def test_an_open_file_is_looked_at_again_at_once_and_then_ever_more_rarely(heard: float, pause: float) -> None:
    # The kernel reports the close a moment before it lets go of the file: the first refusal may be that moment.
    facts = replace(FACTS, writers=Writers.SOME, heard_at=NOW - heard)
    look_again = decide(facts, RULES, NOW).look_again
    assert look_again is not None
    assert look_again == pytest.approx(NOW + pause, abs=1e-4)


def test_an_empty_file_is_given_the_time_to_be_opened_by_its_creator() -> None:
    # A new file has a name a moment before its creator counts as a writer.
    empty = replace(FACTS, identity=replace_size(FACTS, 0), writers=Writers.NONE, unchanged_since=NOW - 0.1)
    decision = decide(empty, RULES, NOW)
    assert (decision.action, decision.reasons[-1].code) == (Action.WAIT, "settle")
    assert decision.look_again == pytest.approx(NOW + 0.4)
    assert decide(replace(empty, unchanged_since=NOW - 0.6), RULES, NOW).action is Action.SEND
    assert decide(replace(empty, identity=replace_size(FACTS, 1)), RULES, NOW).action is Action.SEND


def replace_size(facts: Facts, size: int) -> Identity:
    return facts.identity._replace(size=size)


def test_a_file_with_several_names_waits_for_all_of_them() -> None:
    linked = replace(FACTS, links=2, writers=Writers.NONE, unchanged_since=NOW - 0.1)
    assert decide(linked, RULES, NOW).look_again == pytest.approx(NOW + 0.4)
    assert decide(replace(linked, unchanged_since=NOW - 0.6), RULES, NOW).action is Action.SEND
    assert decide(replace(linked, links=1), RULES, NOW).action is Action.SEND
