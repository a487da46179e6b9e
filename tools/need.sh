#!/bin/sh
# Usage: tools/need.sh COMMAND...
# Installs the Debian packages of those commands that this machine lacks, and says so before it does.
# Does nothing, and needs no network, where all of them are there. Services that the packages bring are not started.
set -eu

package_of() {
    case $1 in
        cc) echo "gcc libc6-dev" ;;
        curl) echo "curl ca-certificates" ;;
        etcd) echo etcd-server ;;
        initdb) echo postgresql ;;
        setpriv) echo util-linux ;;
        *) echo "$1" ;;
    esac
}

# Debian keeps the server programs of PostgreSQL out of the search path, one folder for each version.
is_here() {
    command -v "$1" >/dev/null 2>&1 || { [ "$1" = initdb ] && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }
}

missing="" packages=""
for command in "$@"; do
    if ! is_here "$command"; then
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
# The package of a server starts it, unless this file says no. Nothing here needs a server that runs all the time.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
fi
# The package lists of a fresh machine may be empty or old, so they are fetched only when it fails without.
# shellcheck disable=SC2086 # The command line is split on purpose.
if ! $install >&2; then
    echo "Fetching the package lists and trying once more: apt-get update" >&2
    apt-get update >&2
    $install >&2
fi
for command in "$@"; do
    if ! is_here "$command"; then
        echo "$command is still missing after: $install" >&2
        exit 1
    fi
done
