"""The downloads of carts that are under way: each keeps its cart from making room for others.

In the store each has a lease, and one task renews those of all: a front that was killed keeps nothing for long.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Executor

from mistamover.errors import StoreError
from mistamover.jobs.store.cart_rows import Carts

logger = logging.getLogger(__name__)

#: Seconds for which a cart stays when nobody renews, and between two renewals.
LEASE = 90.0
_EVERY = 20.0


class Downloads:
    """All of them in this process. `begin` and `end` block, and may be called from any thread."""

    def __init__(self, carts: Carts) -> None:
        """Given the carts of the store, have none under way."""
        self._carts = carts
        self._lock = threading.Lock()
        self._numbers: set[int] = set()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._numbers)

    def begin(self, job: str) -> int | None:
        """Given a cart's job, let the cart stay; return the number of the download, None if it is gone already.

        Raise StoreError.
        """
        number = self._carts.begin_download(job, LEASE)
        if number is not None:
            with self._lock:
                self._numbers.add(number)
        return number

    def end(self, number: int) -> None:
        """Given the number of a download, it is over."""
        with self._lock:
            self._numbers.discard(number)
        try:
            self._carts.end_download(number)
        except StoreError as error:
            # The lease ends by itself.
            logger.error("the end of a download: %s", error, extra={"action": "cart"})

    def renew(self) -> None:
        """Let the carts of all downloads stay. Raise StoreError."""
        with self._lock:
            numbers = list(self._numbers)
        if numbers:
            self._carts.renew_downloads(numbers, LEASE)

    async def renewing(self, executor: Executor) -> None:
        """Given where to block, renew for as long as the process lives."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await asyncio.get_running_loop().run_in_executor(executor, self.renew)
            except StoreError as error:
                # There is time for some more attempts before a lease ends.
                logger.error("the downloads under way: %s", error, extra={"action": "cart"})
