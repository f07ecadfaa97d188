"""A request that was given up before it was served costs its stream nothing."""

from __future__ import annotations

from mistamover.links.turns import Request, Turns


def request(stream: str, cost: float = 1.0) -> Request:
    return Request(target="t", stream=stream, weight=1.0, cost=cost)


def test_given_a_stream_that_gave_up_waiting_when_it_asks_again_then_it_owes_nothing() -> None:
    turns = Turns(1)
    holds = turns.ask(request("holds"))
    assert turns.next() == [holds]
    for _ in range(10):
        turns.done(turns.ask(request("gives up", 1000.0)))
    waiting = {turns.ask(request("gives up")): "gives up", turns.ask(request("other")): "other"}
    turns.done(holds)

    order = []
    for _ in range(10):
        (ticket,) = turns.next()
        stream = waiting.pop(ticket)
        order.append(stream)
        waiting[turns.ask(request(stream))] = stream
        turns.done(ticket)

    assert order.count("gives up") == 5


def test_given_a_stream_that_was_served_when_it_asks_again_then_it_owes_what_it_sent() -> None:
    turns = Turns(1)
    sent = turns.ask(request("sent", 5.0))
    fresh = turns.ask(request("fresh"))
    assert turns.next() == [sent]
    again = turns.ask(request("sent"))
    turns.done(sent)

    assert turns.next() == [fresh]
    turns.done(fresh)
    assert turns.next() == [again]
