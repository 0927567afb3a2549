"""The test project for ill stores: no process keeps a template, so each request loads its own.

Beside what ``testproject.settings`` reads, the process environment says where the generated
templates are (``FAULT_TEMPLATES``) and, in JSON, what the engine's option ``bytecode_cache`` is
(``FAULT_OPTION``), unless it is to be as usual.
"""

import json
import os

from testproject.settings import *  # noqa: F403
from testproject.settings import MIDDLEWARE as _MIDDLEWARE
from testproject.settings import TEMPLATES as _TEMPLATES

ROOT_URLCONF = "tests.faults.site_urls"
MIDDLEWARE = ["tests.faults.site_urls.counting", *_MIDDLEWARE]

_options = {**_TEMPLATES[0]["OPTIONS"], "cache_size": 0}
if "FAULT_OPTION" in os.environ:
    _options["bytecode_cache"] = json.loads(os.environ["FAULT_OPTION"])
TEMPLATES = [
    {**_TEMPLATES[0], "DIRS": [os.environ["FAULT_TEMPLATES"]], "OPTIONS": _options},
    *_TEMPLATES[1:],
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(process)d %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django_jinja_bccache": {"level": "INFO"}},
}
