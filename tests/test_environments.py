"""One store for environments of every kind: each renders as if it were alone."""

from typing import Any

import pytest
from jinja2 import DictLoader

from django_jinja_bccache import DjangoBytecodeCache
from tests.pairs import PAIRS, Pair
from tests.parts import Make

NAME = "page.html"


def outcome(make: Make, pair: Pair, **options: Any) -> tuple[object, object]:
    """What an environment, new as in another process, makes of the pair's template."""
    environment = make(loader=DictLoader({"first": "", NAME: pair.source}), **options)
    try:
        rendered = environment.get_template(NAME).render(pair.context)
    except Exception as error:
        return type(error), str(error)
    return type(rendered), rendered


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_environments_that_share_a_store_render_as_each_does_alone(backend, pair, turned):
    makes = [pair.other, pair.one] if turned else [pair.one, pair.other]
    alone = [outcome(make, pair) for make in makes]

    def shared() -> tuple[list[tuple[object, object]], int]:
        cache = DjangoBytecodeCache(deadline=10)
        outcomes = [outcome(make, pair, bytecode_cache=cache) for make in makes]
        return outcomes, cache.statistics.stores

    assert shared()[0] == alone
    assert shared() == (alone, 0)
