"""What the test project has for ill stores: a page of each generated template, and its counts."""

import json
import os
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import engines
from django.urls import include, path

COUNTED = ("hits", "misses", "stores", "errors", "rejected")


def ready(request: HttpRequest) -> HttpResponse:
    """A page without a template."""
    return HttpResponse(b"ready")


def generated(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, f"generated/{name}.html", {"name": name})


def counting(get_response: Callable[[HttpRequest], HttpResponse]):
    """Tell with each answer what this process has counted, without asking the store."""
    # Threads that ask at once for an engine that is not there yet each make one, and keep the
    # last; this is called while the server starts.
    engines.all()

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        cache = engines["jinja2"].env.bytecode_cache
        counts = {"process": os.getpid()}
        if cache is not None:
            snapshot = cache.storage.recorder.snapshot(None, None)
            counts |= {name: getattr(snapshot, name) for name in COUNTED}
        response["X-Counts"] = json.dumps(counts)
        return response

    return middleware


urlpatterns = [
    path("ready/", ready),
    path("generated/<slug:name>/", generated),
    path("", include("testproject.urls")),
]

handler404 = "testproject.catalogue.views.page_not_found"
handler500 = "testproject.catalogue.views.server_error"
