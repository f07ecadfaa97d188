"""Which units would have one name at the target, in a stream whose directory units travel as zips.

A directory NAME becomes NAME.zip there.  A file of that name beside it would be
overwritten, or overwrite: so one of them waits for the other.
"""

from __future__ import annotations

import os
from dataclasses import replace

from mistamover.config.settings import LinkPolicy
from mistamover.files.identity import kind_of
from mistamover.files.names import ZIP, display
from mistamover.model import Kind
from mistamover.stream.decide import Facts, Rules, ignored_by_name
from mistamover.stream.ledger import Ledger
from mistamover.stream.roll import Roll


def beside_zips(facts: Facts, root: bytes, rules: Rules, ledger: Ledger | None, roll: Roll | None = None) -> Facts:
    """Given the facts about a unit, the stream's directory and rules, and its ledger and roll where they are at hand,
    return the facts with what stands in the unit's way under its name at the target.
    """
    if facts.kind is Kind.TREE:
        return replace(facts, beside=_file_beside(facts.name, root, rules))
    if not facts.name.endswith(ZIP) or b"/" in facts.name:
        return facts
    directory = facts.name.removesuffix(ZIP)
    if ledger is not None and ledger.is_zip(facts.name):
        text = f"its name was given at the target to the zip of the directory {display(directory)}: rename it"
        return replace(facts, taken=text)
    return replace(facts, beside=_zip_under_way(directory, roll))


def _file_beside(directory: bytes, root: bytes, rules: Rules) -> str:
    """Given a directory unit, return what hinders its zip: something of the zip's name, if that is going to be sent."""
    name = directory + ZIP
    try:
        status = os.lstat(root + b"/" + name)
    except OSError:
        return ""
    kind = kind_of(status)
    ignored = kind is Kind.LINK and rules.symlinks is LinkPolicy.IGNORE
    if kind is Kind.DIRECTORY or ignored or ignored_by_name(name, kind, rules) is not None:
        return ""
    return f"{display(name)} lies beside it, and its zip would have that name at the target: that one goes first"


def _zip_under_way(directory: bytes, roll: Roll | None) -> str:
    candidate = roll.get(directory) if roll is not None else None
    if candidate is None or candidate.kind is not Kind.TREE or candidate.look_at is not None:
        return ""
    return f"the zip of {display(directory)} is on its way, and has the same name at the target"
