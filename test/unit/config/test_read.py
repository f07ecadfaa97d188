"""The INI dialect: what a line means, and what is said of a line that means nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.read import LARGEST_FILE, LONGEST_LINE, IniFile, read


def written(tmp_path: Path, text: str | bytes) -> IniFile:
    path = tmp_path / "x.ini"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path, word_keys={"ignore"})


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("key = value", "key", "value"),
        ("key=value", "key", "value"),
        ("key: value", "key", "value"),
        ("key : a = b", "key", "a = b"),
        ("key = a:b", "key", "a:b"),
        ("KeY = Value", "key", "Value"),
        ("key =", "key", ""),
        ("key = # comment", "key", ""),
        ("key = a ; comment", "key", "a"),
        ("key = a # comment", "key", "a"),
        ("key = a\t# comment", "key", "a"),
        ("key = a#b;c", "key", "a#b;c"),
        ("password =#1", "password", "#1"),
        ('key = "a # b"', "key", "a # b"),
        ('key = "a # b" # c "d"', "key", "a # b"),
        ("key = ' a '", "key", " a "),
        ('key = ""', "key", ""),
        ('key = "a" and "b"', "key", '"a" and "b"'),
        ("key = it's", "key", "it's"),
        ("key = rsync -e 'ssh -i k'", "key", "rsync -e 'ssh -i k'"),
        ('ignore = "a b"', "ignore", '"a b"'),
        ("key = a, b", "key", "a, b"),
        ("key = %Y%m%d", "key", "%Y%m%d"),
        ("key = $x ${y} %(z)s", "key", "$x ${y} %(z)s"),
        ("key = '''", "key", "'''"),
        ("key = [x]", "key", "[x]"),
        ("key = é", "key", "é"),
    ],
)
def test_a_line_is_understood_as_the_dialect_has_it(tmp_path: Path, line: str, key: str, value: str) -> None:
    ini = written(tmp_path, f"[s]\n{line}\n")
    assert ini.problems == ()
    assert ini.config["s"][key] == value
    assert ini.origins["s", key] == 2


def test_comments_blank_lines_indentation_and_crlf_are_accepted(tmp_path: Path) -> None:
    ini = written(tmp_path, "\ufeff  # c\r\n  ; c\r\n\r\n  [ s ] ; c\r\n   \r\n  a = 1\r\n  b = 2\r\n")
    assert ini.problems == ()
    assert dict(ini.config["s"]) == {"a": "1", "b": "2"}
    assert ini.origins == {("s", ""): 4, ("s", "a"): 6, ("s", "b"): 7}


def test_deeper_lines_without_a_key_continue_the_value(tmp_path: Path) -> None:
    ini = written(tmp_path, "[s]\n  a = 1,\n    2, # two\n\n    # nothing\n      /x:y\n  b = 3\n    c = 4\n")
    assert dict(ini.config["s"]) == {"a": "1, 2, /x:y", "b": "3", "c": "4"}


def test_a_line_of_the_same_depth_without_a_key_is_a_problem(tmp_path: Path) -> None:
    (problem,) = written(tmp_path, "[s]\na = 1\nhunter2\n").problems
    assert (problem.line, problem.section) == (3, "s")
    assert "expected key = value" in problem.message


def test_the_text_of_a_broken_line_is_not_repeated_for_it_may_be_a_password(tmp_path: Path) -> None:
    (problem,) = written(tmp_path, "[s]\npassword hunter2\n").problems
    assert "hunter2" not in str(problem)


def test_the_last_of_two_equal_keys_counts_and_both_lines_are_named(tmp_path: Path) -> None:
    ini = written(tmp_path, "[s]\na = 1\n[t]\nb = 1\n[s]\nA = 2\n")
    assert ini.config["s"]["a"] == "2"
    (warning,) = ini.warnings
    assert (warning.line, warning.key) == (6, "a")
    assert "lines 2 and 6" in warning.message


def test_sections_that_come_twice_are_one(tmp_path: Path) -> None:
    ini = written(tmp_path, "[s]\na = 1\n[t]\nb = 1\n[s]\nc = 2\n")
    assert dict(ini.config["s"]) == {"a": "1", "c": "2"}
    assert (ini.problems, ini.warnings) == ((), ())


def test_section_names_keep_their_case(tmp_path: Path) -> None:
    assert written(tmp_path, "[s]\n[S]\n").config.sections == ["s", "S"]


def test_subsections_become_nested_sections(tmp_path: Path) -> None:
    ini = written(tmp_path, "[s]\na = 1\n[[t]]\nb = 2\n[u]\nc = 3\n")
    assert ini.problems == ()
    assert ini.config["s"]["t"]["b"] == "2"
    assert ini.config["u"]["c"] == "3"
    assert ini.origins["s/t", "b"] == 4


@pytest.mark.parametrize("line", ["[s", "[s] x", "[]", "[[s]", "[s]]", "[", "[a]b]", "[ ]", "[" * 16000])
def test_a_broken_section_line_is_one_problem_and_its_keys_are_skipped(tmp_path: Path, line: str) -> None:
    ini = written(tmp_path, f"[first]\na = 1\n{line}\nb = 2\n[last]\nc = 3\n")
    assert [problem.line for problem in ini.problems] == [3]
    assert dict(ini.config["first"]) == {"a": "1"}
    assert dict(ini.config["last"]) == {"c": "3"}


def test_a_key_above_all_sections_and_a_subsection_below_none_are_problems(tmp_path: Path) -> None:
    problems = written(tmp_path, "a = 1\n[[t]]\n").problems
    assert [problem.line for problem in problems] == [1, 2]


def test_a_subsection_and_a_key_cannot_share_a_name(tmp_path: Path) -> None:
    assert [p.line for p in written(tmp_path, "[s]\na = 1\n[[a]]\n").problems] == [3]
    assert [p.line for p in written(tmp_path, "[s]\n[[a]]\n[s]\na = 1\n").problems] == [4]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"[s]\na = \xff\n", 2, "UTF-8"),
        (b"[s]\na = \x00\n", 2, "control character"),
        (b"[s]\na = " + b"x" * LONGEST_LINE + b"\n", 2, "too long"),
        (b"[s]\na = x\n" + b"  yyyyyyyyyyyyyyy\n" * 2000, 1026, "too long with its continuation"),
        (b"#" * (LARGEST_FILE + 1), None, "too large"),
        (b"[s]\na = {{eval:1 + 1}}\n", 2, "not evaluated"),
    ],
)
def test_what_cannot_be_read_is_a_problem_with_its_line(
    tmp_path: Path, content: bytes, line: int | None, words: str
) -> None:
    problem = written(tmp_path, content).problems[0]
    assert problem.line == line
    assert words in problem.message
    assert problem.file == str(tmp_path / "x.ini")


def test_a_missing_file_a_directory_and_a_fifo_are_problems(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, words in (("missing", "does not exist"), (".", "directory"), ("fifo", "not a regular file")):
        ini = read(tmp_path / name)
        assert words in ini.problems[0].message.lower()
        assert not ini.readable


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "x.ini"
    path.touch(0)
    assert "permission denied" in read(path).problems[0].message


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), max_size=40).map(str.strip)


@given(_TEXT.filter(lambda text: '"' not in text))
def test_any_text_in_quotes_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    ini = written(tmp_path_factory.mktemp("ini"), f'[s]\nkey = "{text}"  # "comment"\n')
    if "{{eval:" not in text:
        assert ini.problems == ()
    assert ini.config["s"]["key"] == text


@given(st.binary(max_size=300))
def test_no_content_makes_the_reader_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    ini = written(tmp_path_factory.mktemp("ini"), b"[s]\n" + content)
    assert ini.readable
    assert all("\n" not in str(problem) for problem in ini.problems)
