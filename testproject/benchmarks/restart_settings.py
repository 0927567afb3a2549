"""The test project on Django's own template backend, with somebody else's cache.

The process environment says whose (``PEER``, a contender's kind) and where its bytecode is
(``PEER_PLACE``, a directory or a server's address).
"""

import os

import jinja2
from django_jinja.cache import BytecodeCache
from pymemcache.client.base import Client

from testproject.benchmarks import contenders
from testproject.settings import *  # noqa: F403
from testproject.settings import INSTALLED_APPS as _APPS
from testproject.settings import TEMPLATES as _TEMPLATES

PEER, PLACE = os.environ["PEER"], os.environ["PEER_PLACE"]

INSTALLED_APPS = [app for app in _APPS if app != "django_jinja_bccache"]

_options = {**_TEMPLATES[0]["OPTIONS"]}
del _options["bytecode_cache"]
if PEER == contenders.MODULES:
    _options["loader"] = jinja2.ModuleLoader(PLACE)
elif PEER == contenders.JINJA2_FILES:
    _options["bytecode_cache"] = jinja2.FileSystemBytecodeCache(PLACE)
elif PEER == contenders.JINJA2_MEMCACHED:
    _client = Client(PLACE, no_delay=True)
    _options["bytecode_cache"] = jinja2.MemcachedBytecodeCache(_client)
elif PEER == contenders.DJANGO_JINJA:
    _options["bytecode_cache"] = BytecodeCache("default")

TEMPLATES = [
    {
        **_TEMPLATES[0],
        "BACKEND": "django.template.backends.jinja2.Jinja2",
        "NAME": "jinja2",
        "OPTIONS": _options,
    },
    *_TEMPLATES[1:],
]
