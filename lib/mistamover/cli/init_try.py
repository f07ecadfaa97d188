"""One login at a target that no stream uses yet: with a scratch state directory, and with a bound."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, MistamoverError
from mistamover.transport import registry

#: Seconds for all of it; a transport has shorter bounds of its own for each step.
PATIENCE = 60.0
#: Seconds in which calls end that were cut off.
_CUT_OFF = 5.0


def try_login(stream: StreamSettings, *, patience: float = PATIENCE) -> list[str]:
    """Given a stream's settings, log in to each target as the stream will, and write and remove a small file there.

    Return what each target allows, in words. Raise MistamoverError if one cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="mistamover-") as scratch:
        place = Path(scratch)
        (place / "state" / "run").mkdir(mode=0o700, parents=True)
        (place / "links").mkdir(mode=0o700)
        trial = replace(stream, state_dir=place / "state", links_dir=place / "links")
        return [_tried(trial, target, patience) for target in stream.targets]


def _tried(stream: StreamSettings, target: TargetSettings, patience: float) -> str:
    transport = registry.make(stream, target, f"{stream.name}.init")
    outcome: list[str | MistamoverError] = []

    def work() -> None:
        finished = False
        try:
            words = transport.open().description
            transport.probe()
            outcome.append(words)
            finished = True
        except MistamoverError as error:
            outcome.append(error)
            finished = not isinstance(error, LinkError)
        finally:
            # Here, because programs that a thread has started may end with it.
            transport.close(finished=finished)

    # In a thread of its own, so that there is a bound whatever hangs.
    worker = threading.Thread(target=work, name="trial", daemon=True)
    worker.start()
    try:
        worker.join(patience)
        if worker.is_alive():
            raise LinkError(f"{target.name} gave no answer within {patience:g} s")
    finally:
        if worker.is_alive():
            transport.abort()
            worker.join(_CUT_OFF)
    found = outcome[0] if outcome else LinkError(f"the trial of {target.name} broke off")
    if isinstance(found, MistamoverError):
        raise found
    return found
