"""What the panel takes down, without a browser: what a page can hardly be made to show."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import SimpleNamespace

import pytest
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.utils.html import strip_tags

from django_jinja_bccache import panels
from django_jinja_bccache.panels import BytecodeCachePanel
from tests.sites import cached_engine


@pytest.fixture
def cache(monkeypatch):
    engine = cached_engine(None)
    monkeypatch.setattr(panels, "cached_engines", lambda: [engine])
    return engine.cache


@pytest.fixture
def panel():
    """A panel that stands alone, of a request that is about to begin."""
    saved = {}
    toolbar = SimpleNamespace(
        request=RequestFactory().get("/"),
        request_id="1",
        stats={},
        server_timing_stats={},
        store=SimpleNamespace(save_panel=lambda *_: saved.update(json.loads(json.dumps(_[2])))),
    )
    panel = BytecodeCachePanel(toolbar, lambda _: None)
    panel.saved = saved
    yield panel
    panel.disable_instrumentation()


def record(cache, kind, template="page.html", key="key", **more):
    cache.storage.recorder.record(kind, template, key, **more)


def stats(panel):
    panel.generate_stats(None, None)
    panel.generate_server_timing(None, None)
    return panel.saved["caches"][0]


def test_only_a_request_that_is_recorded_is_recorded(cache, panel):
    record(cache, "hit", origin="store")
    panel.enable_instrumentation()
    record(cache, "hit", origin="store", size=2000)
    panel.disable_instrumentation()
    record(cache, "hit", origin="store")
    assert len(cache.listeners) == 1
    [load] = stats(panel)["loads"]
    assert (load["origin"], load["size"]) == ("store", 2000)
    assert panel.nav_subtitle == "1 template, 1 from the store in 0.0 ms"


def test_a_second_request_does_not_register_again(cache, panel):
    panel.enable_instrumentation()
    panel.enable_instrumentation()
    assert len(cache.listeners) == 1


def test_requests_at_the_same_time_are_kept_apart(cache, panel):
    def request(name):
        own = BytecodeCachePanel(panel.toolbar, None)
        own.enable_instrumentation()
        for _ in range(200):
            record(cache, "hit", template=name, origin="pack")
        return {load.template for load in own._recorded.heard[id(cache)].loads}

    with ThreadPoolExecutor(4) as threads:
        names = [f"{number}.html" for number in range(4)]
        seen = list(threads.map(lambda name: copy_context().run(request, name), names))
    assert seen == [{name} for name in names]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({"kind": "store", "size": 10}, {"refusal": "", "size": 10, "storing": 0.0}),
        ({"kind": "oversize", "size": 10}, {"refusal": "too large", "size": 10, "storing": None}),
        ({"kind": "unshareable"}, {"refusal": "not to be shared", "reason": "kept from storing"}),
        ({"kind": "error", "reason": "broken pipe"}, {"refusal": "failed", "compiling": None}),
        ({"kind": "compiled", "seconds": 0.25}, {"refusal": "", "compiling": 250.0}),
        ({"kind": "rejected", "reason": "damaged"}, {"refusal": ""}),
    ],
    ids=lambda value: value.get("kind", "-"),
)
def test_what_became_of_compiled_code(cache, panel, after, expected):
    panel.enable_instrumentation()
    record(cache, "miss", reason="absent")
    record(cache, **after)
    found = stats(panel)
    [load] = found["loads"]
    assert load == {**load, **expected, "origin": "compiled"}
    troubles = [[after["reason"], 1]] if "reason" in after else []
    assert found["troubles"] == troubles


def test_names_that_no_page_can_be_encoded_with(cache, panel):
    panel.enable_instrumentation()
    record(cache, "hit", template="\udcff.html", origin="store")
    record(cache, "hit", template=None, origin="store")
    names = [load["template"] for load in stats(panel)["loads"]]
    assert names == ["\\udcff.html", "(made by hand)"]
    for name in names:
        name.encode()


def test_a_cache_whose_entries_never_expire_says_so(cache, panel):
    cache.timeout = None
    panel.enable_instrumentation()
    record(cache, "hit", origin="store")
    stats(panel)
    text = render_to_string(panel.template, panel.saved, using="django")
    assert re.search(r"timeout\W.*?for ever", strip_tags(text), re.DOTALL)


def test_a_release_is_named(cache, panel):
    cache.release = "2026 <11>"
    panel.enable_instrumentation()
    record(cache, "hit", origin="pack")
    stats(panel)
    assert "release 2026 &lt;11&gt;" in render_to_string(
        panel.template, panel.saved, using="django"
    )


def test_without_a_cache(monkeypatch, panel):
    monkeypatch.setattr(panels, "cached_engines", list)
    panel.enable_instrumentation()
    panel.generate_stats(None, None)
    assert panel.nav_subtitle == "No template loaded"
    assert "No template engine uses" in render_to_string(
        panel.template, panel.saved, using="django"
    )
