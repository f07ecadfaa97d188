"""The way from the INI files and the environment to settings, or to the list of everything that is wrong.

The order of precedence is: environment, stream file, global file, default.  Problems
never end the loading; they are collected from all files and told at once.  This
module pulls in configobj, so a program that may not need a configuration imports it
late; no module of this room imports it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mistamover.config import carts, entries, schema
from mistamover.config.alerts import build_alerts
from mistamover.config.build import build_disk, build_log, build_stream
from mistamover.config.expand import DEFAULTS, Context, Entry, Place
from mistamover.config.fan_out import build_fan_out, check_no_targets, flat
from mistamover.config.front import build_jobs
from mistamover.config.names import Found, Streams, find_streams
from mistamover.config.read import IniFile, read
from mistamover.config.report import Report
from mistamover.config.serving import JobSettings
from mistamover.config.settings import AlertSettings, DiskSettings, Settings, StreamSettings
from mistamover.config.territory import Territory, inside
from mistamover.config.values import Values, defaults
from mistamover.errors import ConfigError, Problem


@dataclass(slots=True, kw_only=True)
class _Draft:
    """All that was read, before it is decided what of it can be used."""

    report: Report
    service: Values
    disk: DiskSettings
    streams: Streams
    alerts: AlertSettings | None
    jobs: JobSettings | None
    built: dict[str, StreamSettings] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=dict)


def load(
    global_file: Path,
    environ: Mapping[str, str],
    *,
    last_good: Settings | None = None,
    drafts: Mapping[Path, bytes] = MappingProxyType({}),
) -> Settings:
    """Given the global file and the environment, return the settings.  Raise ConfigError with all problems.

    The problems are those of all files and of the environment.
    If nothing has changed since `last_good`, that very object is returned.
    Drafts are files, by absolute paths, with what they are going to hold: they are judged as if they held it already.
    """
    draft = _draft(global_file, environ, drafts)
    settings = _settings(draft, _at_peace(draft, draft.built.values()))
    problems = draft.report.problems()
    if problems:
        raise ConfigError(problems)
    return last_good if last_good == settings else settings


def load_lenient(
    global_file: Path, environ: Mapping[str, str], last_good: Settings | None
) -> tuple[Settings, tuple[Problem, ...]]:
    """Given also the settings in force, return the best settings to go on with, and all problems.

    A stream with problems keeps its settings of `last_good`, or is left out if it had none there.  If the global
    file or the environment is at fault all of `last_good` stays.  Raise ConfigError if there is none to keep.
    """
    draft = _draft(global_file, environ)
    if draft.report.whole_broken:
        _at_peace(draft, draft.built.values())
        if last_good is None:
            raise ConfigError(draft.report.problems())
        return last_good, tuple(draft.report.problems())
    settings = _settings(draft, _best(draft, last_good))
    return (last_good if last_good == settings else settings), tuple(draft.report.problems())


def _draft(
    global_file: Path, environ: Mapping[str, str], drafts: Mapping[Path, bytes] = MappingProxyType({})
) -> _Draft:
    """Read and check the global file, then the file of each stream."""
    path = Path(os.path.abspath(global_file.expanduser()))
    report = Report()
    of_environment = entries.of_environment(environ, report)
    ini = read(path, word_keys=schema.word_keys(), draft=drafts.get(path))
    written = entries.of_file(ini, report)
    context = Context([*written, *of_environment], defaults=_defaults(path, environ, ini))
    service = Values(context, file=path, base=path.parent, report=report)
    # That the file cannot be read explains all that is missing; telling it key by key would only hide the reason.
    streams = find_streams(service, report, drafts) if ini.readable else Streams(directory=path.parent, found=())
    draft = _Draft(
        report=report,
        service=service,
        disk=build_disk(service),
        streams=streams,
        alerts=build_alerts(service),
        jobs=build_jobs(service, ini, build_log(service).directory),
    )
    files = [ini]
    for found in streams.found:
        if found.file is not None:
            files.append(_add_stream(draft, found, found.file, of_environment, drafts))
    return draft


def _add_stream(
    draft: _Draft, found: Found, file: Path, of_environment: list[Entry], drafts: Mapping[Path, bytes]
) -> IniFile:
    """Read and check the file of one stream, and add its settings to the draft."""
    ini = read(file, word_keys=schema.word_keys(), draft=drafts.get(file))
    written = entries.of_file(ini, draft.report, found.name)
    if ini.readable:
        inherits = draft.service.context
        context = Context(
            [*written, *of_environment], defaults=_stream_defaults(found.name, written, inherits), inherits=inherits
        )
        values = Values(context, file=file, base=draft.service.file.parent, report=draft.report, stream=found.name)
        state_dir = _service_path(draft, "state_dir")
        if values.words("outgoing", "targets"):
            every = [*written, *of_environment]
            stream = build_fan_out(found.name, ini, every, inherits, values, draft.report, state_dir)
        else:
            stream = build_stream(found.name, values, state_dir)
            check_no_targets(ini, draft.report, found.name)
        draft.built[found.name], draft.values[found.name] = stream, values
        _check_name(found.name, values)
        _check_own_files(draft, stream, values)
    return ini


def _defaults(path: Path, environ: Mapping[str, str], ini: IniFile) -> list[Entry]:
    """Return the defaults of the schema, and those that follow from where the global file is, and the environment."""
    return [*defaults(), _default("global", "top", str(path.parent.parent)), *carts.defaults_of(environ, ini.config)]


def _stream_defaults(name: str, written: Iterable[Entry], inherits: Context) -> list[Entry]:
    """Return the defaults that follow from the stream's name."""
    found = [_default("data_stream", "name", name)]
    own = {entry.place for entry in written if entry.is_set}
    for section, base in (("data_stream", "base_data_dir"), ("incoming", "base_incoming_dir")):
        above = inherits.entry(Place("global", base))
        if Place("global", base) in own or (above is not None and above.is_set):
            found.append(_default(section, "directory", f"$(global:{base})/{name}"))
    return found


def _default(section: str, key: str, text: str) -> Entry:
    return Entry(place=Place(section, key), text=text, file=DEFAULTS, line=None)


def _check_name(name: str, values: Values) -> None:
    written = values.text("data_stream", "name")
    if written != name and values.is_set("data_stream", "name"):
        values.warn("data_stream", "name", f'differs from the name in the list; the stream is called "{name}"')


def _check_own_files(draft: _Draft, stream: StreamSettings, values: Values) -> None:
    """Report a stream that would send away files of this service."""
    if not values.has("data_stream", "directory"):
        return
    own_files = [
        ("the state directory", _service_path(draft, "state_dir")),
        ("the log directory", build_log(draft.service).directory),
        ("the log directory", stream.log.directory),
        ("the pid file", _service_path(draft, "pid_file")),
        ("the configuration file", draft.service.file),
        ("the configuration file", stream.file),
    ]
    if draft.jobs is not None:
        own_files.append(("the volume of carts", draft.jobs.carts.volume))
    reason = inside(stream.directory, own_files)
    if reason:
        values.problem("data_stream", "directory", f"{reason}, expected a directory of data only", "move one of them")


def _at_peace(draft: _Draft, streams: Iterable[StreamSettings]) -> list[StreamSettings]:
    """Given streams in order of their rights, return those that share no directory with one before them."""
    territory = Territory()
    return [stream for stream in streams if _settles(draft, stream, territory)]


def _settles(draft: _Draft, stream: StreamSettings, territory: Territory) -> bool:
    """Given a stream as its file has it, give it its directory and return True; report it if another one is there."""
    values = draft.values[stream.name]
    if not values.has("data_stream", "directory"):
        return False
    quarrel = territory.quarrel(stream)
    if quarrel is not None:
        message = (
            f'{quarrel.words}: it and the stream "{stream.name}" would fight for the same files, '
            "expected a directory of its own"
        )
        values.problem(quarrel.section, "directory", message, "change one of the two directories")
        return False
    territory.take(stream)
    return True


def _best(draft: _Draft, last_good: Settings | None) -> list[StreamSettings]:
    """Return the streams to go on with: those without problems, and the last good settings of the others."""
    running = {stream.name: stream for stream in last_good.streams} if last_good else {}
    names = [found.name for found in draft.streams.found]
    good = {name: stream for name, stream in draft.built.items() if not draft.report.broken(name)}
    chosen: dict[str, StreamSettings] = {}
    territory = Territory()

    def keep_running(name: str) -> None:
        before = running.get(name)
        if before is not None and not territory.quarrel(before):
            territory.take(before)
            chosen[name] = before

    # Who already works in its directory has the better right to it than one that newly asks for it.
    for name in sorted(names, key=lambda name: name in good and not _stays(good[name], running)):
        if name not in good:
            keep_running(name)
        elif _settles(draft, good[name], territory):
            chosen[name] = good[name]
        else:
            keep_running(name)
    return [chosen[name] for name in names if name in chosen]


def _stays(stream: StreamSettings, running: Mapping[str, StreamSettings]) -> bool:
    before = running.get(stream.name)
    return before is not None and before.directory == stream.directory


def _service_path(draft: _Draft, key: str) -> Path:
    return draft.service.path("global", key) or draft.service.file.parent


def _settings(draft: _Draft, streams: Iterable[StreamSettings]) -> Settings:
    service = draft.service
    files = (found.file for found in draft.streams.found if found.file is not None)
    return Settings(
        file=service.file,
        state_dir=_service_path(draft, "state_dir"),
        pid_file=_service_path(draft, "pid_file"),
        rescan_interval=service.amount("global", "general_poll_interval"),
        restart_pause=service.amount("global", "restart_pause"),
        stop_timeout=service.amount("global", "stop_timeout"),
        log=build_log(service),
        debug=service.flag("global", "debug_on"),
        disk=draft.disk,
        streams=flat(tuple(streams)),
        sources=tuple(dict.fromkeys((service.file, draft.streams.directory, *files))),
        alerts=draft.alerts,
        jobs=draft.jobs,
        warnings=draft.report.warnings(),
    )
