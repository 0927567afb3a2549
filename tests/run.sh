#!/bin/sh
# Runs the tests with everything they need: sh tests/run.sh [arguments of pytest]
# Missing servers are installed by apt, as root or with sudo, and are not started as services.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=testproject/setup.sh
. testproject/setup.sh

includes() {
    printf '#include <%s>\n' "$1" | cc -E - >/dev/null 2>&1
}

# The packages to build pylibmc with, where there is neither the module nor a wheel of it
build_packages() {
    ! .venv/bin/python -c 'import pylibmc' 2>/dev/null || return 0
    tag=$(.venv/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    ! grep -q "/pylibmc-[^/]*-$tag-$tag-manylinux[^/]*_$(uname -m)\.whl" uv.lock || return 0
    command -v cc >/dev/null || echo gcc libc6-dev
    includes libmemcached/memcached.h || echo libmemcached-dev
    includes zlib.h || echo zlib1g-dev
    header=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -e "$header" ] || echo "python3.${tag#cp3}-dev"
}

missing_packages() {
    command -v chromium >/dev/null || echo chromium
    command -v memcached >/dev/null || echo memcached
    command -v openssl >/dev/null || echo openssl
    command -v redis-server >/dev/null || echo redis-server
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
        echo postgresql
    build_packages
}

make_environment
missing=$(missing_packages)
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages $missing
sync_environment test

(: <&0) 2>/dev/null || exec </dev/null # a closed standard input would become a pipe's
# Each worker has its own servers, so a worker keeps to neighbours until it has none left.
exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
