#!/bin/sh
# Runs the tests with everything they need: sh tests/run.sh [arguments of pytest]
# Missing servers are installed by apt, as root or with sudo, and are not started as services.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=testproject/setup.sh
. testproject/setup.sh

make_environment
install_missing "$(server_packages)" "$(pylibmc_packages)"
sync_environment test

(: <&0) 2>/dev/null || exec </dev/null # a closed standard input would become a pipe's
# Each worker has its own servers, so a worker keeps to neighbours until it has none left.
exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
