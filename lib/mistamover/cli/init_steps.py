"""The steps of `mistamover init`: the questions, the login, one last look, and only then the files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mistamover.cli.init_draft import Draft
from mistamover.cli.init_files import make_directory, put_in_place
from mistamover.cli.init_interview import Interview
from mistamover.cli.init_talk import Talk
from mistamover.cli.init_try import try_login
from mistamover.config.expand import Place
from mistamover.config.settings import StreamSettings
from mistamover.errors import ConfigError, MistamoverError, UsageError

_ANSWERS = _CORRECT, _AGAIN, _GO_ON, _STOP = "correct", "try", "write", "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line says."""

    file: Path
    """The global file, there or not."""
    given: Mapping[str, str]
    """The values of options, by their names."""
    sets: Mapping[Place, str]
    only_global: bool
    everything: bool
    check: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was done."""

    file: Path
    stream: str
    """Empty if only a global file was made."""
    stream_file: Path | None
    sends: bool
    written: tuple[Path, ...]
    edited: tuple[Path, ...]
    directories: tuple[Path, ...]
    tried: bool
    allows: tuple[str, ...]
    """What the target was found to allow."""
    error: str
    """Why the login failed, where the files were wanted all the same."""
    warnings: tuple[str, ...]
    """What is to be known of the new stream, though nothing is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Login:
    tried: bool = False
    allows: tuple[str, ...] = ()
    error: str = ""


def make(wanted: Wanted, talk: Talk | None) -> Outcome:
    """Given what is wanted and whom to ask, make the files. Raise MistamoverError or EOFError, with nothing written."""
    draft = Draft(wanted.file)
    interview = Interview(draft, wanted.given, wanted.sets, talk)
    if wanted.only_global and not draft.is_new:
        raise UsageError(f"{draft.file} exists already, and is left as it is")
    if talk is not None:
        found = "will be made" if draft.is_new else "is there, and gets one more stream"
        talk.say(f"The configuration {draft.file} {found}. Nothing is written before the last question.")
        talk.say("What stands in brackets is taken if you just press Enter; Ctrl-C ends.")
    login = _Login()
    if wanted.only_global:
        interview.finish()
        draft.settings()
    else:
        interview.hold(everything=wanted.everything)
        stream = _mended(draft, interview, talk)
        if wanted.check and stream.targets:
            login = _logged_in(draft, interview, talk)
    return _written(draft, talk, login)


def _mended(draft: Draft, interview: Interview, talk: Talk | None) -> StreamSettings:
    """Return the stream's settings; as long as answers do not fit together, ask again."""
    while True:
        try:
            return draft.stream()
        except ConfigError as error:
            if talk is None:
                raise
            talk.say()
            for problem in error.problems:
                talk.say(f"[{problem.section}] {problem.key}: {problem.message} ({problem.hint})")
        if talk.choose("What now?", (_CORRECT, _STOP)) == _STOP:
            raise EOFError
        interview.again()


def _logged_in(draft: Draft, interview: Interview, talk: Talk | None) -> _Login:
    """Try the login until it works or is not wanted any more."""
    while True:
        stream = _mended(draft, interview, talk)
        if talk is not None:
            talk.say()
            talk.say(f"Trying {stream.targets[0].name}; a directory that is missing there may be made ...")
        try:
            allows = try_login(stream)
        except MistamoverError as error:
            if talk is None:
                raise MistamoverError(f"{error}\nnothing was written; --no-check writes it all the same") from error
            problem = str(error)
        else:
            if talk is not None:
                talk.say(f"It works: {'; '.join(allows)}.")
            return _Login(tried=True, allows=tuple(allows))
        talk.say(f"It does not work: {problem}")
        answer = talk.choose("Correct the answers, try again, write it all the same, or stop?", _ANSWERS)
        if answer == _GO_ON:
            return _Login(tried=True, error=problem)
        if answer == _STOP:
            raise EOFError
        if answer == _CORRECT:
            interview.again()


def _written(draft: Draft, talk: Talk | None, login: _Login) -> Outcome:
    stream = draft.stream() if draft.name else None
    missing = [path for path in _directories(stream) if not path.is_dir()]
    changes = draft.changes()
    found = draft.settings().warnings if stream else ()
    warnings = tuple(warning for warning in found if str(draft.stream_file) in warning)
    if talk is not None:
        talk.say()
        for line in draft.lines():
            talk.say(f"  {line}")
        talk.say()
        for warning in warnings:
            talk.say(f"Warning: {warning}")
        if missing:
            missing = missing if talk.agree(f"Make the directory {' and '.join(map(str, missing))}?") else []
        if not talk.agree(f"Write {' and '.join(str(change.path) for change in changes)}?"):
            raise EOFError
    with contextlib.ExitStack() as undo:
        for path in missing:
            try:
                make_directory(path, undo)
            except OSError as error:
                raise MistamoverError(f"the directory {path} cannot be made: {error.strerror}") from error
        put_in_place(changes)
        undo.pop_all()
    return Outcome(
        file=draft.file,
        stream=draft.name,
        stream_file=draft.stream_file if draft.name else None,
        sends=stream is not None and bool(stream.targets),
        written=tuple(change.path for change in changes if change.before is None),
        edited=tuple(change.path for change in changes if change.before is not None),
        directories=tuple(missing),
        tried=login.tried,
        allows=login.allows,
        error=login.error,
        warnings=warnings,
    )


def _directories(stream: StreamSettings | None) -> list[Path]:
    """Return the directories here that the stream needs."""
    if stream is None:
        return []
    return [stream.directory, *([stream.monitor.directory] if stream.monitor else [])]
