"""The settings of the test project, with Django Debug Toolbar."""

import os

from testproject.settings import *  # noqa: F403
from testproject.settings import DEBUG, INSTALLED_APPS, MIDDLEWARE, TEMPLATES

assert DEBUG, "the toolbar is shown while DEBUG is on alone"

INSTALLED_APPS = [*INSTALLED_APPS, "debug_toolbar"]
MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware", *MIDDLEWARE]
ROOT_URLCONF = "tests.browser.urls"
INTERNAL_IPS = ["127.0.0.1"]

TEMPLATES[0]["DIRS"] = [os.environ["TEMPLATE_DIRECTORY"]]

DEBUG_TOOLBAR_CONFIG = {"IS_RUNNING_TESTS": False}
DEBUG_TOOLBAR_PANELS = [
    "debug_toolbar.panels.timer.TimerPanel",
    "debug_toolbar.panels.headers.HeadersPanel",
    "debug_toolbar.panels.request.RequestPanel",
    "debug_toolbar.panels.sql.SQLPanel",
    "debug_toolbar.panels.templates.TemplatesPanel",
    "debug_toolbar.panels.cache.CachePanel",
    "django_jinja_bccache.panels.BytecodeCachePanel",
]
