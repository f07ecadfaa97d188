"""Carts, groups of workers, and when jobs were announced to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make them."""
    op.add_column("lanes", sa.Column("workers", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("announced", sa.Double(), nullable=True))
    op.add_column("workers", sa.Column("groups", sa.Text(), nullable=False, server_default="[]"))
    op.create_table(
        "carts",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("last_used", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_carts_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_carts")),
    )
    op.create_index(op.f("ix_carts_uid"), "carts", ["uid"], unique=False)
    op.create_index(op.f("ix_carts_state_last_used"), "carts", ["state", "last_used"], unique=False)
    op.create_table(
        "cart_downloads",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_cart_downloads_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_cart_downloads")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_cart_downloads_job"), "cart_downloads", ["job"], unique=False)
