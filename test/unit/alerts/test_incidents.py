"""The life of incidents, played with a given clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mistamover.alerts.incidents import Condition, Incident, Kind, News, Rules, incidents

RULES = Rules(after=30, remind_interval=1000, gather=2)


def condition(subject: str = "host", words: str = "cannot be used") -> Condition:
    return Condition(kind=Kind.UNREACHABLE, subject=subject, words=words)


class Life:
    """Plays looks, and keeps what is told: (time, opened, reminded, closed)."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.known: tuple[Incident, ...] = ()
        self.told: list[tuple[float, News]] = []

    def look(self, now: float, *seen: Condition) -> None:
        self.known, news = incidents(self.known, seen, now, self.rules)
        if news:
            self.told.append((now, news))

    def looks(self, moments: Iterable[float], *seen: Condition) -> None:
        for now in moments:
            self.look(now, *seen)

    def steps(self) -> list[tuple[float, list[str], list[str], list[str]]]:
        def names(found: tuple[Incident, ...]) -> list[str]:
            return [each.condition.subject for each in found]

        return [(now, names(n.opened), names(n.reminded), names(n.closed)) for now, n in self.told]


def test_what_lasts_is_told_once_and_once_when_it_is_over() -> None:
    life = Life()
    life.looks(range(100), condition())
    life.looks(range(100, 300))
    assert life.steps() == [(32, ["host"], [], []), (132, [], [], ["host"])]
    assert life.known == ()
    (_, opened), (_, closed) = life.told
    assert opened.opened[0].id == closed.closed[0].id
    assert closed.closed[0].gone == 100


def test_a_blip_is_told_to_nobody() -> None:
    life = Life()
    life.looks(range(25), condition())
    life.looks(range(25, 200))
    assert life.told == []
    assert life.known == ()


def test_what_comes_and_goes_all_the_time_lasts() -> None:
    life = Life()
    for now in range(0, 100, 10):
        life.look(now, condition())
        life.look(now + 5)
    assert [step[1:] for step in life.steps()] == [(["host"], [], [])]


def test_a_pause_of_the_trouble_does_not_end_the_incident() -> None:
    life = Life()
    life.looks(range(40), condition())
    life.looks(range(40, 65))
    life.looks(range(65, 200), condition())
    assert len(life.told) == 1


def test_what_lasts_is_told_again_every_remind_interval() -> None:
    life = Life()
    life.looks(range(2500), condition())
    assert [(step[1], step[2]) for step in life.steps()] == [(["host"], []), ([], ["host"]), ([], ["host"])]
    assert life.known[0].reminders == 2


def test_nothing_is_told_again_where_that_is_not_wanted() -> None:
    life = Life(replace(RULES, remind_interval=0))
    life.looks(range(0, 10**6, 100), condition())
    assert len(life.told) == 1


def test_a_burst_is_told_in_one_message() -> None:
    life = Life()
    life.look(0, condition("a"))
    life.look(1, condition("a"), condition("b"))
    life.looks(range(2, 60), condition("a"), condition("b"), condition("c"))
    assert life.steps()[0] == (32, ["a", "b", "c"], [], [])
    assert len(life.told) == 1


def test_the_words_of_the_last_look_are_told() -> None:
    life = Life()
    life.looks(range(20), condition())
    life.looks(range(20, 40), condition(words="refused"))
    assert life.told[0][1].opened[0].condition.words == "refused"


@given(st.lists(st.tuples(st.integers(1, 60), st.sets(st.sampled_from("abc"))), max_size=60))
def test_each_incident_is_opened_before_it_is_over_and_both_only_once(looks: list[tuple[int, set[str]]]) -> None:
    life = Life()
    now = 0
    for pause, seen in [*looks, *[(5, set())] * 20]:
        now += pause
        life.look(now, *map(condition, sorted(seen)))
    opened = [each.id for _, news in life.told for each in news.opened]
    closed = [each.id for _, news in life.told for each in news.closed]
    assert len(set(opened)) == len(opened)
    # After a hundred quiet seconds everything that was told is over.
    assert sorted(opened) == sorted(closed)
    assert life.known == ()
