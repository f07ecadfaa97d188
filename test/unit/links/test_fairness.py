"""Fair shares of turns where batches differ in size: nobody is ahead by more than a batch, and nobody starves."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.links.turns import Request, Turns


def request(stream: str, *, weight: float = 1.0, cost: float = 1.0) -> Request:
    return Request(target="t", stream=stream, weight=weight, cost=cost)


def serve(turns: Turns, waiting: dict[int, Request], rounds: int) -> list[str]:
    """Given who waits, serve one after the other, each asking again before it is done; return the streams in order."""
    order = []
    for _ in range(rounds):
        (ticket,) = turns.next()
        wish = waiting.pop(ticket)
        order.append(wish.stream)
        waiting[turns.ask(wish)] = wish
        turns.done(ticket)
    return order


def line_up(turns: Turns, *wishes: Request) -> dict[int, Request]:
    return {turns.ask(wish): wish for wish in wishes}


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(1, 1000)), min_size=2, max_size=6),
    st.integers(1, 120),
)
def test_given_any_weights_and_costs_when_all_have_much_then_none_is_ahead_by_more_than_a_batch_of_each(
    streams: list[tuple[int, int]], rounds: int
) -> None:
    turns = Turns(1)
    wishes = [request(str(n), weight=weight, cost=cost) for n, (weight, cost) in enumerate(streams)]

    served = Counter(serve(turns, line_up(turns, *wishes), rounds))

    # The bound of Goyal, Vin and Cheng on what two streams got, each by its weight.
    got = [served[wish.stream] * wish.cost / wish.weight for wish in wishes]
    largest = [wish.cost / wish.weight for wish in wishes]
    for one in range(len(wishes)):
        for other in range(one):
            assert abs(got[one] - got[other]) <= (largest[one] + largest[other]) * (1 + 1e-9)


@pytest.mark.parametrize("others", [1, 7])
def test_given_a_light_stream_among_heavy_ones_when_served_then_it_never_starves(others: int) -> None:
    turns = Turns(1)
    heavy = [request(f"heavy{n}", weight=100) for n in range(others)]

    order = serve(turns, line_up(turns, request("light"), *heavy), 1010 * others)

    moments = [at for at, stream in enumerate(order) if stream == "light"]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert len(moments) >= 10
    assert max(gaps) <= 101 * others + 1


def test_given_a_stream_that_pauses_when_it_comes_back_then_the_others_have_not_lost_their_share() -> None:
    turns = Turns(1)
    waiting = line_up(turns, request("a"), request("b"))
    serve(turns, waiting, 10)
    paused = next(ticket for ticket, wish in waiting.items() if wish.stream == "a")
    turns.done(paused)
    del waiting[paused]
    serve(turns, waiting, 500)

    waiting.update(line_up(turns, request("a")))

    assert Counter(serve(turns, waiting, 40)) == {"a": 20, "b": 20}


def test_given_a_ticket_that_is_over_when_done_again_then_the_next_one_keeps_its_turn() -> None:
    turns = Turns(1)
    first, second, third = (turns.ask(request(name)) for name in "abc")
    assert turns.next() == [first]
    turns.done(first)
    assert turns.next() == [second]

    turns.done(first)

    assert turns.next() == []
    turns.done(second)
    assert turns.next() == [third]
