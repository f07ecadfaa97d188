"""From checked values to settings: what a key means together with others.

Each function reports everything that is wrong and returns its settings all the
same, so that one look finds all; `load` throws away what has problems.  Looks at the
file system only to see whether a named file can be read.
"""

from __future__ import annotations

import os
from pathlib import Path

from mistamover.config import command, schema
from mistamover.config.settings import (
    LINKS,
    DiskSettings,
    DotFiles,
    Levels,
    LinkPolicy,
    LogSettings,
    SshSettings,
    StreamSettings,
    StreamStatus,
    TargetSettings,
    TransferMode,
    TransferUnit,
    WatchMode,
)
from mistamover.config.values import Values

_STREAM, _IN, _OUT, _SSH = "data_stream", "incoming", "outgoing", "rsync_ssh"
_DISK = "disk_space_monitor"
_WORKING_PROTOCOLS = ("rsync_ssh", "none")


def build_stream(name: str, values: Values, state_dir: Path) -> StreamSettings:
    """Given a stream's name and values and the service's state directory, return the stream's settings."""
    _check_planned(values)
    directory = _directory(values)
    return StreamSettings(
        name=name,
        file=values.file,
        status=StreamStatus(values.text(_STREAM, "status")),
        directory=directory,
        mode=_mode(values),
        unit=TransferUnit(values.text(_STREAM, "transfer_unit")),
        targets=_targets(values),
        priority=_priority(values),
        deletion_enabled=_deletion(values),
        stop_file=values.text(_IN, "stop_file") or "",
        completion_file=values.text(_STREAM, "completion_file"),
        ignore=values.words(_STREAM, "ignore"),
        temporary_suffixes=values.words(_STREAM, "temporary_suffixes"),
        dot_files=DotFiles(values.text(_STREAM, "dot_files")),
        symlinks=LinkPolicy(values.text(_STREAM, "symlinks")),
        settle_time=values.amount(_STREAM, "settle_time"),
        minimum_age=values.amount(_STREAM, "minimum_age"),
        rescan_interval=values.amount(_STREAM, "rescan_interval"),
        watch=WatchMode(values.text(_STREAM, "watch")),
        empty_directory_age=values.amount(_STREAM, "empty_directory_age"),
        mirror_delete=values.flag(_OUT, "mirror_delete"),
        mirror_max_delete=values.whole(_OUT, "mirror_max_delete") or 0,
        retry_count=values.whole(_OUT, "retry_count") or 0,
        quarantine_dir=_quarantine(values, directory),
        history_retention=values.amount(_STREAM, "history_retention"),
        reserved_suffixes=_reserved(values),
        state_dir=state_dir / "streams" / name,
        links_dir=state_dir / LINKS,
        stop_timeout=values.amount("global", "stop_timeout"),
        log=build_log(values),
    )


def build_log(values: Values) -> LogSettings:
    """Given the values of the service or of a stream, return its log settings."""
    return LogSettings(
        directory=values.path("logging", "base_log_dir") or values.file.parent,
        level=values.text("logging", "log_level") or "INFO",
    )


def build_disk(values: Values) -> DiskSettings:
    """Given the values of the service, return what the disk guard watches for."""
    keys = [f"{kind}_{level}" for kind in ("level", "inodes") for level in ("good", "low", "vlow")]
    return DiskSettings(
        enabled=any(values.is_set(_DISK, key) for key in keys),
        space=_levels(values, "level", 1024 * 1024),
        inodes=_levels(values, "inodes", 1),
        base_priority=values.whole(_DISK, "base_priority") or 0,
        poll_interval=values.amount(_DISK, "poll_interval"),
        delete_undelivered=values.flag(_DISK, "delete_undelivered"),
    )


def _levels(values: Values, kind: str, unit: int) -> Levels:
    """Return three thresholds in order; one that is not set is the next one below it, the last one 0."""
    vlow, low, good = (_threshold(values, f"{kind}_{level}") for level in ("vlow", "low", "good"))
    vlow = vlow or 0
    low = vlow if low is None else low
    good = low if good is None else good
    for key, upper, lower in ((f"{kind}_low", low, vlow), (f"{kind}_good", good, low)):
        if upper < lower:
            message = f"is {upper:g}, below the next threshold {lower:g}, expected good >= low >= vlow"
            values.problem(_DISK, key, message, "correct the order of the three")
    return Levels(good=good * unit, low=low * unit, vlow=vlow * unit)


def _threshold(values: Values, key: str) -> float | None:
    return values.amount(_DISK, key) if values.has(_DISK, key) else None


def _check_planned(values: Values) -> None:
    for option in schema.options():
        if option.planned and values.flag(option.section, option.key):
            values.problem(option.section, option.key, f"{option.planned}, expected False", "set it to False")
        elif option.unused and values.is_set(option.section, option.key) and values.flag(option.section, option.key):
            values.warn(option.section, option.key, f"has no effect: {option.unused}")


def _directory(values: Values) -> Path:
    values.require(_STREAM, "directory", "the directory to watch, here or by [global] base_data_dir")
    return values.path(_STREAM, "directory") or values.file.parent


def _quarantine(values: Values, directory: Path) -> Path:
    quarantine = values.path(_OUT, "quarantine_dir") or directory / "quarantine"
    if values.is_set(_OUT, "quarantine_dir") and os.path.realpath(quarantine) == os.path.realpath(directory):
        message = f"{quarantine} is the stream's own directory, expected another one"
        values.problem(_OUT, "quarantine_dir", message, "leave it out to use the directory quarantine inside")
    return quarantine


def _mode(values: Values) -> TransferMode:
    mode = TransferMode(values.text(_SSH, "transfer_mode"))
    meant = (values.text(_OUT, "transfer_mode") or "").lower()
    if meant == TransferMode.MIRROR.value and mode is TransferMode.MOVE:
        message = (
            "says mirror, but the key has no effect and [rsync_ssh] transfer_mode is move: "
            "the files would be removed here, expected both to agree"
        )
        values.problem(_OUT, "transfer_mode", message, "set [rsync_ssh] transfer_mode = mirror to keep the files")
    return mode


def _priority(values: Values) -> int:
    own = values.whole(_STREAM, "priority")
    return own if own is not None else values.whole(_DISK, "base_priority") or 0


def _deletion(values: Values) -> bool:
    wanted = values.flag(_STREAM, "deletion_enabled")
    if wanted and values.flag(_OUT, "mirror_delete"):
        message = (
            "is True, and mirror_delete would remove at the target what is deleted here, expected one of them only"
        )
        values.problem(_STREAM, "deletion_enabled", message, "set one of them to False")
    return wanted


def _reserved(values: Values) -> tuple[str, ...]:
    keys = [
        (section, f"{kind}_file_extension") for kind in ("control", "receipt", "thankyou") for section in (_IN, _OUT)
    ]
    endings = ("." + (values.text(section, key) or "").lstrip(".") for section, key in keys)
    return tuple(dict.fromkeys(ending for ending in endings if ending != "."))


def _targets(values: Values) -> tuple[TargetSettings, ...]:
    values.require(_OUT, "transfer_protocol", "rsync_ssh or none")
    protocol = values.text(_OUT, "transfer_protocol")
    if protocol is not None and protocol not in _WORKING_PROTOCOLS:
        message = f"{protocol} is not available in this version, expected rsync_ssh or none"
        values.problem(_OUT, "transfer_protocol", message, "use rsync_ssh")
    if protocol is None:
        # Whichever it is going to be, what is wrong with the likely one is told now.
        _ssh(values)
    if protocol != "rsync_ssh":
        return ()
    values.require(_OUT, "target_host", "the name of the target host")
    values.require(_OUT, "target_dir", "the directory on the target host")
    host = values.text(_OUT, "target_host") or ""
    directory = values.text(_OUT, "target_dir") or ""
    return (
        TargetSettings(
            # What was delivered is recorded under this name, and must not count for another directory.
            name=f"{host}:{directory}",
            protocol=protocol,
            host=host,
            directory=directory,
            stop_file=values.text(_OUT, "stop_file") or "",
            stop_file_poll_interval=values.amount(_OUT, "stop_file_poll_interval"),
            required=True,
            hash=values.text(_OUT, "hash") or "",
            ssh=_ssh(values),
            reserve=int(values.amount(_OUT, "target_reserve") * 1024 * 1024),
        ),
    )


def _ssh(values: Values) -> SshSettings:
    programs, refused = command.split(values.words(_SSH, "cmd"))
    for refusal in refused:
        message = f"the option {refusal.option} is not allowed: {refusal.why}, expected a command without it"
        values.problem(_SSH, "cmd", message, "take the option out")
    ciphers = values.text(_SSH, "ciphers")
    compress = values.flag(_SSH, "compress")
    limit = values.text(_SSH, "bandwidth_limit")
    limited = limit is not None and bool(float(limit.rstrip("kKmMgG")))
    return SshSettings(
        rsync=programs.rsync,
        ssh=programs.ssh,
        username=values.text(_SSH, "username"),
        port=values.whole(_SSH, "port"),
        identity_file=_readable(values, "identity_file"),
        ssh_config=_readable(values, "ssh_config"),
        use_checksum=values.flag(_SSH, "use_checksum"),
        bandwidth_limit=limit if limited else None,
        ciphers=None if ciphers == "auto" else ciphers,
        compress=compress,
        connect_timeout=values.amount(_SSH, "connect_timeout"),
        # What else is asked of rsync, it must do itself.
        express=values.flag(_SSH, "express") and len(programs.rsync) == 1 and not (limited or compress),
    )


def _readable(values: Values, key: str) -> Path | None:
    path = values.path(_SSH, key)
    if path is None:
        return None
    if not path.is_file():
        values.problem(_SSH, key, f"there is no file {path}, expected a file that exists", "correct the path")
    elif not os.access(path, os.R_OK):
        message = f"{path} cannot be read by user id {os.geteuid()}, expected a readable file"
        values.problem(_SSH, key, message, "correct its owner or mode, or run as its owner")
    return path
