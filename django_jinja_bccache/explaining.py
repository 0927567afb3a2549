"""Why a template is served from the cache, or is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from django_jinja_bccache.archive import Archive, moment
from django_jinja_bccache.discovery import CachedEngine, read_source
from django_jinja_bccache.entry import unseal
from django_jinja_bccache.exceptions import EntryRejected
from django_jinja_bccache.fingerprint import FINGERPRINT_SIZE, summary
from django_jinja_bccache.newest import Newest
from django_jinja_bccache.notes import newest_of
from django_jinja_bccache.packs import Scope
from django_jinja_bccache.publishing import lost_packs, read_publishes

NOTHING = "(none)"


class Difference(NamedTuple):
    """One part of a key that is not what it was when the engine was warmed last.

    Attributes:
        part: What differs.
        here: What it is in this process.
        there: What it was.
    """

    part: str
    here: str
    there: str


@dataclass
class Explanation:
    """Why a template is served from the cache, or is not.

    Attributes:
        engine: The engine's NAME.
        template: The template's name.
        key: Its entry key.
        parts: What the key is made of, by the names of its parts.
        found: Where it is found: ``pack``, ``entry`` or, if it is not, the empty string.
        created: When that was stored.
        reason: Why it is not found, in a sentence; the empty string if it is.
        differences: What of the key differs from what the engine was warmed with last.
        warmed: When that was; None if it is not known.
    """

    engine: str
    template: str
    key: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    found: str = ""
    created: datetime | None = None
    reason: str = ""
    differences: list[Difference] = field(default_factory=list)
    warmed: datetime | None = None


def explain(engine: CachedEngine, template: str) -> Explanation:
    """Tell why a template of an engine is served from its cache, or is not.

    Args:
        engine: The engine.
        template: The template's name.

    Raises:
        jinja2.TemplateNotFound: The engine has no such template.
        UnicodeDecodeError: It is not text.
        StoreError: The store failed.
    """
    explanation = Explanation(engine.name, template)
    source = read_source(engine.environment, template)
    if source is None:
        explanation.reason = "Its loader has it compiled already: no cache is asked."
        return explanation
    bucket = engine.cache.empty_bucket(
        engine.environment, source.name, source.filename, source.text
    )
    explanation.key = engine.cache.entry_key(bucket)
    scope = engine.cache.published.scope(engine.environment)
    with Archive(engine.cache.storage) as archive:
        explanation.parts = {
            "environment": scope.fingerprint,
            "autoescape": "on" if bucket.key.endswith("+") else "off",
            "source": bucket.checksum,
            "signing keys": ", ".join(each.id for each in archive.signing_keys),
            "release": scope.release or NOTHING,
        }
        _look(archive, engine, scope, explanation)
        if not explanation.found:
            newest = newest_of(archive, scope)
            if newest is not None:
                explanation.warmed = moment(newest.created) if newest.fingerprint else None
                found = _differences(archive, engine, scope, explanation, newest)
                explanation.differences = list(found)
            explanation.reason = _reason(archive, explanation, newest)
    return explanation


def _look(archive: Archive, engine: CachedEngine, scope: Scope, explanation: Explanation) -> None:
    """Find the template where a page would."""
    if engine.cache.packs:
        publish = read_publishes(archive, [scope.prefix]).get(scope.prefix)
        is_in = publish is not None and explanation.key in publish.entry_keys.values()
        if publish is not None and is_in and not lost_packs(archive, publish):
            explanation.found, explanation.created = "pack", moment(publish.created)
            return
    held = archive.read([explanation.key]).get(explanation.key)
    if held is not None:
        explanation.found, explanation.created = "entry", moment(held.unsealed.created)


def _reason(archive: Archive, explanation: Explanation, newest: Newest | None) -> str:
    for reason in _refusals(archive, explanation.key):
        return f"What is stored under its key is refused: {reason}."
    if newest is None:
        return "It is not stored, and this engine has not been warmed."
    if explanation.differences:
        return "It is not stored under its present key."
    return "It was stored under its present key, and is gone: dropped, or never accepted."


def _refusals(archive: Archive, key: str) -> Iterator[str]:
    for signing_key, value in archive.values(key):
        try:
            unseal(key, value, signing_key)
        except EntryRejected as rejected:
            yield rejected.reason


def _differences(
    archive: Archive,
    engine: CachedEngine,
    scope: Scope,
    explanation: Explanation,
    newest: Newest,
) -> Iterator[Difference]:
    if not newest.fingerprint:
        yield Difference("signing key", explanation.parts["signing keys"], newest.key_id)
        return
    if newest.fingerprint != scope.fingerprint:
        here, there = summary(engine.environment), newest.parts
        parts = [part for part in {**here, **there} if here.get(part) != there.get(part)]
        for part in parts:
            yield Difference(part, here.get(part, NOTHING), there.get(part, NOTHING))
        if not parts:
            yield Difference("salt", "another", "another")
    then = Scope(scope.engine, newest.fingerprint, scope.release)
    publish = read_publishes(archive, [then.prefix]).get(then.prefix)
    if publish is None:  # the cache has no packs, or has them no more
        return
    key = publish.entry_keys.get(explanation.template)
    if key is None:
        yield Difference("template", "there", "not published")
        return
    if key[FINGERPRINT_SIZE:] == explanation.key[FINGERPRINT_SIZE:]:
        return
    held = archive.read([key]).get(key)
    now, before = explanation.parts["source"], held.label.checksum if held else "another"
    if now != before:
        yield Difference("source", now, before)
    else:
        escapes = explanation.parts["autoescape"]
        yield Difference("autoescape", escapes, "off" if escapes == "on" else "on")
