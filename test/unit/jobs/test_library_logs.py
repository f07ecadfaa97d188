"""What Celery and its libraries may log."""

from __future__ import annotations

import logging

from mistamover.jobs.engine.library_logs import Masking

REFUSED = "Unrecoverable error: AccessRefused(403, 'robot:s3c%2Fr is refused')"


def record(words: str, name: str = "celery.worker.worker") -> logging.LogRecord:
    return logging.LogRecord(name, logging.CRITICAL, "", 1, words, (), None)


def test_the_password_is_not_told_in_any_form() -> None:
    masking, told = Masking("s3c%2Fr"), record("refused: s3c%2Fr and s3c/r", "amqp")
    assert masking.filter(told) and told.getMessage() == "refused: *** and ***"


def test_what_is_tried_every_second_is_said_now_and_then() -> None:
    """A consumer that the broker refuses begins anew every second: a day of it would be 80,000 lines."""
    seconds = 0.0
    masking = Masking("", lambda: seconds)
    said = []
    for _ in range(1000):
        seconds += 1
        said += [each for each in (record(REFUSED), record("other words")) if masking.filter(each)]
    assert len(said) == 4
    assert said[0].levelname == "ERROR"
    assert said[0].getMessage() == f"nothing can be heard from the broker: {REFUSED.partition(': ')[2]}"


def test_our_own_words_are_left_alone() -> None:
    masking = Masking("s3cret")
    for _ in range(3):
        ours = record("the connection to the broker is lost", "mistamover.jobs")
        assert masking.filter(ours) and ours.levelno == logging.CRITICAL
