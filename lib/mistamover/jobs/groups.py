"""Groups of workers: which of them can do a job, by the endpoints that it reaches. Pure.

An endpoint may be within reach of the workers of one group alone. Content that came with a request lies in the state
directory of the front that took it: what is to become of it is for the worker of that directory, which is a group too,
with a name that nobody can write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mistamover.config.serving import EndpointSettings, EngineSettings
from mistamover.errors import JobRefused

#: What the name of the group of one state directory begins with.
_OWN = "@"


def own(identity: str) -> str:
    """Given what tells a state directory from all others, return the group of its worker."""
    return f"{_OWN}{identity}"


def is_named(group: str) -> bool:
    """Given a group, tell whether it is one that stands in configurations, or that of no group."""
    return not group.startswith(_OWN)


def served(engine: EngineSettings, identity: str) -> frozenset[str]:
    """Given the settings, and the identity of the state directory, return the groups that a worker does jobs of.

    The empty one stands for the jobs of no group.
    """
    return frozenset({*engine.groups, own(identity), *(() if engine.groups_only else ("",))})


def group_of(endpoints: Iterable[EndpointSettings]) -> str:
    """Given all endpoints that a job reaches, return the group that can do it; empty: all can. Raise JobRefused."""
    named = {each.workers: each.name for each in endpoints if each.workers}
    if len(named) > 1:
        parts = " and ".join(f"{name} only by those of {group}" for group, name in sorted(named.items()))
        raise JobRefused("no-common-workers", f"no workers can reach all of it: {parts}; make two jobs of it")
    return next(iter(named), "")


def group_of_content(endpoints: Iterable[EndpointSettings], mine: Collection[str], identity: str) -> str:
    """Given the endpoints that a job with content reaches, the groups that this front's worker is one of, and the
    identity of its state directory, return the group that can do it. Raise JobRefused.
    """
    needed = group_of(endpoints)
    if needed and needed not in mine:
        words = f"content that is put here is moved by the worker here, which is not one of {needed}"
        raise JobRefused("no-common-workers", f"{words}: put it at a front that is, or have it copied from elsewhere")
    return own(identity)


def check_here(endpoint: EndpointSettings, mine: Collection[str]) -> None:
    """Given an endpoint, and the groups of this place, return if it can be used from here. Raise JobRefused."""
    if endpoint.workers and endpoint.workers not in mine:
        words = f"the endpoint {endpoint.name} is reached only by the workers of {endpoint.workers}, and not from here"
        raise JobRefused("not-here", f"{words}: copy what you need to another endpoint")


def in_words(group: str) -> str:
    """Given a group, return what its workers are called."""
    if group.startswith(_OWN):
        return "the worker with the state directory of the front that took the content"
    return f"a worker of the group {group}" if group else "a worker that does jobs of no group"
