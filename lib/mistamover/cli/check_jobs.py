"""What `mistamover check` tells of jobs: those that wait for workers of which none runs, on whatever machine."""

from __future__ import annotations

from mistamover.config.settings import Settings
from mistamover.errors import StoreError


def jobs_that_wait(settings: Settings) -> list[str]:
    """Given the settings, return in words which jobs nobody is there for; none where there are no jobs."""
    if settings.jobs is None:
        return []
    # Late: a site without jobs needs no database.
    from mistamover.jobs.groups import in_words
    from mistamover.jobs.store.store import Store

    try:
        with Store(settings.jobs.engine.database_url) as store:
            if store.database.embedded and not store.database.path.exists():
                # The service has not been started yet.
                return []
            store.database.check()
            unserved = store.claims.unserved()
    except StoreError as error:
        return [f"the database cannot be used: {error}"]
    return [f"{many} wait for {in_words(group)}, and none runs" for group, many in sorted(unserved.items())]
