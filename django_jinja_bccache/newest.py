"""What an engine was warmed with last: for those who find nothing of it, and wonder why.

The note lies under a key without a signing key's id, so that a process with another key finds it,
too. Such a process cannot authenticate it: it reads the id of the key that sealed it, and nothing
else, and uses that for a line in the log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from django_jinja_bccache.compression import ZLIB
from django_jinja_bccache.entry import SigningKey, seal, unauthenticated_label, unseal
from django_jinja_bccache.exceptions import EntryRejected
from django_jinja_bccache.packs import PackLabel, Scope


class Newest(NamedTuple):
    """What an engine was warmed with last.

    Attributes:
        key_id: The id of the key that sealed it.
        fingerprint: The environment's, the empty string if the note is not authentic here.
        parts: The summary of the environment, empty likewise.
        created: When, in seconds since the epoch.
    """

    key_id: str
    fingerprint: str
    parts: dict[str, str]
    created: int


def newest_key(scope: Scope | PackLabel) -> str:
    """Return the key of the note about a scope's engine and release."""
    about = json.dumps([scope.engine, scope.release]).encode()
    return f"newest.{blake2b(about, digest_size=16).hexdigest()}"


def seal_newest(scope: Scope, parts: dict[str, str], signing_key: SigningKey) -> bytes:
    """Return the note about a scope."""
    label = json.dumps({"key": signing_key.id}).encode()
    payload = json.dumps({"fingerprint": scope.fingerprint, "parts": parts}).encode()
    return seal(newest_key(scope), payload, signing_key, label=label, method=ZLIB)


def read_newest(
    scope: Scope | PackLabel, value: object, signing_keys: Sequence[SigningKey]
) -> Newest | None:
    """Return what a note says, None if it is none.

    Args:
        scope: Whose engine and release it is about.
        value: What the store returned, trusted in nothing.
        signing_keys: The keys that it may have been sealed with.
    """
    for signing_key in signing_keys:
        try:
            unsealed = unseal(newest_key(scope), value, signing_key)
            said = json.loads(bytes(unsealed.payload))
            fingerprint, parts = said["fingerprint"], dict(said["parts"])
        except EntryRejected:
            continue
        except (ValueError, TypeError, KeyError):  # of another version of this package
            return None
        return Newest(signing_key.id, fingerprint, parts, unsealed.created)
    key_id = _key_id_in(value)
    is_foreign = key_id and key_id not in {signing_key.id for signing_key in signing_keys}
    return Newest(key_id, "", {}, 0) if is_foreign else None


def why_nothing_is_found(scope: Scope, newest: Newest, signing_keys: Sequence[SigningKey]) -> str:
    """Return a line for the log of a process that found nothing of what was published."""
    if not newest.fingerprint:
        own = ", ".join(signing_key.id for signing_key in signing_keys)
        return (
            f"The templates of engine {scope.engine!r} were warmed with another signing key "
            f"(its id is {newest.key_id}; this process accepts {own}), so that nothing of it is "
            "used. Give both the same SECRET_KEY, or add the other one to SECRET_KEY_FALLBACKS or "
            "to the option key."
        )
    what = f"release {scope.release!r} of engine" if scope.release else "engine"
    return (
        f"The templates of {what} {scope.engine!r} were warmed last for another environment, and "
        "nothing for this one. manage.py inspect_bytecode --explain TEMPLATE says what differs."
    )


def _key_id_in(value: object) -> str:
    """Return the key id that a note of another key claims, the empty string if it claims none."""
    try:
        claimed = json.loads(unauthenticated_label(value, 100))["key"]
        return bytes.fromhex(claimed).hex() if len(claimed) == 16 else ""
    except (EntryRejected, ValueError, TypeError, KeyError):
        return ""
