"""What a process loads that tells nobody anything: each stream would pay for it."""

from __future__ import annotations

import subprocess
import sys

from support import TOP


def test_nothing_is_loaded_where_no_broker_is_named() -> None:
    words = "import mistamover.master.service, mistamover.alerts.process, mistamover.alerts.ways, sys"
    check = f"{words}; print([name for name in ('kombu', 'amqp', 'http.client') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], env={"PYTHONPATH": str(TOP / "lib")}, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
