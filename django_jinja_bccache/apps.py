"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig

from django_jinja_bccache.conf import validate_settings
from django_jinja_bccache.overriding import follow_overrides


class DjangoJinjaBccacheConfig(AppConfig):
    """Checks the settings at start-up, so that a mistake in them never waits for a page."""

    name = "django_jinja_bccache"
    verbose_name = "Jinja2 bytecode cache"

    def ready(self) -> None:
        """Register the system checks; raise ConfigurationError for an option that is wrong."""
        from django_jinja_bccache import checks, host_checks  # noqa: F401 - they register them

        follow_overrides()
        validate_settings()
