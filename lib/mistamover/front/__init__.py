"""The job front: one process that speaks HTTP to clients, in several dialects, and only ever talks to the store."""
