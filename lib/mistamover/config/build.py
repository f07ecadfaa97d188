"""From checked values to settings: what a key means together with others.

Each function reports everything that is wrong and returns its settings all the
same, so that one look finds all; `load` throws away what has problems.  Looks at the
file system only to see whether a named file can be read.
"""

from __future__ import annotations

import os
from pathlib import Path

from mistamover.config import objects, targets
from mistamover.config.settings import (
    LINKS,
    DiskSettings,
    DotFiles,
    Levels,
    LinkPolicy,
    LogSettings,
    MonitorSettings,
    StreamSettings,
    StreamStatus,
    TransferMode,
    TransferUnit,
    WatchMode,
)
from mistamover.config.targets import suffix
from mistamover.config.values import Values

_STREAM, _IN, _OUT = "data_stream", "incoming", "outgoing"
_DISK = "disk_space_monitor"
_WITHOUT_DIRECTORIES = ("rsync_native", "ftp", "ftps", "gridftp_myproxy", "gridftp_certificate", "s3")


def build_stream(name: str, values: Values, state_dir: Path) -> StreamSettings:
    """Given a stream's name and values and the service's state directory, return the stream's settings."""
    directory = _directory(values)
    unit = TransferUnit(values.text(_STREAM, "transfer_unit"))
    return StreamSettings(
        name=name,
        file=values.file,
        status=StreamStatus(values.text(_STREAM, "status")),
        directory=directory,
        mode=_mode(values),
        unit=unit,
        zips=_zips(values, unit),
        dir_size_limit=int(values.amount(_OUT, "dir_size_limit") * 2**20),
        targets=targets.build_targets(values),
        priority=_priority(values),
        deletion_enabled=_deletion(values),
        stop_file=values.text(_IN, "stop_file") or "",
        completion_file=values.text(_STREAM, "completion_file"),
        ignore=values.words(_STREAM, "ignore"),
        temporary_suffixes=values.words(_STREAM, "temporary_suffixes"),
        dot_files=DotFiles(values.text(_STREAM, "dot_files")),
        symlinks=_symlinks(values),
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
        monitor=_monitor(values, directory),
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
    section = targets.section_of(values)
    mode = TransferMode(values.text(section, "transfer_mode"))
    meant = (values.text(_OUT, "transfer_mode") or "").lower()
    if meant == TransferMode.MIRROR.value and mode is TransferMode.MOVE:
        message = (
            f"says mirror, but the key has no effect and [{section}] transfer_mode is move: "
            "the files would be removed here, expected both to agree"
        )
        values.problem(_OUT, "transfer_mode", message, f"set [{section}] transfer_mode = mirror to keep the files")
    return mode


def _zips(values: Values, unit: TransferUnit) -> bool:
    wanted = values.flag(_OUT, "always_zip")
    if wanted and unit is TransferUnit.FILE:
        message = "has no effect: only directory units are zipped, and [data_stream] transfer_unit is file"
        values.warn(_OUT, "always_zip", message, "set transfer_unit = directory")
    protocol = values.text(_OUT, "transfer_protocol")
    must = protocol in _WITHOUT_DIRECTORIES or (protocol == "url" and not objects.has_directories(values))
    return (wanted or must) and unit is TransferUnit.DIRECTORY


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


def _symlinks(values: Values) -> LinkPolicy:
    policy = LinkPolicy(values.text(_STREAM, "symlinks"))
    if policy is LinkPolicy.KEEP and values.flag(_OUT, "target_uses_arrival_monitor"):
        # A link has no size and no checksum that a control file could tell.
        return LinkPolicy.QUARANTINE
    return policy


def _monitor(values: Values, directory: Path) -> MonitorSettings | None:
    if not values.flag(_IN, "require_arrival_monitor"):
        return None
    values.require(_IN, "directory", "the directory that others deliver to, here or by [global] base_incoming_dir")
    incoming = values.path(_IN, "directory") or values.file.parent
    mine, theirs = os.path.realpath(directory), os.path.realpath(incoming)
    if os.path.commonpath([mine, theirs]) in (mine, theirs):
        message = f"{incoming} and the stream's directory {directory} lie in one another, expected two separate ones"
        values.problem(_IN, "directory", message, "choose another directory for what comes in")
    return MonitorSettings(
        directory=incoming,
        control_suffix=suffix(values, _IN, "control_file_extension"),
        thanks_suffix=suffix(values, _IN, "thankyou_file_extension"),
        stop_file=values.text(_IN, "stop_file") or "",
        receipt_retention=values.amount(_IN, "receipt_retention"),
    )
