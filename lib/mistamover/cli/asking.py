"""Asking a stream to do something: its own process does it if there is one, and we do it ourselves if there is none."""

from __future__ import annotations

import logging
import os
import threading
import time

from mistamover.cli.common import LEDGER_FILE, is_served, printable
from mistamover.config.settings import StreamSettings
from mistamover.errors import MistamoverError
from mistamover.files import leases
from mistamover.report.snapshot import LOCK_FILE, lock
from mistamover.stream import requests
from mistamover.stream.alarm import ring
from mistamover.stream.books import Books
from mistamover.stream.desk import Desk
from mistamover.stream.ledger import Ledger
from mistamover.stream.requests import Ended, Request

#: Seconds between two looks for an answer.
_LOOK = 0.02


def ask(stream: StreamSettings, request: Request, timeout: float) -> tuple[Ended, ...] | None:
    """Given a stream, what is asked of it, and how long its process may take, return what became of it.

    None if the process has not answered by then: it will do it as soon as it can.  Raise MistamoverError.
    """
    try:
        return _ask(stream, request, timeout)
    except OSError as error:
        raise MistamoverError(
            f"stream {stream.name}: {error.strerror or error} ({printable(error.filename or stream.state_dir)}): "
            f"ask as the user of the service, or as root"
        ) from error


def _ask(stream: StreamSettings, request: Request, timeout: float) -> tuple[Ended, ...] | None:
    key = requests.submit(stream.state_dir, request)
    try:
        ring(stream.state_dir)
        pause, deadline = threading.Event(), time.monotonic() + timeout
        while (answer := requests.take_answer(stream.state_dir, key)) is None:
            # It may have ended since it was asked.
            if not is_served(stream.state_dir):
                _serve_ourselves(stream)
            elif time.monotonic() >= deadline:
                return requests.take_answer(stream.state_dir, key)
            else:
                pause.wait(_LOOK)
    except BaseException:
        requests.withdraw(stream.state_dir, key)
        raise
    return answer


def _serve_ourselves(stream: StreamSettings) -> None:
    """Do what is asked of a stream that no process serves, as its process would."""
    handle = lock(stream.state_dir / LOCK_FILE)
    if handle is None:
        return
    # What is told there is in our answer; a log of the stream is its process's.
    logging.getLogger("mistamover").addHandler(logging.NullHandler())
    leases.hear_breaks()
    try:
        with Ledger(stream.state_dir / LEDGER_FILE) as ledger:
            desk = Desk(Books(stream, ledger), lambda name, now: None)
            desk.recover()
            desk.serve()
            while desk.busy:
                desk.serve()
    finally:
        os.close(handle)
