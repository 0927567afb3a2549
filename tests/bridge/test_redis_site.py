"""A site on Redis, through each of the backends for it."""

import pytest

from tests.sites import Project


@pytest.mark.parametrize("scheme", ["redis", "django-redis+redis", "django-valkey+redis"])
def test_once_it_is_warm_no_process_compiles_anything(redis, scheme):
    address = f"{scheme}://{redis.address}/2"
    project = Project("testproject.settings", {"BYTECODE_CACHE": address})
    warmed = project.manage("warm_bytecode")
    assert (warmed.returncode, warmed.stderr) == (0, "")
    visit = project.visit("/")
    assert (visit.compiled, visit.misses) == ([], 0)
    assert visit.hits > 0
    cleared = project.manage("clear_bytecode", "--noinput")
    assert (cleared.returncode, cleared.stderr) == (0, "")
    with redis.client(db=2) as client:
        assert client.dbsize() == 0
    assert redis.keys() == []
