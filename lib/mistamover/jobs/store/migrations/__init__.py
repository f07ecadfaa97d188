"""The steps by which the tables of the store came to be what they are, run by Alembic on our own connection.

A step is a module of `versions`, named for its number.  It never imports `schema`, which goes on changing.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def bring_up_to_date(connection: Connection) -> None:
    """Given a connection with a transaction, take all steps that were not taken yet, inside of it."""
    command.upgrade(configuration(connection), "head")


def configuration(connection: Connection) -> Config:
    """Given a connection, return what Alembic's commands need to work with it."""
    config = Config()
    # A percent sign has a meaning there.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
