"""One scope's packs, as one process reads them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from types import CodeType
from typing import NamedTuple

from django_jinja_bccache.bytecode import code_from
from django_jinja_bccache.entry import Unsealed, unseal
from django_jinja_bccache.exceptions import EntryRejected
from django_jinja_bccache.newest import newest_key, read_newest, why_nothing_is_found
from django_jinja_bccache.packs import Contents, Place, PlainPlace, Scope, contents_of, label_of
from django_jinja_bccache.storage import Candidate, EntryStorage
from django_jinja_bccache.stores.base import Store
from django_jinja_bccache.stores.tiered import get_any, get_latest

logger = logging.getLogger("django_jinja_bccache")

# Packs that are asked for at once: first, and at most.
_FIRST, _MOST = 6, 64
# Pages that get what they need and no more; what comes after them gets whole packs.
_PAGES = 3
# Packs whose code is held until somebody asks for it; the oldest go first.
_MOST_HELD = 32


class _Index(NamedTuple):
    """What pack 0 lists: read by threads while another one puts a new one in its place.

    Attributes:
        table: The places of all published templates.
        positions: Where in the table an entry's is, by its digest.
    """

    table: Sequence[PlainPlace]
    positions: Mapping[bytes, int]


class PackReader:
    """One scope's packs, as one process reads them. Safe to share between threads.

    What it has fetched it holds until it is asked for, within bounds.

    Args:
        storage: Where the packs are.
        scope: Whose they are.
        cooldown: Seconds after which it asks again for packs that were not there.
        patience: Seconds that a thread waits for another one's fetching.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        storage: EntryStorage,
        scope: Scope,
        *,
        cooldown: float,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._scope = scope
        self._prefix = scope.prefix
        self._cooldown = cooldown
        self._patience = patience
        self._clock = clock
        self._locks: dict[int, threading.Lock] = {}
        self._retry_at: float | None = 0.0  # None while all is well
        self._ahead = 0
        self._publish = ""
        self._count = 0
        self._is_latest = False
        self._places: Mapping[str, PlainPlace] = {}
        self._index = _Index((), {})
        self._asked: set[int] = set()
        self._pages = 0
        self._has_said_why = False
        self._has_answered = False
        self._has_missed_release = False
        self._sealed: dict[int, list[Candidate]] = {}
        self._opened: set[int] = set()
        self._codes: dict[bytes, CodeType] = {}
        self._held: deque[tuple[int, list[bytes]]] = deque()

    def code(self, digest: bytes) -> CodeType | None:
        """Return the code of an entry, None if the packs do not hold it (any more)."""
        if not self._is_ready_for(digest):
            with self._alone() as is_alone:
                if is_alone:
                    self._get_ready_for(digest)
        return self._codes.pop(digest, None)

    def size(self, digest: bytes) -> int:
        """Return how many bytes an entry's bytecode has, 0 if it is not known."""
        index = self._index
        position = index.positions.get(digest)
        return 0 if position is None else index.table[position][5]

    def place(self, template: str) -> Place | None:
        """Return where a template was published, None if it was not."""
        if self._wants_publish():
            with self._alone() as is_alone:
                if is_alone:
                    self._find_publish()
                    self._say_that_the_release_is_missed()
        place = self._places.get(template)
        return None if place is None else Place(*place)

    def expect_all(self) -> list[str]:
        """Fetch many packs at once from now on; return the published names in their order."""
        self._ahead = _MOST
        self.place("")
        return list(self._places)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Wait until no other thread fetches; tell whether that was in time."""
        # One for each process: in a forked child, whoever held its parent's may not exist.
        lock = self._locks.setdefault(os.getpid(), threading.Lock())
        acquired = lock.acquire(timeout=self._patience)
        try:
            yield acquired
        finally:
            if acquired:
                lock.release()

    def _wants_publish(self) -> bool:
        retry_at = self._retry_at  # another thread may set it to None meanwhile
        return retry_at is not None and self._clock() >= retry_at

    def _is_ready_for(self, digest: bytes) -> bool:
        """Tell whether nothing is to be fetched or opened, now or soon, for this entry."""
        index = self._index
        position = index.positions.get(digest)
        if position is None:
            is_old = bool(self._publish) and not self._is_latest
            return not (is_old or self._wants_publish())
        return position in self._asked and self._asked.issuperset(index.table[position][4])

    def _get_ready_for(self, digest: bytes) -> None:
        """Get a template's code, and that of all it needs, with one question at most."""
        self._find_publish()
        if digest not in self._index.positions and self._publish and not self._is_latest:
            self._find_publish(latest=True)
        position = self._index.positions.get(digest)
        if position is None:
            return
        wanted = {position, *self._index.table[position][4]} - self._asked
        self._asked |= wanted
        numbers = {self._index.table[each][1] for each in wanted} - self._opened
        if numbers and not self._ahead and not numbers <= self._sealed.keys():
            self._fetch_entries(wanted)
            if digest in self._codes:
                return
            numbers = {self._index.table[position][1]}
        self._fetch(numbers - self._sealed.keys())
        code = self._codes.get(digest)  # which may have to make room for what is opened
        for number in sorted(numbers):
            self._open(number)
        if code is not None:
            self._codes[digest] = code
        while len(self._sealed) > _MOST:
            del self._sealed[next(iter(self._sealed))]

    def _fetch_entries(self, positions: Collection[int]) -> None:
        """Fetch what a page needs, and no more: packs would bring their other templates, too."""
        digests = [self._index.table[position][0] for position in positions]
        keys = {
            self._scope.fingerprint + digest.hex(): digest
            for digest in digests
            if digest not in self._codes
        }
        for key, candidates in self._storage.fetch_many(list(keys), _get_many).items():
            unsealed = self._authentic(key, candidates)
            if unsealed is not None:
                with suppress(EntryRejected):
                    self._codes[keys[key]] = code_from(unsealed.payload)
        gone = [each for each in positions if self._index.table[each][0] not in self._codes]
        self._asked.difference_update(gone)
        # A process that goes on asking will want them all.
        self._pages += 1
        self._ahead = int(bool(gone) or self._pages >= _PAGES)

    def _find_publish(self, *, latest: bool = False) -> None:
        """Fetch the first packs, and learn from pack 0 what there is."""
        if not latest and not self._wants_publish():
            return
        # A local tier that has pack 0 has what came with it.
        found = self._fetch_numbers(range(_FIRST), get_latest if latest else get_any)
        # Not before: other threads are to wait for what is on its way.
        self._retry_at = self._clock() + self._cooldown
        self._is_latest = latest or not self._storage.opener.has_tiers
        first = self._authentic(f"{self._prefix}0", found.pop(0, []))
        if first is None:
            self._say_why_nothing_is_found()
            return
        try:
            contents = contents_of(first)
        except EntryRejected as rejected:
            self._note(f"{self._prefix}0", rejected)
            return
        label = label_of(first)
        self._sealed = found
        self._asked, self._opened = set(), set()
        self._publish, self._count = label.publish, label.total
        self._places, table = contents.places, list(contents.places.values())
        positions = {place[0]: position for position, place in enumerate(table)}
        self._index = _Index(table, positions)
        self._hold(0, contents)
        self._retry_at = None

    def _say_why_nothing_is_found(self) -> None:
        if self._has_said_why:
            return
        value = self._storage.fetch_note(newest_key(self._scope))
        self._has_answered = value is not None
        if value:
            self._has_said_why = True
            keys = self._storage.signing_keys
            newest = read_newest(self._scope, value, keys)
            if newest is not None and newest.fingerprint != self._scope.fingerprint:
                self._has_missed_release = True  # which this line says, too
                logger.warning("%s", why_nothing_is_found(self._scope, newest, keys))

    def _say_that_the_release_is_missed(self) -> None:
        missed = bool(self._scope.release) and self._has_answered and not self._publish
        if missed and not self._has_missed_release:
            self._has_missed_release = True
            logger.warning(
                "Release %r of engine %r is not in the bytecode cache: every template's source "
                "is read until it is. manage.py warm_bytecode publishes it.",
                self._scope.release,
                self._scope.engine,
            )

    def _fetch(self, wanted: set[int]) -> None:
        """Fetch packs, and the first of those that are not here yet: ever more at once."""
        if wanted:
            known = self._sealed.keys() | self._opened
            missing = (number for number in range(self._count) if number not in known)
            wanted.update(islice(missing, self._ahead))
            self._ahead = min(2 * self._ahead, _MOST)
            self._sealed.update(self._fetch_numbers(sorted(wanted), _get_many))

    def _fetch_numbers(
        self, numbers: Sequence[int], ask: Callable[[Store, Sequence[str]], dict[str, bytes]]
    ) -> dict[int, list[Candidate]]:
        keys = {f"{self._prefix}{number}": number for number in numbers}
        found = self._storage.fetch_many(list(keys), ask)
        return {keys[key]: candidates for key, candidates in found.items()}

    def _open(self, number: int) -> None:
        unsealed = self._authentic(f"{self._prefix}{number}", self._sealed.pop(number, []))
        try:
            if unsealed is not None and label_of(unsealed).publish == self._publish:
                self._hold(number, contents_of(unsealed))
                return
        except EntryRejected as rejected:
            self._note(f"{self._prefix}{number}", rejected)
        # Lost, or of another publish. There may be a whole one later.
        self._opened.add(number)
        self._retry_at = self._clock() + self._cooldown

    def _authentic(self, key: str, candidates: Sequence[Candidate]) -> Unsealed | None:
        for signing_key, value in candidates:
            try:
                return unseal(key, value, signing_key)
            except EntryRejected as rejected:
                self._note(key, rejected)
        return None

    def _note(self, key: str, rejected: EntryRejected) -> None:
        self._storage.recorder.record("rejected", None, key, reason=rejected.reason)

    def _hold(self, number: int, contents: Contents) -> None:
        self._codes |= contents.codes
        self._opened.add(number)
        self._held.append((number, list(contents.codes)))
        if len(self._held) > _MOST_HELD:
            oldest, digests = self._held.popleft()
            dropped = [digest for digest in digests if self._codes.pop(digest, None) is not None]
            if dropped:  # to be fetched again for what was not asked for yet
                self._opened.discard(oldest)
                self._asked.difference_update(map(self._index.positions.get, dropped))


def _get_many(store: Store, keys: Sequence[str]) -> dict[str, bytes]:
    return store.get_many(keys)
