"""Who sends next: pure arithmetic, no connection."""

from __future__ import annotations

from collections import Counter
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.links.turns import Request, Turns


def request(stream: str, *, weight: float = 1, cost: float = 1, target: str = "t") -> Request:
    return Request(target=target, stream=stream, weight=weight, cost=cost)


class Line:
    """Turns of one target, and which stream has which ticket."""

    def __init__(self, at_once: int = 1) -> None:
        self.turns = Turns(at_once)
        self.owner: dict[int, str] = {}

    def ask(self, stream: str, **more: float) -> int:
        ticket = self.turns.ask(request(stream, **more))
        self.owner[ticket] = stream
        return ticket

    def serve(self) -> list[str]:
        """Serve whoever is next to the end; return the streams."""
        tickets = self.turns.next()
        for ticket in tickets:
            self.turns.done(ticket)
        return [self.owner[ticket] for ticket in tickets]

    def served(self, rounds: int, **always: float) -> list[str]:
        """Given streams that always ask, with their weights, return who is served in so many rounds."""
        for stream, weight in always.items():
            self.ask(stream, weight=weight)
        found = []
        for _ in range(rounds):
            for stream in self.serve():
                found.append(stream)
                self.ask(stream, weight=always[stream])
        return found


def test_nobody_in_line_gets_nothing() -> None:
    assert Turns(4).next() == []


def test_who_is_alone_is_served_at_once_and_once() -> None:
    turns = Turns(4)
    ticket = turns.ask(request("a"))
    assert turns.next() == [ticket]
    assert turns.next() == []


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_so_many_are_served_at_a_time_and_the_next_when_one_is_done(at_once: int) -> None:
    turns = Turns(at_once)
    tickets = [turns.ask(request(f"s{number}")) for number in range(10)]
    assert turns.next() == tickets[:at_once]
    assert turns.next() == []
    turns.done(tickets[0])
    assert turns.next() == tickets[at_once : at_once + 1]


def test_targets_do_not_wait_for_each_other() -> None:
    turns = Turns(1)
    first, second = turns.ask(request("a", target="one")), turns.ask(request("a", target="two"))
    assert sorted(turns.next()) == [first, second]


def test_who_gives_up_waiting_is_not_served_and_holds_nobody_up() -> None:
    turns = Turns(1)
    held, given_up, other = (turns.ask(request(name)) for name in "abc")
    assert turns.next() == [held]
    turns.done(given_up)
    turns.done(held)
    assert turns.next() == [other]


def test_done_twice_and_of_an_unknown_ticket_is_harmless() -> None:
    turns = Turns(1)
    first, second = turns.ask(request("a")), turns.ask(request("b"))
    assert turns.next() == [first]
    turns.done(first)
    turns.done(first)
    turns.done(4711)
    assert turns.next() == [second]
    assert turns.next() == []


def test_equal_streams_take_turns() -> None:
    found = Line().served(12, a=1, b=1, c=1)
    assert all(set(found[at : at + 3]) == {"a", "b", "c"} for at in range(0, 12, 3))


def test_who_sends_much_at_a_time_is_served_less_often() -> None:
    line, bytes_of = Line(), Counter[str]()
    costs = {"large": 10.0, "small": 1.0}
    for stream, cost in costs.items():
        line.ask(stream, cost=cost)
    for _ in range(220):
        for stream in line.serve():
            bytes_of[stream] += int(costs[stream])
            line.ask(stream, cost=costs[stream])
    assert abs(bytes_of["large"] - bytes_of["small"]) <= 10


def test_who_was_idle_does_not_save_up_turns() -> None:
    line = Line()
    line.ask("busy")
    for _ in range(1000):
        assert line.serve() == ["busy"]
        line.ask("busy")
    line.ask("idle")
    line.ask("idle")
    found = [stream for _ in range(2) for stream in line.serve()]
    assert sorted(found) == ["busy", "idle"], "one each, not the old debt first"


def test_who_comes_to_a_long_line_is_not_behind_all_of_it() -> None:
    line = Line()
    for _ in range(100):
        line.ask("busy")
    line.ask("late")
    assert "late" in [stream for _ in range(2) for stream in line.serve()]


def test_when_nobody_is_in_line_old_debts_are_forgotten() -> None:
    line = Line()
    line.ask("a", cost=1e9)
    assert line.serve() == ["a"]
    for stream in ("a", "b"):
        line.ask(stream)
    assert line.serve() == ["a"], "first come, first served"


@pytest.mark.parametrize("weight", [0.0, 1e-9, -5.0])
def test_a_weight_that_is_none_starves_nobody(weight: float) -> None:
    line = Line()
    heavy = "heavy"
    line.ask(heavy, weight=1000)
    line.ask("light", weight=weight)
    found: list[str] = []
    for _ in range(1002):
        found += line.serve()
        line.ask(found[-1], weight=1000 if found[-1] == heavy else weight)
    assert found.count("light") >= 1


def shares(weights: list[int]) -> None:
    """Given weights, all always asking at equal cost: served shares follow the weights within one request."""
    streams = {f"s{number}": float(weight) for number, weight in enumerate(weights)}
    total, done = sum(weights), Counter[str]()
    line = Line()
    for rounds, stream in enumerate(line.served(total * 2, **streams), 1):
        done[stream] += 1
        for name, weight in streams.items():
            assert abs(done[name] - rounds * weight / total) <= len(weights), (rounds, done)
            for other, much in streams.items():
                # The measure of the paper: what two got, by their weights, differs by one request of each at most.
                assert abs(done[name] / weight - done[other] / much) <= 1 / weight + 1 / much + 1e-9, (rounds, done)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=5))
def test_with_equal_costs_the_shares_follow_the_weights_within_one_request(weights: list[int]) -> None:
    shares(weights)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.sampled_from("abc"), st.sampled_from("tu"), st.floats(0, 1e6)),
            st.tuples(st.just("done"), st.integers(0, 60)),
            st.tuples(st.just("next")),
        ),
        max_size=60,
    ),
    st.integers(1, 4),
)
def test_whatever_happens_each_ticket_is_served_once_and_never_too_many_at_a_time(
    acts: list[tuple[object, ...]], at_once: int
) -> None:
    turns = Turns(at_once)
    target: dict[int, object] = {}
    served: set[int] = set()
    over: set[int] = set()

    def take() -> None:
        for ticket in turns.next():
            assert ticket not in served | over
            served.add(ticket)
        running = Counter(target[ticket] for ticket in served - over)
        assert all(number <= at_once for number in running.values())

    for act, *words in acts:
        if act == "ask":
            stream, place, cost = words
            ticket = turns.ask(Request(target=str(place), stream=str(stream), weight=1, cost=float(str(cost))))
            target[ticket] = place
        elif act == "done":
            turns.done(int(str(words[0])))
            over.update({int(str(words[0]))} & set(target))
        else:
            take()
    # Nobody waits for ever: when those that are served end, all the others are.
    for _ in range(len(target) + 1):
        take()
        for ticket in served - over:
            turns.done(ticket)
            over.add(ticket)
    assert set(target) <= over


def test_two_streams_of_which_one_asks_only_now_and_then() -> None:
    """It is served next whenever it comes, and does not stay ahead."""
    line = Line(at_once=1)
    pattern = list(islice(cycle([True, False, False, False]), 40))
    line.ask("steady")
    for comes in pattern:
        if comes:
            line.ask("rare")
            assert "rare" in line.serve() + line.serve()
            line.ask("steady")
        else:
            assert line.serve() == ["steady"]
            line.ask("steady")
