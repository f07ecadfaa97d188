"""The desk of carts: the one way in for them, whatever dialect they are asked for in.

What a client asks for is checked here by `wishes`, and becomes a job; nothing here waits for anything but the store and
the disk of the volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mistamover.errors import JobRefused, RetryRefused
from mistamover.jobs.cart_model import VOLUME, BundleForm, BundleLayout, Cart, CartState, Kept, NewCart
from mistamover.jobs.carts import wishes
from mistamover.jobs.carts.composing import check_format
from mistamover.jobs.carts.members import manifest_name
from mistamover.jobs.carts.removal import discard
from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.model import Location, NewItem, Scope, Source
from mistamover.jobs.requests import Caller, Request
from mistamover.jobs.submission import Desk


class CartDesk:
    """Takes requests for carts; see the module. Used by several threads."""

    def __init__(self, desk: Desk) -> None:
        """Given the desk of jobs."""
        self._desk = desk
        self._carts = desk.store.carts
        self._settings = desk.settings.carts
        self._front = desk.settings.front
        self.volume = Volume(self._settings.volume)

    def create(self, request: Request, new: NewCart) -> tuple[Cart, bool]:
        """Given what a client asks for, make a cart; return it, and whether it is a new one. Raise JobRefused.

        One of the same uid may be there: the new one is then what is seen.
        """
        uid = wishes.checked_uid(new.uid, at_root=self._front.carts_at_root)
        files = wishes.checked_files(new.files, self._settings.max_files, any_hash=new.any_hash)
        form = self._form(new, wishes.common_hash(files))
        if form.manifest and form.layout is BundleLayout.PLAIN:
            wishes.check_free(files, manifest_name(form.algorithm))
        archive = self._archive(new.archive)
        items = [
            NewItem(
                source=Source(location=self._desk.endpoints.resolve(archive, file.id)),
                target=Location(endpoint=VOLUME, path=file.path),
                hash_type=file.hash_type,
                hash_value=file.hash_value,
            )
            for file in files
        ]
        job, created = self._desk.bundle(replace(request, label=uid), items, form)
        cart = self._carts.get(job.id)
        if cart is None:
            raise JobRefused("unknown-cart", "the cart was forgotten at once")
        return cart, created

    def newest(self, who: Caller, uid: str) -> Cart | None:
        """Given who asks and a uid, return the cart of it that was made last, of his own if there is one.

        None where there is none that is kept.
        """
        return self._carts.newest(uid, owner=who.name) if wishes.is_uid(uid) else None

    def need(self, who: Caller, uid: str) -> Cart:
        """As `newest`. Raise JobRefused (`unknown-cart`)."""
        found = self.newest(who, uid)
        if found is None:
            raise _unknown()
        return found

    def page(
        self,
        *,
        uid: str | None = None,
        owner: str | None = None,
        state: CartState | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> tuple[list[Cart], int | None]:
        """Given filters, return carts that are kept, the newest first, and the cursor of what comes after them."""
        return self._carts.page(uid=uid, owner=owner, state=state, before=before, limit=limit)

    def retry(self, who: Caller, uid: str) -> Cart:
        """Given a uid, have its newest cart go on with what failed. Raise JobRefused, RetryRefused."""
        found = self._carts.last(uid, owner=who.name) if wishes.is_uid(uid) else None
        if found is None or found.kept is Kept.DELETED:
            raise _unknown()
        self._may_change(who, found)
        if found.kept is Kept.EVICTED:
            raise RetryRefused("the files of this cart were removed to make room for others: ask for it anew")
        job = self._desk.store.jobs.retry(found.job.id)
        if job is None:
            raise _unknown()
        return replace(found, job=job)

    def delete(self, who: Caller, uid: str) -> bool:
        """Given a uid, delete all carts of it that are the caller's; of an administrator's all of them.

        Return whether all files that could go are gone; those that a worker has to do with go later.
        Raise JobRefused (`unknown-cart`, `forbidden`).
        """
        found = self.need(who, uid)
        gone = self._carts.delete(uid, owner=self._whose(who))
        if not gone:
            self._may_change(who, found)
            raise _unknown()
        return self._removed(gone)

    def purge(self, who: Caller, unused_since: float) -> int:
        """Given a time, delete what has ended and nobody used since: the caller's, an administrator's all; return how
        many. Raise JobRefused (`forbidden`).
        """
        gone = self._carts.purge(unused_since=unused_since, owner=self._whose(who))
        self._removed(gone)
        return len(gone)

    # -- inside -------------------------------------------------------------------------------

    def _form(self, new: NewCart, common: str) -> BundleForm:
        format, layout = wishes.checked_format(new.format), wishes.checked_layout(new.layout)
        check_format(format)
        # Clients of the older service know of no file but their own.
        usual = self._settings.manifest and self._front.cart_dialect != "cartd"
        return BundleForm(
            stored=self._settings.bundle if new.stored is None else new.stored,
            format=format,
            layout=layout,
            manifest=layout is BundleLayout.BAGIT or (usual if new.manifest is None else new.manifest),
            algorithm=common,
        )

    def _archive(self, name: str) -> str:
        name = name or self._settings.archive
        if not name:
            words = "the cart does not say which archive its files come from, and [carts] archive is not set"
            raise JobRefused("no-archive", words)
        return self._desk.endpoints.need(name).name

    def _whose(self, who: Caller) -> str | None:
        if not who.scope.includes(Scope.SUBMIT):
            raise JobRefused("forbidden", "this needs the scope submit")
        return None if who.scope.includes(Scope.ADMIN) else who.name

    def _may_change(self, who: Caller, cart: Cart) -> None:
        if self._whose(who) not in (None, cart.job.owner):
            words = "this cart belongs to another owner: only he or an administrator changes it"
            raise JobRefused("forbidden", words)

    def _removed(self, gone: Sequence[str]) -> bool:
        """Remove the files of deleted carts, but of those that a worker has: it does that at the end."""
        whole = True
        for job in gone:
            cart = self._carts.get(job)
            if cart is None or not cart.job.state.final:
                continue
            if discard(self.volume, job):
                self._carts.removed(job)
            else:
                # A worker tries it again.
                whole = False
        return whole


def _unknown() -> JobRefused:
    return JobRefused("unknown-cart", "there is no cart of that uid: it was deleted, or made room for others")
