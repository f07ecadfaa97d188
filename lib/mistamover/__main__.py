"""Run as `python -m mistamover`: the same as the command `mistamover`."""

from __future__ import annotations

import sys

from mistamover.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
