"""Settings of the test project.

The process environment decides what differs between a test, the demo and a benchmark:
``DEBUG`` ("1" switches it on), ``SECRET_KEY`` and ``BYTECODE_CACHE`` (see ``caches.py``).
"""

import os
from pathlib import Path

import django

from testproject.caches import caches_from, databases_from, option_from

BASE_DIR = Path(__file__).resolve().parent
DATA_DIR = BASE_DIR / ".data"

DEBUG = os.environ.get("DEBUG") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY") or "insecure-and-public-for-tests-only-0123456789"
BYTECODE_CACHE = os.environ.get("BYTECODE_CACHE") or "file"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", "testserver"]

INSTALLED_APPS = [
    "django_jinja_bccache",
    "testproject.catalogue",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
]

# No CsrfViewMiddleware: a CSRF token differs in every response, and the pages are compared byte
# for byte. There is no session and no login whose authority a forged form could borrow.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "testproject.urls"
WSGI_APPLICATION = "testproject.wsgi.application"
ASGI_APPLICATION = "testproject.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django_jinja_bccache.jinja2.Jinja2",
        "APP_DIRS": True,
        "OPTIONS": {
            "environment": "testproject.environment.environment",
            "context_processors": [
                "django.template.context_processors.i18n",
                "testproject.catalogue.context_processors.shop",
                "testproject.catalogue.context_processors.navigation",
            ],
            "extensions": [
                "jinja2.ext.i18n",
                "jinja2.ext.loopcontrols",
                "testproject.extensions.PanelExtension",
            ],
            "bytecode_cache": option_from(BYTECODE_CACHE),
            "trim_blocks": True,
            "lstrip_blocks": True,
        },
    },
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.i18n",
                "testproject.catalogue.context_processors.shop",
            ],
        },
    },
]

CACHES = caches_from(BYTECODE_CACHE, DATA_DIR / "cache")
DATABASES = databases_from(BYTECODE_CACHE)

# The German words are those of Django's own catalogue (months, weekdays, yes and no, durations,
# the errors of forms), so that no compiled catalogue has to be kept here.
USE_I18N = True
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "German")]
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"

# Mail ends in a directory: nobody who tries the demo has to run a server for it.
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "OPTIONS": {"file_path": DATA_DIR / "mail"},
        },
    }
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = DATA_DIR / "mail"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
