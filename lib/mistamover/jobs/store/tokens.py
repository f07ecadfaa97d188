"""Tokens: what clients show to be let in. The store has only their hashes; each secret is shown once."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Row, delete, select, update

from mistamover.errors import JobRefused
from mistamover.jobs.model import Scope, Token
from mistamover.jobs.store.database import Database, insert_or_skip
from mistamover.jobs.store.schema import tokens

#: What secrets begin with, so that they are found where they should not be.
PREFIX: Final = "mm_"
#: Seconds between two records of when a token was used.
_USED: Final = 60.0
_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Tokens:
    """All of them."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def create(self, name: str, scope: Scope, expires: float | None = None) -> str:
        """Given a new token's name, what it allows and when it ends, return its secret. Raise JobRefused."""
        if not _NAME.fullmatch(name):
            raise JobRefused(
                "bad-name", "the name of a token has 1 to 64 letters, digits and . _ @ -, and begins with no sign"
            )
        if scope is Scope.NONE:
            raise JobRefused("bad-scope", "a token that allows nothing is of no use")
        secret = PREFIX + secrets.token_urlsafe(_BYTES)
        row = {"name": name, "hash": _hash(secret), "scope": scope.value, "created": self._clock(), "expires": expires}
        with self._database.write() as connection:
            if not insert_or_skip(connection, tokens, ("name",), row):
                raise JobRefused("name-taken", f"there is a token called {name} already: revoke it first")
        return secret

    def verify(self, secret: str, name: str | None = None) -> Token | None:
        """Given a secret, and the name that came with it if one did, return its token, None if there is none."""
        if not secret.startswith(PREFIX):
            return None
        shown, now = _hash(secret), self._clock()
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.hash == shown)).first()
        if row is None or not hmac.compare_digest(row.hash, shown):
            return None
        if (name is not None and name != row.name) or (row.expires is not None and row.expires <= now):
            return None
        if row.last_used is None or not 0 <= now - row.last_used < _USED:
            with self._database.write() as connection:
                connection.execute(update(tokens).where(tokens.c.hash == shown).values(last_used=now))
        return _token(row)

    def list(self) -> list[Token]:
        """Return all tokens, by name; also those that are over."""
        with self._database.read() as connection:
            return [_token(row) for row in connection.execute(select(tokens).order_by(tokens.c.name))]

    def revoke(self, name: str) -> bool:
        """Given the name of a token, let nobody in by it any more; return False if there is none."""
        with self._database.write() as connection:
            return bool(connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount)


def _hash(secret: str) -> str:
    # Of 256 random bits: nobody can try them, and a slow hash would only slow down every request.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _token(row: Row[Any]) -> Token:
    return Token(
        name=row.name, scope=Scope(row.scope), created=row.created, last_used=row.last_used, expires=row.expires
    )
