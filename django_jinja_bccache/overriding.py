"""What happens when a test overrides the settings: nothing is held that came from the old ones."""

from __future__ import annotations

from typing import Any

from django.core.signals import setting_changed

from django_jinja_bccache.bccache import instances

_FOLLOWED = frozenset({"CACHES", "DATABASES", "SECRET_KEY", "SECRET_KEY_FALLBACKS"})


def forget_settings(*, setting: str, **_details: Any) -> None:
    """Have every cache begin anew if it depends on a setting, as ``override_settings`` tells."""
    if setting in _FOLLOWED:
        for cache in list(instances):
            cache.forget_settings()


def follow_overrides() -> None:
    """Connect to Django's signal, which nobody but tests sends."""
    setting_changed.connect(forget_settings, dispatch_uid="django_jinja_bccache")
