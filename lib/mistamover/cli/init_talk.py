"""The conversation of `mistamover init`: questions and answers on a terminal, and nothing of what they mean."""

from __future__ import annotations

import getpass
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

from mistamover.cli.common import printable

_WIDEST = 100


class Talk:
    """Asks a person. An end of the input raises EOFError."""

    def __init__(self, source: TextIO, sink: TextIO) -> None:
        """Given where answers come from and where questions go, be ready."""
        self._source = source
        self._sink = sink

    def say(self, text: str = "") -> None:
        """Given a sentence or two, show them."""
        width = min(_WIDEST, shutil.get_terminal_size().columns - 1)
        for line in textwrap.wrap(printable(text), width, break_long_words=False, break_on_hyphens=False) or [""]:
            self._print(line + "\n")

    def ask(self, label: str, default: str = "", *, secret: bool = False) -> str:
        """Given what is wanted and what counts if nothing is said, return the answer, "" for the default."""
        shown = f"{printable(label)} [{printable(default)}]: " if default else f"{printable(label)}: "
        if secret:
            # It opens the terminal itself, so that nothing is shown wherever our output goes.
            return getpass.getpass(shown)
        self._print(shown)
        line = self._source.readline()
        if not line:
            self._print("\n")
            raise EOFError
        return line.strip()

    def choose(self, question: str, answers: Sequence[str]) -> str:
        """Given a question and the words that answer it, the default first, return one. Its first letter will do."""
        while True:
            said = self.ask(f"{question} ({'/'.join(answers)})", answers[0]).lower()
            found = [answer for answer in answers if answer.startswith(said)]
            if found:
                return found[0]
            self.say(f"Please answer {' or '.join(answers)}.")

    def agree(self, question: str) -> bool:
        """Given a question whose usual answer is yes, return the answer."""
        return self.choose(question, ("yes", "no")) == "yes"

    def _print(self, text: str) -> None:
        encoding = getattr(self._sink, "encoding", None) or "utf-8"
        self._sink.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._sink.flush()


def terminal(sink: TextIO) -> Talk | None:
    """Given where questions would go, return somebody to ask; None if nobody sits at our input."""
    return Talk(sys.stdin, sink) if sys.stdin.isatty() else None
