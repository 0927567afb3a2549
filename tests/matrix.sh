#!/bin/sh
# Runs the tests under every Python and Django that is supported, as far as they are here:
# sh tests/matrix.sh [arguments of tox] [-- arguments of pytest]
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=testproject/setup.sh
. testproject/setup.sh

make_environment
install_missing "$(server_packages)" "$(build_packages)"
sync_environment matrix

# pyenv has only one Python of its own behind python3.x; these are all of them.
for directory in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin; do
    [ ! -d "$directory" ] || PATH=$directory:$PATH
done
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-${system_certs:-false}}" # tox runs uv itself
exec .venv/bin/tox run "$@"
