"""INI files from answers: the text of new ones, small edits of existing ones, and both put in place or neither."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mistamover.config import schema
from mistamover.config.expand import Entry, Place
from mistamover.config.read import IniFile, read
from mistamover.errors import MistamoverError, UsageError
from mistamover.files.durable import sync_directory, write_whole

_WIDTH = 110
#: Up to the separator, the value, and a comment with the blanks before it.
_LINE = re.compile(r"([^:=]*[:=])(.*?)(\s*|\s+[#;].*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file that is to be made or edited."""

    path: Path
    before: bytes | None
    """None: there must be no such file yet."""
    after: bytes


def encoded(text: str) -> bytes:
    """Given text as it was typed, return its bytes; what is not UTF-8 comes out as it came in."""
    return text.encode("utf-8", "surrogateescape")


def parsed(text: bytes) -> IniFile:
    """Given the content of an INI file, return it taken apart."""
    return read(Path("draft"), word_keys=schema.word_keys(), draft=text)


def written(place: Place, value: str) -> str:
    """Given a key and its value, return the value as an INI file has it. Raise UsageError if none can."""
    for form in (value, f'"{value}"', f"'{value}'"):
        found = parsed(encoded(f"[{place.section}]\n{place.key} = {form}\n")).entries()
        if len(found) == 1 and found[0].text == value:
            return form
    shown = "the value" if schema.is_secret(place.key) else repr(value)
    raise UsageError(
        f"[{place.section}] {place.key}: {shown} cannot be written in an INI file, expected one plain line"
    )


def fresh(head: str, answers: Iterable[tuple[Place, str]]) -> bytes:
    """Given a sentence and keys with their values, return a whole file, explained by the words of the schema."""
    order = {Place(option.section, option.key): number for number, option in enumerate(schema.options())}
    lines = _comment(f'{head} Made by "mistamover init"; every key is described on the reference page "configuration".')
    section = ""
    for place, value in sorted(answers, key=lambda answer: order.get(answer[0], len(order))):
        if place.section != section:
            section = place.section
            lines += ["", f"[{section}]"]
        option = schema.find(*place)
        lines += ["", *_comment(option.help if option else ""), f"{place.key} = {written(place, value)}".rstrip()]
    return encoded("\n".join(lines) + "\n")


def with_key(text: bytes, place: Place, value: str) -> bytes:
    """Given a file's content and a key that it does not set, return it with the key; all else stays as it is."""
    ini, form = parsed(text), written(place, value)
    if (place.section, place.key) in ini.origins:
        return _edited(text, ini.origins[place.section, place.key], lambda _: form)
    lines = text.split(b"\n")
    if (place.section, "") in ini.origins:
        number = ini.origins[place.section, ""]
        end = b"\r" if lines[number - 1].endswith(b"\r") else b""
        # The header may be the last line, without an end.
        lines[number:number] = [encoded(f"{place.key} = {form}") + end]
        return b"\n".join(lines)
    gap = b"" if text.endswith(b"\n") or not text else b"\n"
    return text + gap + encoded(f"\n[{place.section}]\n{place.key} = {form}\n")


def with_word(text: bytes, place: Place, word: str) -> bytes:
    """Given a file's content, a key that holds words, and one more, return the content with the word at the end."""
    ini = parsed(text)
    now = next((entry for entry in ini.entries() if entry.place == place), None)
    if now is None or not now.is_set:
        return with_key(text, place, word)

    def longer(value: str) -> str:
        between = ", " if "," in value and not value.endswith(",") else " "
        return f"{value}{between}{word}" if value else word

    return _edited(text, ini.origins[place.section, place.key], longer)


def is_set(text: bytes, place: Place) -> Entry | None:
    """Given a file's content and a key, return what is written there; None if that says nothing."""
    return next((entry for entry in parsed(text).entries() if entry.place == place and entry.is_set), None)


def put_in_place(changes: Sequence[Change]) -> None:
    """Given changes, make all of them in their order or none. Raise MistamoverError if one is not possible.

    New files can be read by their owner only and replace nothing; edited ones keep their owner and mode.
    """
    with contextlib.ExitStack() as undo:
        for change in changes:
            try:
                if change.before is None:
                    make_directory(change.path.parent, undo)
                    _make(change)
                    undo.callback(_forget, change.path)
                else:
                    _edit(change)
            except OSError as error:
                raise MistamoverError(f"{change.path} cannot be written: {error.strerror}") from error
        undo.pop_all()


def make_directory(path: Path, undo: contextlib.ExitStack) -> None:
    """Given a directory, make it with those above it if it is not there; they go again when the stack is unwound."""
    if not path.is_dir():
        make_directory(path.parent, undo)
        path.mkdir()
        undo.callback(_leave, path)


def _edited(text: bytes, number: int, change: Callable[[str], str]) -> bytes:
    lines = text.split(b"\n")
    match = _LINE.fullmatch(lines[number - 1].decode("utf-8", "surrogateescape"))
    if match is None:
        raise UsageError(f"line {number} cannot be edited here: edit it by hand")
    head, value, tail = match.groups()
    value = value.strip()
    lines[number - 1] = encoded(f"{head} {change(value if value != 'None' else '')}{tail}")
    return b"\n".join(lines)


def _make(change: Change) -> None:
    temporary = change.path.with_name(f".{change.path.name}.{os.getpid()}.new")
    write_whole(temporary, change.after, mode=0o600)
    try:
        # Unlike a rename it fails where the name is taken.
        os.link(temporary, change.path)
    except FileExistsError:
        raise UsageError(f"{change.path} exists already, and is left as it is") from None
    finally:
        temporary.unlink()
    sync_directory(change.path.parent)


def _edit(change: Change) -> None:
    path = Path(os.path.realpath(change.path))
    if path.read_bytes() != change.before:
        raise UsageError(f"{path} was changed by somebody else meanwhile: start again")
    status = path.stat()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write_whole(temporary, change.after, mode=0o600)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(temporary, status.st_uid, status.st_gid)
        temporary.chmod(stat.S_IMODE(status.st_mode))
        os.rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def _leave(path: Path) -> None:
    # Somebody else may have put something into it.
    with contextlib.suppress(OSError):
        path.rmdir()


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")
