#!/bin/sh
# Shows the package at work in a small site: sh testproject/demo.sh [arguments of demo.py]
# Needs nothing but Python 3.10 or newer; gets the rest.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=testproject/setup.sh
. testproject/setup.sh

make_environment
sync_environment
exec .venv/bin/python testproject/demo.py "$@"
