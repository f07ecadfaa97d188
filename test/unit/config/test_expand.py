"""Substitution of references, in the context of the file that wrote the value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.expand import DEFAULTS, Context, Entry, ExpandError, Place
from mistamover.errors import Problem


def entries(file: str, **texts: str) -> list[Entry]:
    """Given texts by `section__key`, return entries with line numbers from 1 on."""
    places = (Place(*name.split("__")) for name in texts)
    return [
        Entry(place=place, text=text, file=file, line=line)
        for line, (place, text) in enumerate(zip(places, texts.values(), strict=True), start=1)
    ]


def problem_of(context: Context, section: str, key: str) -> Problem:
    with pytest.raises(ExpandError) as caught:
        context.expanded(Place(section, key))
    return caught.value.problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(s:a)", "A"),
        ("$(s:A)", "A"),
        ("$( s:a)", "$( s:a)"),
        ("$(s: a )", "A"),
        ("x$(s:a)y$(s:a)", "xAyA"),
        ("$(s:b)", "AA/b"),
        ("$(s-2_x:c)", "C"),
        ("%(a)s", "A"),
        ("%(A)s-%(e)s", "A-E"),
        ("%(unknown)s %d 100%", "%(unknown)s %d 100%"),
        ("%Y%m%d %%", "%Y%m%d %%"),
        ("$(DEFAULT:e)", "E"),
        ("$s:a $ $( $()", "$s:a $ $( $()"),
    ],
)
def test_references_are_replaced(text: str, expected: str) -> None:
    context = Context(
        [
            *entries("g", s__a="A", s__b="$(s:a)%(a)s/b", DEFAULT__e="E", s__x=text),
            Entry(place=Place("s-2_x", "c"), text="C", file="g", line=9),
        ]
    )
    assert context.expanded(Place("s", "x")) == expected


def test_an_inherited_value_is_expanded_among_the_values_of_its_own_file() -> None:
    outer = Context(entries("g", s__top="/g", s__dir="$(s:top)/d"))
    inner = Context(entries("i", s__top="/i", s__own="$(s:top)/o $(s:dir)"), inherits=outer)
    assert inner.expanded(Place("s", "dir")) == "/g/d"
    assert inner.expanded(Place("s", "own")) == "/i/o /g/d"


def test_an_empty_value_asks_for_the_default_and_not_for_the_inherited_value() -> None:
    default = Entry(place=Place("s", "a"), text="D", file=DEFAULTS, line=None)
    outer = Context(entries("g", s__a="G"), defaults=[default])
    assert Context(entries("i", s__a=""), inherits=outer).expanded(Place("s", "a")) == "D"
    assert Context(entries("i", s__a="None"), inherits=outer).expanded(Place("s", "a")) == "D"


def test_a_reference_to_a_key_that_nobody_set_gives_its_default() -> None:
    default = Entry(place=Place("s", "d"), text="$(s:a)/d", file=DEFAULTS, line=None)
    context = Context(entries("g", s__a="A", s__x="$(s:d)"), defaults=[default])
    assert context.expanded(Place("s", "x")) == "A/d"


def test_an_undefined_reference_is_a_problem_of_the_value_that_holds_it() -> None:
    context = Context(entries("g", global__homedir="/h", s__a="$(global:homdir)/x", s__b="$(s:a)"))
    problem = problem_of(context, "s", "b")
    assert (problem.file, problem.line, problem.section, problem.key) == ("g", 2, "s", "a")
    assert "$(global:homdir)" in problem.message
    assert problem.hint == 'did you mean "global:homedir"?'


def test_an_empty_value_cannot_be_referred_to() -> None:
    assert "not set" in problem_of(Context(entries("g", s__a="", s__b="$(s:a)/x")), "s", "b").message


def test_a_circle_is_one_problem_that_shows_the_chain() -> None:
    context = Context(entries("g", s__a="$(s:b)", s__b="x$(s:c)", s__c="$(s:a)", s__d="$(s:c)"))
    problems = {problem_of(context, "s", key) for key in "abcd"}
    assert len(problems) == 1
    (problem,) = problems
    assert "s:a -> s:b -> s:c -> s:a" in problem.message
    assert problem.line == 1


def test_a_value_that_refers_to_itself_is_a_circle() -> None:
    assert "s:a -> s:a" in problem_of(Context(entries("g", s__a="$(s:a)/x")), "s", "a").message


def test_the_same_place_in_two_files_is_no_circle() -> None:
    outer = Context(entries("g", s__a="/g", s__b="$(s:a)/b"))
    inner = Context(entries("i", s__a="$(s:b)/a"), inherits=outer)
    assert inner.expanded(Place("s", "a")) == "/g/b/a"


def test_values_that_double_each_other_are_stopped() -> None:
    texts = {f"s__k{n}": f"$(s:k{n + 1})" * 10 for n in range(30)}
    assert "longer than" in problem_of(Context(entries("g", **texts, s__k30="x" * 100)), "s", "k0").message


def test_a_chain_of_many_thousand_values_is_stopped() -> None:
    texts = {f"s__k{n}": f"$(s:k{n + 1})" for n in range(20000)}
    assert "references deep" in problem_of(Context(entries("g", **texts, s__k20000="x")), "s", "k0").message


@given(st.text(st.characters(exclude_characters="$%")))
def test_text_without_a_reference_stays_as_it_is(text: str) -> None:
    value = Context(entries("g", s__a=text)).expanded(Place("s", "a"))
    assert value == (None if text in ("", "None") else text)
