"""Settings of the test project under load: the templates are those of a release.

``LOAD_RELEASES`` in the process environment is the directory of all releases. Which of them is
served stands in its file ``current`` when a process starts, unless ``LOAD_RELEASE`` says it.
"""

import os
from pathlib import Path

from testproject.settings import *  # noqa: F403
from testproject.settings import MIDDLEWARE as _MIDDLEWARE
from testproject.settings import TEMPLATES as _TEMPLATES

_releases = Path(os.environ["LOAD_RELEASES"])
RELEASE = os.environ.get("LOAD_RELEASE") or (_releases / "current").read_text()

ROOT_URLCONF = "testproject.load.site"
MIDDLEWARE = ["testproject.load.site.telling", *_MIDDLEWARE]
TEMPLATES = [
    {
        **_TEMPLATES[0],
        "APP_DIRS": False,
        "DIRS": [str(_releases / RELEASE)],
        "OPTIONS": {
            **_TEMPLATES[0]["OPTIONS"],
            "bytecode_cache": {"alias": "default", "release": RELEASE, "cooldown": 1},
            # Not enough for all, so that processes go on loading templates.
            "cache_size": 40,
        },
    },
    *_TEMPLATES[1:],
]
# A store that is ill is news once, and no reason to fill the log of a test.
LOGGING = {"version": 1, "disable_existing_loggers": False}
