"""A directory of INI files that a test writes and loads."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mistamover.config.load import load, load_lenient
from mistamover.config.settings import Settings, StreamSettings
from mistamover.errors import ConfigError, Problem

STREAM = """\
[outgoing]
transfer_protocol = rsync_ssh
target_host = target.example.org
target_dir = /in
"""


@dataclass
class Site:
    """An installation: `conf` below `top`, with a global file and stream files."""

    top: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.top / "conf"

    @property
    def global_file(self) -> Path:
        return self.conf / "global.ini"

    def write(self, name: str, text: str) -> Path:
        path = self.conf / name
        path.write_text(textwrap.dedent(text))
        path.chmod(0o600)
        return path

    def write_global(self, more: str = "", *, streams: str = "one") -> Path:
        head = f"[global]\nbase_data_dir = {self.top}/data\ndata_stream_list = {streams}\n"
        return self.write("global.ini", head + textwrap.dedent(more))

    def write_stream(self, more: str = "", *, name: str = "one") -> Path:
        return self.write(f"ds_{name}.ini", STREAM + textwrap.dedent(more))

    def load(self, environ: Mapping[str, str] | None = None) -> Settings:
        return load(self.global_file, self.environ if environ is None else environ)

    def lenient(self, last_good: Settings | None) -> tuple[Settings, tuple[Problem, ...]]:
        return load_lenient(self.global_file, self.environ, last_good)

    def stream(self, name: str = "one") -> StreamSettings:
        found = self.load().stream(name)
        assert found is not None
        return found

    def problems(self, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load(environ)
        return caught.value.problems

    def problem(self, environ: Mapping[str, str] | None = None) -> Problem:
        problems = self.problems(environ)
        assert len(problems) == 1, "\n".join(map(str, problems))
        return problems[0]
