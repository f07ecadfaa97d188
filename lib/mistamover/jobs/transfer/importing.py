"""Items whose source is an importer's: its files are made on this host, and then delivered like any others."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mistamover.jobs import importers, paths, spool
from mistamover.jobs.importers import Bench, Made
from mistamover.jobs.model import Claim, Item, ItemState, NewItem, Source
from mistamover.jobs.transfer.context import Context, Tell
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.fetching import Login, WebOrigin, post
from mistamover.jobs.transfer.item_sources import rules

#: Bytes of an answer that an importer asks for at once.
_LONGEST = 32 << 20


def expanded(item: Item, claim: Claim, context: Context, tell: Tell) -> list[NewItem] | None:
    """Given an item, return the files that an importer has made of it, in the spool; None if no importer knows it.

    Raise Trouble, JobRefused, OSError, and what `tell` does.
    """
    scheme = importers.scheme_of(item.source.url) if item.source.url else ""
    importer = importers.find(scheme) if scheme else None
    if importer is None or item.target is None:
        return None
    target = item.target
    base = context.endpoints.need(target.endpoint).base.rstrip("/")

    def go_on() -> None:
        tell(item.seq, ItemState.STAGING, 0, None)

    go_on()
    allowed = rules(context)
    directory = context.scratch(claim.job.id) / f"import-{item.seq}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)

    def fetch(url: str, path: Path) -> None:
        with contextlib.closing(WebOrigin(url, allowed, Login())) as origin, path.open("xb") as file:
            for piece in origin.pieces():
                file.write(piece)
                go_on()

    bench = Bench(
        directory=directory,
        front=context.settings.front,
        fetch=fetch,
        post=lambda url, body, fields: post(url, body, fields, allowed, longest=_LONGEST, go_on=go_on),
        go_on=go_on,
        where=lambda name: f"{base}/{paths.joined(target.path, name)}",
    )
    try:
        made = importer.make(item.source.url, bench)
        return _spooled(made, item, context)
    except Trouble as error:
        error.pause = importer.pause(context.settings.front)
        raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            directory.parent.rmdir()


def _spooled(made: Sequence[Made], item: Item, context: Context) -> list[NewItem]:
    assert item.target is not None
    found = []
    for each in made:
        name, handle = spool.new(context.settings.directory)
        os.close(handle)
        os.replace(each.path, spool.path_of(context.settings.directory, name))
        path = paths.joined(item.target.path, each.name)
        found.append(NewItem(source=Source(spool=name), target=replace(item.target, path=path)))
    return found
