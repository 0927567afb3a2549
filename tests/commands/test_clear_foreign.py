"""``manage.py clear_bytecode`` removes nothing that is not the site's own bytecode."""

from pathlib import Path

import pytest
from django.core.cache import caches

from django_jinja_bccache.entry import SigningKey
from testproject.caches import caches_from
from tests.sites import TEMPLATES, Site

NAMES = list(TEMPLATES)
DIGEST = "0123456789abcdef"


@pytest.mark.parametrize("arguments", [(), ("--stale",)])
def test_every_foreign_key_in_the_same_memcached_stays(memcached, tmp_path, arguments):
    site = site_on(f"memcached://{memcached.address}", tmp_path)
    own_id = SigningKey(site.settings["SECRET_KEY"]).id
    entry = f"{own_id}:{DIGEST * 4}{DIGEST[:8]}"
    planted = {
        *(f"session:{number}" for number in range(1000)),
        "testproject:1:jinja2/bytecode/",
        f"testproject:1:jinja2/bytecode/{own_id}",
        f"testproject:1:jinja2/bytecode/{own_id}{DIGEST}",
        f"testproject:1:jinja2/bytecode/{own_id[:-1]}:{DIGEST}",
        f"testproject:1:jinja2/bytecode/{DIGEST}:{DIGEST}",
        f"testproject:1:jinja2/bytecode/{DIGEST}:pack.{DIGEST * 2}.0",
        f"testproject:1:jinja2/bytecode2/{entry}",
        f"testproject:1:other/jinja2/bytecode/{entry}",
        f"testproject:11:jinja2/bytecode/{entry}",
        f"testproject:2:jinja2/bytecode/{entry}",
        f"testproject2:1:jinja2/bytecode/{entry}",
        f"other:testproject:1:jinja2/bytecode/{entry}",
        f":1:jinja2/bytecode/{entry}",
        f"jinja2/bytecode/{entry}",
        entry,
    }
    for key in planted:
        memcached.set_raw(key, key.encode())
    count = warm(site, *arguments)
    assert len(memcached.keys()) == len(planted) + count
    change_all(site)

    assert removed_by(site, *arguments) == 4
    assert {*memcached.keys()} == planted
    assert all(memcached.get_raw(key) == key.encode() for key in planted)


@pytest.mark.parametrize("arguments", [(), ("--stale",)])
def test_every_foreign_file_in_the_same_directory_stays(tmp_path, arguments):
    place = tmp_path / "cache"
    site = site_on(f"file://{place}", tmp_path)
    own = place / "jinja2_bytecode"
    digest = (DIGEST * 3)[:40]
    for path in (
        place / "keep.txt",
        place / f"{digest}.bytecode",
        place / f"{digest[:32]}.djcache.bak",
        own / "keep.cache",
        own / f"{digest}.bytecode",
        own / f"{digest}.bytecode.bak",
        own / f"{digest[:-1]}.bytecode",
        own / f"x{digest}.bytecode",
        own / "below" / f"{digest}.bytecode",
        own / ".new-notes.txt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (own / f"{digest[::-1]}.bytecode").symlink_to(place / "keep.txt")
    (own / f"{digest[1:]}f.bytecode").mkdir()
    before = listing(place)
    count = warm(site, *arguments)
    assert len(listing(place)) == len(before) + count
    change_all(site)

    assert removed_by(site, *arguments) == 4
    assert listing(place) == before


def test_djangos_own_values_in_the_same_cache_stay(site, backend):
    cache = caches["default"]
    planted = {f"page-{number}": [number] for number in range(50)}
    planted |= {"jinja2/bytecode/": "a", f"jinja2/bytecode/{DIGEST}:{DIGEST}": b"b"}
    cache.set_many(planted)
    cache.set("session", "of version 2", version=2)
    site.manage("warm_bytecode")
    assert removed_by(site) == 4
    assert cache.get_many(planted) == planted
    assert cache.get("session", version=2) == "of version 2"


@pytest.mark.parametrize(
    ("other", "arguments"),
    [
        ({"VERSION": 11}, ("--stale",)),
        ({"KEY_PREFIX": "testproject2"}, ()),
        ({"KEY_PREFIX": ""}, ()),
    ],
)
def test_another_versions_and_another_prefixes_entries_stay(
    site, backend, tmp_path, other, arguments
):
    site.settings["CACHES"]["default"]["KEY_PREFIX"] = "testproject"
    neighbour = Site(tmp_path / "neighbour", backend.caches)
    neighbour.settings["CACHES"]["default"] |= other
    for each in (site, neighbour):
        warm(each, *arguments)
    change_all(site)
    assert removed_by(site, *arguments) == 4
    assert neighbour.visit(*NAMES).compiled == []


def test_another_prefix_of_the_package_is_another_cache(site, backend, tmp_path):
    neighbour = Site(tmp_path / "neighbour", backend.caches)
    neighbour.settings["TEMPLATES"] = [
        neighbour.engine(bytecode_cache={"prefix": "jinja2/bytecode/other/"})
    ]
    for each in (site, neighbour):
        each.manage("warm_bytecode")
    assert removed_by(site) == 4
    assert neighbour.visit(*NAMES).compiled == []


def site_on(url: str, directory: Path) -> Site:
    return Site(directory / "site", caches_from(url, directory))


def warm(site: Site, *arguments: str) -> int:
    """Warm a site; return how many items that makes."""
    # What packs name is published lately and no stale entry.
    site.settings["TEMPLATES"] = [
        site.engine(bytecode_cache={"alias": "default", "packs": not arguments})
    ]
    site.manage("warm_bytecode")
    return 4 if arguments else 7  # a pack and its index, and the note on the newest publish


def change_all(site: Site) -> None:
    """Give the site other templates, so that what is stored is stale."""
    for name in NAMES:
        site.write(f"templates/{name}", "changed")


def removed_by(site: Site, *arguments: str) -> int:
    done = site.manage("clear_bytecode", "--noinput", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout.split()[2])


def listing(directory: Path) -> dict[str, str]:
    """What lies in a directory, file by file."""
    return {
        str(path): path.read_text(errors="replace") if path.is_file() else "a directory"
        for path in directory.rglob("*")
    }
