#!/bin/sh
# Usage: tools/need.sh COMMAND...
# Installs the Debian packages of those commands that this machine lacks, and says so before it does.
# Does nothing, and needs no network, where all of them are there.
set -eu

package_of() {
    case $1 in
        cc) echo "gcc libc6-dev" ;;
        curl) echo "curl ca-certificates" ;;
        *) echo "$1" ;;
    esac
}

missing="" packages=""
for command in "$@"; do
    if ! command -v "$command" >/dev/null 2>&1; then
        missing="$missing $command"
        packages="$packages $(package_of "$command")"
    fi
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing on this machine:$missing. Please install it; only Debian's apt-get is known here." >&2
    exit 1
fi
install="apt-get install --yes --no-install-recommends$packages"
if [ "$(id -u)" != 0 ]; then
    echo "Missing on this machine:$missing. Please run: sudo $install" >&2
    exit 1
fi
echo "Missing on this machine:$missing. Running: $install" >&2
export DEBIAN_FRONTEND=noninteractive
# The package lists of a fresh machine may be empty or old, so they are fetched only when it fails without.
# shellcheck disable=SC2086 # The command line is split on purpose.
if ! $install >&2; then
    echo "Fetching the package lists and trying once more: apt-get update" >&2
    apt-get update >&2
    $install >&2
fi
for command in "$@"; do
    if ! command -v "$command" >/dev/null 2>&1; then
        echo "$command is still missing after: $install" >&2
        exit 1
    fi
done
