"""What the process of alerts remembers, in one file that is replaced as a whole.

What is to be told is written here together with the fact that it counts as told, and put into the queues after that:
whenever the process is killed, the same messages go into the queues again, under the same names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mistamover.alerts.digest import Collection, Line, Message
from mistamover.alerts.incidents import Condition, Incident, Kind
from mistamover.alerts.tail import Position
from mistamover.files.durable import write_whole

_FILE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that is to be put into a queue."""

    queue: str
    """`mail`, or the name of a way to programs."""
    name: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """See the module."""

    incidents: tuple[Incident, ...] = ()
    collection: Collection = field(default_factory=Collection)
    concerned: Mapping[str, float] = field(default_factory=dict)
    """When an incident last concerned a stream."""
    positions: Mapping[str, Position] = field(default_factory=dict)
    """How far each log file was read."""
    outgoing: tuple[Outgoing, ...] = ()


def write(directory: Path, state: State, *, durable: bool) -> None:
    """Given the directory of alerts, replace what is remembered; `durable`: on the disk as well. Raise OSError."""
    values = asdict(state)
    for incident in values["incidents"]:
        incident["condition"]["kind"] = incident["condition"]["kind"].value
    write_whole(directory / _FILE, json.dumps(values).encode(), durable=durable)


def read(directory: Path) -> State | None:
    """Given the directory of alerts, return what is remembered; None if there is nothing, or nothing that is usable."""
    try:
        values: dict[str, Any] = json.loads((directory / _FILE).read_bytes())
        return State(
            incidents=tuple(_incident(each) for each in values["incidents"]),
            collection=_collection(values["collection"]),
            concerned=values["concerned"],
            positions={path: (int(inode), int(offset)) for path, (inode, offset) in values["positions"].items()},
            outgoing=tuple(Outgoing(**each) for each in values["outgoing"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _incident(values: dict[str, Any]) -> Incident:
    condition = values.pop("condition")
    kind = Kind(condition.pop("kind"))
    plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in condition.items()}
    return Incident(condition=Condition(kind=kind, **plain), **values)


def _collection(values: dict[str, Any]) -> Collection:
    messages = values.pop("messages")
    return Collection(messages=tuple(Message(line=Line(**each.pop("line")), **each) for each in messages), **values)
