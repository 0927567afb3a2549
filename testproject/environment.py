"""The Jinja2 environment of the site."""

from typing import Any

from django.templatetags.static import static
from django.urls import reverse
from django.utils import translation
from jinja2 import Environment

from testproject.catalogue import filters


def url(name: str, *args: Any) -> str:
    return reverse(name, args=args)


def environment(**options: Any) -> Environment:
    """Build the environment that TEMPLATES names."""
    env = Environment(**options)
    env.policies["ext.i18n.trimmed"] = True
    env.install_gettext_translations(translation, newstyle=True)
    env.globals.update(static=static, url=url)
    env.filters.update(filters.FILTERS)
    env.tests.update(filters.TESTS)
    return env
