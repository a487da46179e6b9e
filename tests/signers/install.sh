#!/bin/sh
# Installs the two published UserSig signers into target/signers, where the test
# crates/server/tests/published_signers.rs looks for them. What is there already is not fetched
# again, so that everything works offline after the first run.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=$(cd "$here/../.." && pwd)/target/signers

say() { echo "signers: $*"; }

# Whether DIR holds what the lock file asks for: a copy of that file is laid there last of all.
installed() { cmp -s "$target/$1/installed" "$here/$2"; }

# Installs Debian packages, or says which ones are missing to somebody who may not do so.
need() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "please install $* (on Debian: apt-get install $*), then run this again" >&2
        exit 1
    fi
    say "installing Debian packages: $*"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# Both are needed to run the signers, even when the packages are there.
missing=
command -v node >/dev/null || missing="$missing nodejs"
command -v python3 >/dev/null || missing="$missing python3"
if ! installed node package-lock.json; then
    command -v npm >/dev/null || missing="$missing npm"
fi
if ! installed python requirements.txt; then
    python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
fi
# shellcheck disable=SC2086 # the names are words of their own
[ -z "$missing" ] || need $missing

if ! installed node package-lock.json; then
    say "installing the npm package tls-sig-api-v2 into $target/node"
    rm -rf "$target/node"
    mkdir -p "$target/node"
    cp "$here/package.json" "$here/package-lock.json" "$target/node/"
    npm ci --prefix "$target/node" --ignore-scripts --no-audit --no-fund
    cp "$here/package-lock.json" "$target/node/installed"
fi

if ! installed python requirements.txt; then
    say "installing the PyPI package tls-sig-api-v2 into $target/python"
    rm -rf "$target/python"
    mkdir -p "$target/python"
    python3 -m pip install --disable-pip-version-check --no-deps --require-hashes \
        --target "$target/python" --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$target/python/installed"
fi
