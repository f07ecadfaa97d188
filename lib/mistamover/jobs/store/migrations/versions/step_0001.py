"""The tables of jobs, objects and all that belongs to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "circuits",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", name=op.f("pk_circuits")),
    )
    op.create_table(
        "endpoints",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_endpoints")),
    )
    op.create_table(
        "lanes",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("endpoints", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_lanes")),
        sa.UniqueConstraint("key", name=op.f("uq_lanes_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_lanes_owner"), "lanes", ["owner"], unique=False)
    op.create_table(
        "objects",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("filename", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.String(length=64), nullable=False),
        sa.Column("holds", sa.String(length=64), nullable=True),
        sa.Column("given_path", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("storage_technology", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("originator", sa.Text(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("registered", sa.Double(), nullable=False),
        sa.Column("modified", sa.Double(), nullable=True),
        sa.Column("lock", sa.Text(), nullable=True),
        sa.Column("maker", sa.Text(), nullable=True),
        sa.Column("home_endpoint", sa.Text(), nullable=True),
        sa.Column("home_path", sa.LargeBinary(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_objects")),
        sa.UniqueConstraint("holds", name=op.f("uq_objects_holds")),
        sa.UniqueConstraint("id", name=op.f("uq_objects_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_objects_endpoint_number"), "objects", ["endpoint", "number"], unique=False)
    op.create_index(op.f("ix_objects_filename_endpoint"), "objects", ["filename", "endpoint"], unique=False)
    op.create_index(op.f("ix_objects_lock"), "objects", ["lock"], unique=False)
    op.create_index(op.f("ix_objects_maker"), "objects", ["maker"], unique=False)
    op.create_index(op.f("ix_objects_place"), "objects", ["place"], unique=False)
    op.create_index(op.f("ix_objects_state_number"), "objects", ["state", "number"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("last_used", sa.Double(), nullable=True),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_table(
        "jobs",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("lane", NUMBER, nullable=False),
        sa.Column("op", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("secretive", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("packaging", sa.String(length=16), nullable=False),
        sa.Column("package_endpoint", sa.Text(), nullable=True),
        sa.Column("package_path", sa.LargeBinary(), nullable=True),
        sa.Column("overwrite", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=True),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("callback", sa.Text(), nullable=True),
        sa.Column("locks", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("item_count", sa.Integer(), nullable=False),
        sa.Column("items_done", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("claim_token", sa.String(length=32), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["lane"], ["lanes.number"], name=op.f("fk_jobs_lane_lanes")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sa.UniqueConstraint("owner", "idempotency_key", name=op.f("uq_jobs_owner_idempotency_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_jobs_deadline"),
        "jobs",
        ["deadline"],
        unique=False,
        sqlite_where=sa.text("deadline IS NOT NULL AND ended IS NULL"),
        postgresql_where=sa.text("deadline IS NOT NULL AND ended IS NULL"),
    )
    op.create_index(
        op.f("ix_jobs_ended"),
        "jobs",
        ["ended"],
        unique=False,
        sqlite_where=sa.text("ended IS NOT NULL"),
        postgresql_where=sa.text("ended IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_jobs_label_number"),
        "jobs",
        ["label", "number"],
        unique=False,
        sqlite_where=sa.text("label IS NOT NULL"),
        postgresql_where=sa.text("label IS NOT NULL"),
    )
    op.create_index(op.f("ix_jobs_owner_number"), "jobs", ["owner", "number"], unique=False)
    op.create_index(op.f("ix_jobs_state_lane_rank_number"), "jobs", ["state", "lane", "rank", "number"], unique=False)
    op.create_index(op.f("ix_jobs_state_number"), "jobs", ["state", "number"], unique=False)
    op.create_table(
        "callbacks",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_callbacks_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_callbacks")),
    )
    op.create_index(op.f("ix_callbacks_next"), "callbacks", ["next"], unique=False)
    op.create_table(
        "events",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_events_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_job_number"), "events", ["job", "number"], unique=False)
    op.create_table(
        "items",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("source_endpoint", sa.Text(), nullable=True),
        sa.Column("source_path", sa.LargeBinary(), nullable=True),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("source_spool", sa.Text(), nullable=True),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("target_endpoint", sa.Text(), nullable=True),
        sa.Column("target_path", sa.LargeBinary(), nullable=True),
        sa.Column("into", sa.Boolean(), nullable=False),
        sa.Column("hash_type", sa.Text(), nullable=False),
        sa.Column("hash_value", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("result_id", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("landed_endpoint", sa.Text(), nullable=True),
        sa.Column("landed_path", sa.LargeBinary(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_items_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "seq", name=op.f("pk_items")),
    )
    op.create_index(
        op.f("ix_items_source_key_target_endpoint_ended"),
        "items",
        ["source_key", "target_endpoint", "ended"],
        unique=False,
    )
    op.create_table(
        "job_secrets",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_job_secrets_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_job_secrets")),
    )
