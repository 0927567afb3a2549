"""What the test project has under load: each answer tells its release and what was compiled."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path
from jinja2 import Environment

if TYPE_CHECKING:
    from collections.abc import Callable


class Compiles:
    """Counts what Jinja2 compiles in this process."""

    def __init__(self) -> None:
        self.number = 0
        lock, compile_ = threading.Lock(), Environment.compile

        def counting(environment: Environment, *arguments: Any, **options: Any) -> Any:
            with lock:
                self.number += 1
            return compile_(environment, *arguments, **options)

        Environment.compile = counting  # type: ignore[method-assign]


def telling(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    compiles = Compiles()
    engines.all()

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Release"] = settings.RELEASE
        response["X-Process"] = str(os.getpid())
        response["X-Compiled"] = str(compiles.number)
        return response

    return middleware


def ready(request: HttpRequest) -> HttpResponse:
    """A page without a template."""
    return HttpResponse(b"ready")


urlpatterns = [path("ready/", ready), path("", include("testproject.urls"))]

handler404 = "testproject.catalogue.views.page_not_found"
handler500 = "testproject.catalogue.views.server_error"
