#!/bin/sh
# What tools other than cargo say of this folder. Each that is not installed is named and left out; cargo's tests check
# configurations, metrics, commands and flags everywhere (crates/sidenote/tests/it/deploy.rs).
# Usage: deploy/check.sh
set -eu
cd "$(dirname "$0")"
failed=""

# check NAME COMMAND...: quiet if all is well.
check() {
    name=$1
    shift
    if said=$("$@" 2>&1); then
        echo "checked: $name"
    else
        printf '%s\n' "$said" >&2
        failed="$failed $name"
    fi
}

skip() {
    echo "skipped: $1 ($2 is not installed)"
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# The program of a unit need not be installed where it is checked, so a program that is stands in for it.
units() {
    folder=$(mktemp -d)
    sed 's,=/usr/bin/sidenote ,=/bin/true ,' systemd/sidenote.service >"$folder/sidenote.service"
    sed 's,=/usr/bin/sidenote ,=/bin/true ,' systemd/sidenote@.service >"$folder/sidenote@7780.service"
    # It warns with success, so whatever it says of these units is an error.
    said=$(systemd-analyze verify --man=no "$folder"/*.service 2>&1) && worked=0 || worked=$?
    rm -r "$folder"
    said=$(printf '%s\n' "$said" | grep -F sidenote || true)
    printf '%s\n' "$said"
    [ "$worked" = 0 ] && [ -z "$said" ]
}

# Names of other machines need not be known where it is checked.
balancer() {
    said=$(haproxy -c -f haproxy.cfg 2>&1) && return 0
    printf '%s\n' "$said"
    return 1
}

if has systemd-analyze; then check "systemd units" units; else skip "systemd units" systemd-analyze; fi
if has systemd-sysusers; then
    check "system user" systemd-sysusers --dry-run "$PWD/systemd/sidenote.sysusers.conf"
else
    skip "system user" systemd-sysusers
fi
if docker compose version >/dev/null 2>&1; then
    check "Compose file" docker compose --file compose.yaml config --quiet
# The first version, which Debian 12 still has, knows an older format.
elif has docker-compose && ! docker-compose version --short 2>/dev/null | grep -q '^v\{0,1\}1\.'; then
    check "Compose file" docker-compose --file compose.yaml config --quiet
else
    skip "Compose file" "docker compose"
fi
if has hadolint; then check Dockerfile hadolint Dockerfile; else skip Dockerfile hadolint; fi
if has haproxy; then check "load balancer" balancer; else skip "load balancer" haproxy; fi
if has nats-server; then check NATS nats-server -t --config nats.conf; else skip NATS nats-server; fi
if has promtool; then
    check Prometheus promtool check config prometheus/prometheus.yml
    check "alert rules" promtool test rules prometheus/alerts.test.yml
else
    skip "Prometheus and alert rules" promtool
fi
if has shellcheck; then check "shell scripts" shellcheck ready.sh secrets.sh check.sh; else skip "shell scripts" shellcheck; fi

if [ -n "$failed" ]; then
    echo "deploy: not right:$failed" >&2
    exit 1
fi
