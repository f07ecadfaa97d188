"""Log files: one per process, opened anew when a rotation has renamed them.

A line is `[2026-11-22 10:15:00] LEVEL (pid=N) message`.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys

from mistamover.config.settings import LogSettings

_FORMAT = "[%(asctime)s] %(levelname)s (pid=%(process)d) %(message)s"
_TIME = "%Y-%m-%d %H:%M:%S"


def start(settings: LogSettings, component: str, *, to_stderr: bool, debug: bool = False) -> None:
    """Given where logs go and the component's name, send this process's log there, and to stderr if wanted.

    Raise OSError if the log file cannot be opened.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.DEBUG if debug else settings.level)
    # paramiko tells each login and each packet type at levels that mean something else here.
    logging.getLogger("paramiko").setLevel(logging.ERROR)
    # alembic tells of each of its plugins.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings.directory.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.handlers.WatchedFileHandler(settings.directory / f"{component}.log")]
    if to_stderr:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(_OneLine(_FORMAT, _TIME))
        root.addHandler(handler)


class _OneLine(logging.Formatter):
    """A record is one line, whatever a message or a name holds; only a traceback has more."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if "\n" in message or not message.isprintable():
            clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in message)
            record = logging.makeLogRecord({**record.__dict__, "msg": clean, "args": ()})
        return super().format(record)
