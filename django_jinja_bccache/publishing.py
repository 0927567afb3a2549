"""Writing packs: in which order templates go into them, and when they are written anew."""

from __future__ import annotations

import json
import marshal
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from types import CodeType

from django_jinja_bccache.archive import Archive, Copy
from django_jinja_bccache.bytecode import code_from
from django_jinja_bccache.exceptions import ReleaseChanged
from django_jinja_bccache.fingerprint import FINGERPRINT_SIZE
from django_jinja_bccache.packs import (
    INDEX,
    PACK_SIZE,
    PackLabel,
    PlainPlace,
    Scope,
    label_of,
)
from django_jinja_bccache.publishes import read_publishes

# A template that this many others name is likely to be part of any page.
_SHARED_BY = 3
# About what the index takes for a template, beside its name and path.
_INDEX_SIZE = 50


@dataclass(frozen=True, slots=True)
class Publishable:
    """One template to publish.

    Attributes:
        template: Its name.
        key: Its entry key.
        size: Bytes of its bytecode.
        root: See ``Place``, as for ``path``.
        path: The file's path below its root.
        name: See ``Place``, as for ``escapes``.
        needs: The names of the templates that it names, and of those that these name.
    """

    template: str
    key: str
    size: int
    root: str = ""
    path: str = ""
    name: str = ""
    escapes: bool = False
    needs: frozenset[str] = frozenset()

    @property
    def digest(self) -> bytes:
        """The part of the entry key that is not the fingerprint."""
        return bytes.fromhex(self.key[FINGERPRINT_SIZE:])


def in_order(
    templates: Iterable[Publishable], references: Mapping[str, Iterable[str]]
) -> list[Publishable]:
    """Put those first that many others name, then go folder by folder; tell what each needs.

    Args:
        templates: The templates.
        references: The names that each template names.
    """
    named = Counter(name for names in references.values() for name in set(names))

    def rank(item: Publishable) -> tuple[int, str, str]:
        count = named[item.template]
        folder, _, base = item.template.rpartition("/")
        return (-count if count >= _SHARED_BY else 0, folder, base)

    return [
        replace(item, needs=_closure(item.template, references))
        for item in sorted(templates, key=rank)
    ]


def _closure(template: str, references: Mapping[str, Iterable[str]]) -> frozenset[str]:
    found: set[str] = set()
    stack = [template]
    while stack:
        new = set(references.get(stack.pop(), ())) - found
        found |= new
        stack += new
    return frozenset(found)


def publish(
    archive: Archive,
    scope: Scope,
    templates: Sequence[Publishable],
    *,
    lifetime: float | None,
    force: bool = False,
) -> int:
    """Write the packs of one scope, unless they are there already.

    Args:
        archive: The cache's archive, which holds the entries.
        scope: Whose packs they are.
        templates: The templates in the order in which they are to lie.
        lifetime: Seconds that packs are kept, None for ever. Past half of it they are
            written anew.
        force: Whether a published release may get other content.

    Returns:
        How many packs were written, 0 if all were there.

    Raises:
        ReleaseChanged: The release is published with other content.
        StoreError: The store failed.
    """
    packs = _cut(templates)
    keys = [f"{scope.prefix}{number}" for number in (*range(len(packs)), INDEX)]
    label = _label(scope, packs)
    before = archive.copies(keys)
    if scope.release and not force:
        refuse_change(archive, scope, templates)
    is_there = [
        sum(_is_current(copy, label.publish, lifetime) for copy in before.get(key, []))
        for key in keys
    ]
    if all(count == archive.tier_count for count in is_there):
        return 0
    said = json.dumps(label).encode()
    index = json.dumps({item.template: item.key for item in templates}).encode()
    for number in reversed(range(len(packs))):
        places = {} if number else _places(packs)
        contents = (_codes(archive, packs[number]), places)
        if number == 0:
            archive.store_pack(keys[-1], index, said, is_for_all=True)
        archive.store_pack(keys[number], marshal.dumps(contents), said)
    return len(packs)


def _label(scope: Scope, packs: Sequence[Sequence[Publishable]]) -> PackLabel:
    identity = json.dumps(
        [[(item.key, item.root, item.path, sorted(item.needs)) for item in pack] for pack in packs]
    )
    publish_id = blake2b(identity.encode(), digest_size=12).hexdigest()
    return PackLabel(publish_id, len(packs), scope.engine, scope.fingerprint, scope.release)


def _cut(templates: Sequence[Publishable]) -> list[list[Publishable]]:
    packs: list[list[Publishable]] = [[]]
    # The index is in the first.
    size = sum(_INDEX_SIZE + len(item.template) + len(item.path) for item in templates)
    for item in templates:
        if size + item.size > PACK_SIZE and (packs[-1] or len(packs) == 1):
            packs.append([])
            size = 0
        packs[-1].append(item)
        size += item.size
    return packs


def _places(packs: Sequence[Sequence[Publishable]]) -> dict[str, PlainPlace]:
    items = [(item, number) for number, pack in enumerate(packs) for item in pack]
    positions = {item.template: position for position, (item, _) in enumerate(items)}
    return {
        item.template: (
            item.digest,
            number,
            item.root,
            item.path,
            tuple(sorted(positions[name] for name in item.needs if name in positions)),
            item.size,
            item.name,
            item.escapes,
        )
        for item, number in items
    }


def _codes(archive: Archive, pack: Sequence[Publishable]) -> dict[bytes, CodeType]:
    held = archive.read([item.key for item in pack])
    return {
        item.digest: code_from(held[item.key].unsealed.payload)
        for item in pack
        if item.key in held
    }


def _is_current(copy: Copy, publish_id: str, lifetime: float | None) -> bool:
    is_same = copy.is_current and label_of(copy.unsealed).publish == publish_id
    if not (is_same and copy.can_be_opened):
        return False
    return lifetime is None or time.time() - copy.unsealed.created < lifetime / 2


def refuse_change(archive: Archive, scope: Scope, templates: Sequence[Publishable]) -> None:
    """Let nothing pass that would give a published release other content.

    Raises:
        ReleaseChanged: It would.
        StoreError: The store failed.
    """
    published = read_publishes(archive, [scope.prefix]).get(scope.prefix)
    if published is None or not published.entry_keys:  # nobody can tell what is in it
        return
    now = {(item.template, item.key) for item in templates}
    then = set(published.entry_keys.items())
    if now != then:
        raise ReleaseChanged(scope.release, sorted({template for template, _ in now ^ then}))
