"""What a run was made on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import run
from typing import Any

PACKAGES = ("Django", "Jinja2", "pymemcache", "redis", "django-jinja")


def facts(repeat: int) -> dict[str, Any]:
    """Return the machine, the versions, the day, and how busy the machine was."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "repeat": repeat,
        "python": platform.python_version(),
        **{name.lower(): _version(name) for name in PACKAGES},
        "zstd": _zstd(),
        "memcached": _program("memcached", "-V"),
        "redis_server": _program("redis-server", "--version"),
        "cpu": _cpu(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _zstd() -> str:
    try:
        import compression.zstd  # noqa: F401 - only to see whether it is there
    except ImportError:
        found = _version("backports.zstd")
        return found if found == "not installed" else f"backports.zstd {found}"
    return "compression.zstd"


def _program(*command: str) -> str:
    finished = run(command, capture_output=True, text=True, check=False)
    return " ".join(finished.stdout.split()[:3])


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
