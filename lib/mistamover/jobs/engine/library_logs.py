"""What Celery and the libraries below it log: no secret, no advice that is not for us, and nothing every second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit

#: Libraries that log for themselves.
_LIBRARIES: Final = ("celery", "kombu", "amqp", "redis")
#: Seconds after which the same words are said again: a consumer that is refused tries again every second.
_AGAIN: Final = 600.0
#: Words that are remembered.
_MOST: Final = 50
#: What Celery says when its consumer ends. Ours begins anew.
_ENDED: Final = "Unrecoverable error: "


class Masking(logging.Filter):
    """Has no record of the libraries tell the password of the broker, where in them an error came from, or the same
    again and again.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Given the password as it stands in the URL, empty without one, and a clock."""
        super().__init__()
        self._secrets = {secret, unquote(secret)} - {""}
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        if record.name.partition(".")[0] not in _LIBRARIES:
            return True
        words = record.getMessage()
        if "has been disabled" in words:
            # It advises to change settings that are as they are to be.
            return False
        if words.startswith(_ENDED):
            words = f"nothing can be heard from the broker: {words.removeprefix(_ENDED)}"
            record.levelno, record.levelname = logging.ERROR, logging.getLevelName(logging.ERROR)
        for secret in self._secrets:
            words = words.replace(secret, "***")
        if self._is_repeated(words):
            return False
        record.msg, record.args, record.exc_info, record.exc_text = words, (), None, None
        return True

    def _is_repeated(self, words: str) -> bool:
        now = self._clock()
        if now - self._said.get(words, -_AGAIN) < _AGAIN:
            return True
        self._said[words] = now
        if len(self._said) > _MOST:
            del self._said[next(iter(self._said))]
        return False


def quieten(url: str) -> None:
    """Given the URL of the broker, let the libraries log what matters alone, and no secret."""
    secret = urlsplit(url).password or ""
    # On the handlers: the loggers of the libraries are many, and each would need it.
    for handler in logging.getLogger().handlers:
        if not any(isinstance(each, Masking) for each in handler.filters):
            # One for each: what was said at one of them was not at the other.
            handler.addFilter(Masking(secret))
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
