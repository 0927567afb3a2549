#!/bin/sh
# Runs the tests under coverage, in all their processes: sh tests/coverage.sh [arguments of pytest]
# It takes what tests/run.sh has installed.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=testproject/setup.sh
. testproject/setup.sh
make_environment
sync_environment test

coverage() {
    .venv/bin/python -m coverage "$@"
}

rm -f .coverage .coverage.*
status=0
coverage run -m pytest -n auto --dist worksteal -m 'not untraceable' "$@" || status=$?
# A process that is killed while it writes leaves a file that cannot be read.
coverage combine --quiet 2>/dev/null || true
rm -f .coverage.*
coverage report || status=$?
exit "$status"
