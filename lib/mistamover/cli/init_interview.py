"""From a command line and a conversation to a draft: what was given is taken, what is missing is asked or defaulted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from mistamover.cli import init_questions as questions
from mistamover.cli.init_draft import Draft, is_global
from mistamover.cli.init_questions import DIRECTORY, INCOMING, NAME, PROTOCOL, RECIPIENT
from mistamover.cli.init_talk import Talk
from mistamover.config import check, schema
from mistamover.config.expand import Place
from mistamover.errors import UsageError
from mistamover.files.private import read_private


class Interview:
    """Settles one key after the other."""

    def __init__(self, draft: Draft, given: Mapping[str, str], sets: Mapping[Place, str], talk: Talk | None) -> None:
        """Given the draft to fill in, the values of options by their names without dashes, those of --set, and whom to
        ask (nobody: defaults count), be ready.
        """
        self._draft = draft
        self._given = dict(given)
        self._sets = dict(sets)
        self._talk = talk
        self._way = ""

    def hold(self, *, everything: bool = False) -> None:
        """Settle everything. Raise UsageError for what cannot be used and nobody can be asked about, EOFError."""
        self._settle(NAME, "name")
        self._settle(DIRECTORY, "directory", default=self._usual("data"))
        self._choose_way()
        self._take_sets()
        self._take_password_file()
        self._settle_way(everything)
        self._settle_mail()
        for unused in self._given:
            raise UsageError(f"{spelled(unused)} has no use here: {self._way} does not need it")

    def again(self) -> None:
        """Ask once more for how to get at the target, with what was answered as the defaults. Raise EOFError."""
        for place in questions.places(self._way):
            self._settle(place, "")

    def finish(self) -> None:
        """Only a global file is wanted: settle what it needs."""
        self._take_sets()
        self._settle_mail()
        for unused in self._given:
            raise UsageError(f"{spelled(unused)} has no use here: only a global file is made")

    # -- the way ------------------------------------------------------------------------------

    def _choose_way(self) -> None:
        known = questions.ways()
        usual = self._draft.inherited(PROTOCOL) or ""
        usual = usual if usual in known else known[0]
        given = self._given.pop("protocol", None) or self._sets.pop(PROTOCOL, None)
        if given is None and self._talk is not None:
            self._talk.say()
            self._talk.say(questions.explanation(PROTOCOL))
            for name in known:
                self._talk.say(f"  {name}: {questions.way(name).words}")
        while True:
            asked = self._talk.ask("[outgoing] transfer_protocol", usual) if self._talk and given is None else given
            said = asked or usual
            try:
                self._way = check.choice(said, *known)
                break
            except check.CheckError as error:
                words = f'"{said}" {error}' + (f" ({error.hint})" if error.hint else "")
            if given is not None or self._talk is None:
                raise UsageError(f"--protocol: {words}")
            self._talk.say(words)
        way = questions.way(self._way)
        for place, text in ((PROTOCOL, way.protocol or self._way), *way.fixed):
            self._refuse_if(self._draft.answer(place, text), "--protocol")

    def _settle_way(self, everything: bool) -> None:
        options = {
            questions.HOST: "target_host",
            questions.TARGET_DIR: "target_dir",
            questions.TARGET_URL: "target_url",
            questions.own(self._way, "username"): "username",
            questions.own(self._way, "transfer_mode"): "mode",
        }
        for place in questions.places(self._way, everything=everything):
            name = "password" if schema.is_secret(place.key) else options.get(place, "")
            if self._is_open(place, name) and self._makes_sense(place):
                self._settle(place, name, default=self._usual("incoming") if place == INCOMING else "")

    def _makes_sense(self, place: Place) -> bool:
        """Tell whether a key is to be settled: no password is needed where nobody logs in, or a file holds it."""
        if not schema.is_secret(place.key) or "password" in self._given:
            return True
        user = questions.own(self._way, "username")
        nobody = schema.find(*user) is not None and not (self._draft.given(user) or self._draft.inherited(user))
        return not nobody and self._draft.given(questions.own(self._way, "password_file")) is None

    def _settle_mail(self) -> None:
        if self._draft.inherited(RECIPIENT) is None:
            if self._is_open(RECIPIENT, "mail_to"):
                self._settle(RECIPIENT, "mail_to")
        elif "mail_to" in self._given:
            raise UsageError(f"--mail-to: [email] recipient is set in {self._draft.file} already: change it there")

    def _is_open(self, place: Place, name: str) -> bool:
        return self._draft.given(place) is None or name in self._given

    def _usual(self, kind: str) -> str:
        top = self._draft.inherited(Place("global", "top"))
        base = "$(global:top)" if top else os.fspath(self._draft.file.parent.parent)
        return f"{base}/{kind}/{self._draft.name}"

    # -- one key ------------------------------------------------------------------------------

    def _take_sets(self) -> None:
        for place, text in self._sets.items():
            spelling = f"--set {place.section}.{place.key}"
            if is_global(place) and self._draft.inherited(place) is not None:
                raise UsageError(f"{spelling}: it is set in {self._draft.file} already: change it there")
            self._refuse_if(self._draft.answer(place, text), spelling)

    def _take_password_file(self) -> None:
        """A file that holds the password is named to the protocols that can read one, and is read for the others."""
        word = self._given.pop("password_file", None)
        if word is None:
            return
        place = questions.own(self._way, "password_file")
        if schema.find(*place) is not None and word != "-":
            self._refuse_if(self._draft.answer(place, _whole(place, word)), "--password-file")
        else:
            self._given["password"] = _password(word)

    def _settle(self, place: Place, name: str, *, default: str = "") -> None:
        """Given a key, the option that gives it, and a default to be written, see that it has what it needs."""
        given = self._given.pop(name, None)
        if given is None:
            given = self._sets.pop(place, None)
        usual = self._draft.given(place) or self._draft.inherited(place) or default
        if given is None and self._talk is not None:
            self._ask(place, usual)
            return
        text = given if given is not None else self._unsaid(place, usual)
        wrong = self._draft.answer(place, _whole(place, text))
        self._refuse_if(wrong, spelled(name) if name else f"--set {place.section}.{place.key}=VALUE")

    def _ask(self, place: Place, usual: str) -> None:
        assert self._talk is not None
        option = schema.find(*place)
        secret = schema.is_secret(place.key)
        standard = (option.default or option.otherwise) if option and place != NAME else ""
        shown = "as before" if secret and usual else usual or standard
        self._talk.say()
        self._talk.say(questions.explanation(place))
        if found := questions.choices(place):
            self._talk.say(f"One of {', '.join(found)}.")
        while True:
            said = self._talk.ask(f"[{place.section}] {place.key}", shown, secret=secret)
            wrong = self._draft.answer(place, _whole(place, said or self._unsaid(place, usual)))
            if not wrong:
                return
            for words in wrong:
                self._talk.say(words)

    def _unsaid(self, place: Place, usual: str) -> str:
        """Given a key and its default, return what is written where nothing is said."""
        if usual:
            # What is inherited need not be written once more.
            return "" if self._draft.inherited(place) == usual else usual
        return _explicit(place)

    def _refuse_if(self, wrong: Iterable[str], spelling: str) -> None:
        if found := list(wrong):
            raise UsageError(f"{spelling}: {'; '.join(found)}")


def _password(word: str) -> str:
    lines = sys.stdin.readline().splitlines() if word == "-" else read_private(Path(word))
    if not lines:
        raise UsageError("--password-file: is empty, expected the password on its first line")
    return lines[0]


def spelled(name: str) -> str:
    """Given the name of an option as the parser stores it, return it as it is typed."""
    return "--password-file" if name == "password" else f"--{name.replace('_', '-')}"


def _explicit(place: Place) -> str:
    """Given a key, return its default if it is to be written all the same: whether files stay must be plain to see."""
    option = schema.find(*place)
    return (option.default or "") if place.key == "transfer_mode" and option is not None else ""


def _whole(place: Place, text: str) -> str:
    """Given a key and what was typed, return it with a local path made absolute: who typed it meant from here."""
    option = schema.find(*place)
    if option is None or option.type != "path" or not text or text.startswith(("~", "$")):
        return text
    return os.path.abspath(text)
