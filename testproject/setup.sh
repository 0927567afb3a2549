# shellcheck shell=sh
# The set-up that testproject/demo.sh, tests/run.sh and .ci/run share. They source it at the
# checkout's root. It gets what is missing, and is silent and offline when nothing is.

say() {
    printf 'set-up: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# The environment may be empty, and a user's PATH seldom has what dpkg needs from sbin.
PATH="${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
if [ -z "${HOME:-}" ] || [ ! -w "$HOME" ]; then
    HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
    { [ -n "$HOME" ] && [ -w "$HOME" ]; } || HOME=$PWD/.cache/home
fi
export PATH HOME
mkdir -p "$HOME" .cache

# Debian's certificates hold a company's own as well, and uv's do not.
[ ! -s /etc/ssl/certs/ca-certificates.crt ] || system_certs=true

run_uv() {
    env -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never \
        UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-${system_certs:-false}}" "$uv" "$@"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

policy=/usr/sbin/policy-rc.d
policy_mark='temporary, from the set-up of django_jinja_bccache'

# Keeps Debian's packages from starting their servers. A policy of the machine's own stays.
deny_services() {
    ! grep -qs "$policy_mark" $policy || allow_services # left by a run that was killed
    if [ ! -e $policy ]; then
        trap allow_services EXIT
        trap 'exit 130' HUP INT TERM
        # shellcheck disable=SC2016
        as_root sh -c 'set -C; printf "#!/bin/sh\n# %s\nexit 101\n" "$2" >"$1" && chmod 755 "$1"' \
            sh $policy "$policy_mark"
    fi
}

allow_services() {
    as_root rm -f $policy
    trap - EXIT HUP INT TERM
}

# install_packages PACKAGE...: by apt
install_packages() {
    if ! command -v apt-get >/dev/null; then
        die "please install, under whatever names your system has for them: $*"
    elif [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "please install, as root: apt-get install $*"
    fi
    say "installing $* (apt)"
    deny_services
    as_root apt-get -q update </dev/null >.cache/apt.log 2>&1 || say "apt-get update failed; going on"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 "$@" </dev/null >>.cache/apt.log 2>&1 || {
        cat .cache/apt.log >&2
        die "apt could not install $*"
    }
    ! grep -qs "$policy_mark" $policy || allow_services
}

# install_missing PACKAGES...: by apt, if there are any
install_missing() {
    # shellcheck disable=SC2048,SC2086
    set -- $*
    [ $# -eq 0 ] || install_packages "$@"
}

# The packages of those servers and programs for tests that are not here
server_packages() {
    command -v chromium >/dev/null || echo chromium
    command -v memcached >/dev/null || echo memcached
    command -v openssl >/dev/null || echo openssl
    command -v redis-server >/dev/null || echo redis-server
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
        echo postgresql
}

includes() {
    printf '#include <%s>\n' "$1" | cc -E - >/dev/null 2>&1
}

# The packages to build pylibmc with that are not here, beside Python's own headers
build_packages() {
    command -v cc >/dev/null || echo gcc libc6-dev
    includes libmemcached/memcached.h || echo libmemcached-dev
    includes zlib.h || echo zlib1g-dev
}

# The packages to build pylibmc with, where .venv has no module and uv.lock no wheel of it
pylibmc_packages() {
    ! .venv/bin/python -c 'import pylibmc' 2>/dev/null || return 0
    tag=$(.venv/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    ! grep -q "/pylibmc-[^/]*-$tag-$tag-manylinux[^/]*_$(uname -m)\.whl" uv.lock || return 0
    build_packages
    header=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -e "$header" ] || echo "python3.${tag#cp3}-dev"
}

# Sets $python to an interpreter that is new enough.
find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        python=$("$name" -c 'if 1:
            import sys
            print(sys.executable)
            sys.exit(sys.version_info < (3, 10))' 2>/dev/null) && return
    done
    die "Python 3.10 or newer is needed, and neither python3 nor python3.10 to 3.14 is one here"
}

# Whether $1 is a uv that can read uv.lock
uv_works() {
    "$1" --version 2>/dev/null |
        awk '{ split($2, v, "."); ok = v[1] > 0 || v[2] >= 11 } END { exit !ok }'
}

# Sets $uv: the one on the PATH, or one of the checkout's own.
find_uv() {
    uv=uv
    ! uv_works $uv || return 0
    uv=.cache/uv/bin/uv
    ! uv_works $uv || return 0
    find_python
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    say "installing uv into .cache/uv"
    "$python" -m venv --clear .cache/uv
    # The release that also builds the package
    .cache/uv/bin/python -m pip --disable-pip-version-check install -q \
        "$(sed -n 's/^requires = \["uv_build\(.*\)"\]$/uv\1/p' pyproject.toml)"
}

# Makes .venv, empty, unless it is there and works; whichever Python it has then stays.
make_environment() {
    find_uv
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        find_python
        say "making .venv with ${UV_PYTHON:-$python}"
        run_uv venv -q --clear --python "${UV_PYTHON:-$python}" .venv
    fi
}

# sync_environment [GROUP...]: the package, its dependencies and those of the groups into .venv.
# What else a developer has in there stays.
sync_environment() {
    # shellcheck disable=SC2046
    set -- --python .venv/bin/python --frozen --inexact --no-default-groups \
        $([ $# -eq 0 ] || printf -- '--group %s ' "$@")
    if ! run_uv sync -q --check "$@" 2>/dev/null; then
        say "installing Python packages into .venv"
        run_uv sync -q "$@"
    fi
}
