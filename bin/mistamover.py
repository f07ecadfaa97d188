#!/usr/bin/env python3
"""The command `mistamover`, run from a checkout: `bin/mistamover.py [--one-off | --daemon] [GLOBAL_INI]`."""

import importlib.util
import os
import sys

NEEDED = ("configobj", "daemon", "paramiko", "psutil", "setproctitle", "watchdog")

top = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
venv = os.environ.get("MISTAMOVER_VENV") or os.path.join(top, ".venv")
python = os.path.join(venv, "bin", "python")
sys.path.insert(0, os.path.join(top, "lib"))

if sys.version_info < (3, 11) or not all(importlib.util.find_spec(name) for name in NEEDED):
    if os.access(python, os.X_OK) and os.path.realpath(sys.prefix) != os.path.realpath(venv):
        os.execv(python, [python, *sys.argv])  # noqa: S606 - the same program, in the environment that bin/quickstart made
    sys.exit("mistamover: needs Python >= 3.11 with its packages: run bin/quickstart, or pip install " + top)

from mistamover.cli.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
