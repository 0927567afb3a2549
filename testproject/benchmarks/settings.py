"""Settings under which Django compiles and caches the two real corpora."""

from __future__ import annotations

import os

from testproject.benchmarks import corpus
from testproject.benchmarks.environments import INDICO_OPTIONS, MATERIAL_OPTIONS
from testproject.caches import caches_from, option_from

DEBUG = False
SECRET_KEY = "insecure-and-public-for-benchmarks-only-0123456789"
USE_TZ = True

INSTALLED_APPS = ["django_jinja_bccache"]

RELEASE = os.environ.get("RELEASE") or None
BYTECODE_CACHE = os.environ.get("BYTECODE_CACHE") or "file"
CACHES = caches_from(BYTECODE_CACHE, corpus.DIRECTORY / "cache")


option = option_from(BYTECODE_CACHE)
if isinstance(option, str):
    option = {"alias": option}


def engine(name, environment_options):
    # Django fills in autoescape and undefined itself unless they stand here.
    return {
        "BACKEND": "django_jinja_bccache.jinja2.Jinja2",
        "NAME": name,
        "OPTIONS": {
            "environment": f"testproject.benchmarks.corpus.{name}_environment",
            "loader": corpus.corpus(name).loader(),
            "bytecode_cache": {**option, "release": RELEASE},
            **environment_options,
        },
    }


TEMPLATES = [engine("indico", INDICO_OPTIONS), engine("material", MATERIAL_OPTIONS)]
