#!/usr/bin/env bash
# `make bench`: builds, loads the product and what it is compared with in turns, and reports. docs/performance.md
# tells the method; `bench/run.sh --help` lists the settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

references=${BENCH_REFERENCES-redis-always redis-everysec etcd postgres}
needed=(cc setpriv)
for reference in $references; do
    case $reference in
        redis-always | redis-everysec) needed+=(redis-server webdis) ;;
        etcd) needed+=(etcd) ;;
        postgres) needed+=(initdb) ;;
    esac
done
tools/need.sh "${needed[@]}"

cargo build --release --locked -p sidenote -p bare -p harness -p xtask
bin=${CARGO_TARGET_DIR:-target}/release
results=bench/results/$(date --utc +%Y-%m-%dT%H%M%SZ)
mkdir -p "$results"

measured=0
"$bin/harness" --records "$results/records.jsonl" "$@" || measured=$?
# Asking for help, a mistake in a setting or an interrupt leave nothing to report.
if ! grep --quiet '"kind":"run"' "$results/records.jsonl" 2>/dev/null; then
    rm -rf "$results"
    exit "$measured"
fi
echo
"$bin/xtask" bench-report "$results/records.jsonl" "$results"
echo
echo "written: $results/results.json, and a picture for each case beside it"
exit "$measured"
