"""The pages of a checkout that a server shows, and what its processes compile and count."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import engines
from django.urls import path
from jinja2 import Environment

COUNTED = ("hits", "misses", "stores", "errors", "rejected")


class Compiles:
    """Counts what Jinja2 compiles in this process."""

    def __init__(self) -> None:
        self.number = 0
        self._lock = threading.Lock()
        self._compile = Environment.compile

    def watch(self) -> None:
        def compile_(environment: Environment, *arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.number += 1
            return self._compile(environment, *arguments, **options)

        Environment.compile = compile_  # type: ignore[method-assign]


compiles = Compiles()


def counting(get_response: Callable[[HttpRequest], HttpResponse]):
    """Tell with each answer what this process has compiled and counted until then."""
    compiles.watch()
    engines.all()

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        snapshot = engines["jinja2"].env.bytecode_cache.storage.recorder.snapshot(None, None)
        counts = {name: getattr(snapshot, name) for name in COUNTED}
        counts |= {"process": os.getpid(), "compiled": compiles.number}
        response["X-Counts"] = json.dumps(counts)
        return response

    return middleware


def ready(request: HttpRequest) -> HttpResponse:
    """A page without a template."""
    return HttpResponse(b"ready")


def page(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, name)


urlpatterns = [path("ready/", ready), path("<path:name>", page)]
