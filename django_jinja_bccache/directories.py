"""Where a loader's files are, in words that other hosts understand, too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, PackageLoader, PrefixLoader


def named_directories(loader: BaseLoader | None) -> dict[str, str]:
    """Return the directories that a loader reads from, by names that other hosts give them, too.

    A name is the end of the path, and a number where several directories end alike. A list's
    index would not do: Django's loader leaves out directories that are not there.
    """
    named: dict[str, str] = {}
    for directory in _directories(loader):
        end = "/".join(os.path.normpath(directory).split(os.sep)[-2:])
        number = sum(name.startswith(f"{end}#") for name in named)
        named[f"{end}#{number}"] = directory
    return named


def root_and_path(
    template: str, filename: str | None, directories: Mapping[str, str]
) -> tuple[str, str]:
    """Return the name of the directory that a template's file is in, and its path below that.

    Args:
        template: The template's name.
        filename: The path of its file, None if it has none.
        directories: The loader's directories by their names.

    Returns:
        Two empty strings if it has no file in one of them; the path is empty if it is the
        template's name.
    """
    if filename is not None:
        filename = os.path.abspath(filename)
        for name, directory in directories.items():
            beginning = os.path.join(os.path.abspath(directory), "")
            if filename.startswith(beginning):
                path = filename.removeprefix(beginning)
                return name, "" if path == template else path
    return "", ""


def _directories(loader: BaseLoader | None) -> Iterator[str]:
    loader = getattr(loader, "source_loader", loader)  # behind one that serves a release
    if isinstance(loader, ChoiceLoader):
        for each in loader.loaders:
            yield from _directories(each)
    elif isinstance(loader, PrefixLoader):
        for each in loader.mapping.values():
            yield from _directories(each)
    elif isinstance(loader, FileSystemLoader):
        yield from map(os.fspath, loader.searchpath)
    elif isinstance(loader, PackageLoader):
        spec = find_spec(loader.package_name)
        for folder in (spec and spec.submodule_search_locations) or ():
            yield os.path.join(folder, loader.package_path)
