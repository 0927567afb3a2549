"""Settings of one measured process: one corpus in one engine, on one store.

The process environment says which: ``CORPUS``, ``CORPUS_ROOT``, ``BYTECODE_CACHE`` (see
``testproject/caches.py``), ``RELEASE`` and ``PACKS`` ("0" switches them off).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from testproject.benchmarks.corpus import placed
from testproject.benchmarks.environments import INDICO_OPTIONS, MATERIAL_OPTIONS
from testproject.caches import caches_from, option_from

DEBUG = False
SECRET_KEY = "insecure-and-public-for-benchmarks-only-0123456789"
USE_TZ = True

INSTALLED_APPS = ["django_jinja_bccache"]

CORPUS = os.environ["CORPUS"]
CORPUS_ROOT = Path(os.environ["CORPUS_ROOT"])
BYTECODE_CACHE = os.environ.get("BYTECODE_CACHE") or f"file://{CORPUS_ROOT}-unused"

CACHES = caches_from(BYTECODE_CACHE, CORPUS_ROOT)
# Django's own default is five minutes, less than a run takes.
CACHES["default"]["TIMEOUT"] = None
if CACHES["default"]["BACKEND"].endswith(".PyMemcacheCache"):
    CACHES["default"]["OPTIONS"] = {"no_delay": True}

ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "indico": ("testproject.benchmarks.environments.indico_environment", INDICO_OPTIONS),
    "material": ("testproject.benchmarks.environments.material_environment", MATERIAL_OPTIONS),
}
FACTORY, OPTIONS = ENVIRONMENTS.get(CORPUS, ("jinja2.Environment", {"autoescape": True}))

option = option_from(BYTECODE_CACHE)
if isinstance(option, str):
    option = {"alias": option}
if release := os.environ.get("RELEASE"):
    option["release"] = release
if os.environ.get("PACKS") == "0":
    option["packs"] = False

TEMPLATES = [
    {
        "BACKEND": "django_jinja_bccache.jinja2.Jinja2",
        "NAME": CORPUS,
        "OPTIONS": {
            "environment": FACTORY,
            "loader": placed(CORPUS, CORPUS_ROOT).loader(),
            "bytecode_cache": option,
            "cache_size": -1,
            **OPTIONS,
        },
    }
]
