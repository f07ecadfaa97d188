"""Facts about one unit: what it is now, and whether anybody writes to it.

The engine takes leases here and keeps them; `mistamover why` only probes.
"""

from __future__ import annotations

import os

from mistamover.files import leases
from mistamover.files.identity import identity_of, kind_of
from mistamover.model import Identity, Kind, Reason, Writers
from mistamover.stream.decide import Facts
from mistamover.stream.roll import Candidate
from mistamover.watch.scan import manifest, tree_identity


def examine(root: bytes, candidate: Candidate, now: float, hold: Reason | None = None) -> Facts | None:
    """Given a candidate, look at it as it is on disk and take its leases; return the facts, or None if it is gone.

    The candidate's identity, manifest and handles are brought up to date.
    """
    candidate.release()
    if candidate.kind is Kind.FILE:
        return _examine_file(root, candidate, now, hold)
    if candidate.kind is Kind.TREE:
        return _examine_tree(root, candidate, now, hold)
    try:
        status = os.lstat(root + b"/" + candidate.name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    _update(candidate, identity_of(status), now)
    candidate.kind = kind_of(status)
    return facts_of(candidate, hold, unchanged_since=min(now, status.st_ctime))


def facts_of(
    candidate: Candidate,
    hold: Reason | None,
    *,
    writers: Writers = Writers.NONE,
    unchanged_since: float | None = None,
    unreadable: str = "",
) -> Facts:
    """Given a candidate and what was found out about it, return the facts that `decide` takes."""
    return Facts(
        name=candidate.name,
        kind=candidate.kind,
        identity=candidate.identity,
        writers=writers,
        unchanged_since=candidate.observed if unchanged_since is None else unchanged_since,
        links=candidate.links,
        heard_at=candidate.heard_at,
        attempts=candidate.attempts,
        retry_at=candidate.retry_at,
        last_failure=candidate.failure,
        delivered=candidate.delivered,
        hold=hold,
        unreadable=unreadable,
    )


def _examine_file(root: bytes, candidate: Candidate, now: float, hold: Reason | None) -> Facts | None:
    try:
        handle, writers = leases.take(root + b"/" + candidate.name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # It may be sent all the same: rsync may be allowed more, and if not, that is an attempt with a reason.
        text = f"cannot be opened here: {error.strerror or error}"
        return facts_of(candidate, hold, writers=Writers.UNKNOWN, unreadable=text)
    # Under the lease: what it is now is what it will be, or we hear of it.
    status = os.fstat(handle)
    if kind_of(status) is not Kind.FILE:
        # Another thing has taken its name: it is a new arrival, and is met as what it is.
        os.close(handle)
        return None
    _update(candidate, identity_of(status), now)
    candidate.links = status.st_nlink
    if writers is Writers.NONE:
        candidate.handles[candidate.name] = handle
        return facts_of(candidate, hold, writers=writers, unchanged_since=min(now, status.st_ctime))
    os.close(handle)
    return facts_of(candidate, hold, writers=writers)


def _examine_tree(root: bytes, candidate: Candidate, now: float, hold: Reason | None) -> Facts | None:
    try:
        status = os.lstat(root + b"/" + candidate.name)
        candidate.manifest = manifest(root, candidate.name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        text = f"cannot be read: {error.strerror or error}"
        return facts_of(candidate, hold, writers=Writers.UNKNOWN, unreadable=text)
    writers = Writers.NONE
    for entry in candidate.manifest:
        if entry.kind is not Kind.FILE:
            continue
        name = candidate.name + b"/" + entry.name
        try:
            handle, answer = leases.take(root + b"/" + name)
        except OSError:
            # Gone or unreadable since it was listed: the next look, or the attempt, will tell.
            continue
        if answer is Writers.NONE and len(candidate.handles) < _MOST_TREE_LEASES:
            candidate.handles[name] = handle
            continue
        os.close(handle)
        if answer is Writers.SOME:
            writers = answer
            break
    _update(candidate, tree_identity(status, candidate.manifest), now)
    unchanged_since = min(now, candidate.identity.ctime_ns / 1e9)
    return facts_of(candidate, hold, writers=writers, unchanged_since=unchanged_since)


#: Leases that one directory unit may hold; beyond, the manifest is compared before removal all the same.
_MOST_TREE_LEASES = 2_000


def _update(candidate: Candidate, identity: Identity, now: float) -> None:
    if identity != candidate.identity:
        candidate.identity = identity
        candidate.observed = now
