"""The pages of the test project, those of the toolbar, and one that only tests ask for."""

from asgiref.sync import sync_to_async
from debug_toolbar.toolbar import debug_toolbar_urls
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from testproject.urls import handler404, handler500, urlpatterns  # noqa: F401


async def in_a_thread(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(render)(request, request.GET["template"])


urlpatterns = [
    path("in-a-thread/", in_a_thread),
    *urlpatterns,
    *debug_toolbar_urls(),
]
