#!/usr/bin/env bash
# `make bench`: builds, loads the product and what it is compared with in turns, and reports. docs/performance.md
# tells the method; `bench/run.sh --help` lists the settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

references=${BENCH_REFERENCES-redis-always redis-everysec etcd postgres nats}
needed=(cc setpriv)
for reference in $references; do
    case $reference in
        redis-always | redis-everysec) needed+=(redis-server webdis) ;;
        etcd) needed+=(etcd) ;;
        postgres) needed+=(initdb) ;;
        nats) needed+=(nats-server) ;;
    esac
done
tools/need.sh "${needed[@]}"

cargo build --release --locked -p sidenote -p bare -p harness -p xtask
bin=${CARGO_TARGET_DIR:-target}/release
records=bench/results/$(date --utc +%Y-%m-%dT%H%M%SZ)
results=${BENCH_RESULTS:-$records}
mkdir -p "$records"

measured=0
"$bin/harness" --records "$records/records.jsonl" "$@" || measured=$?
# Asking for help, a mistake in a setting or an interrupt leave nothing to report.
if ! grep --quiet --extended-regexp '"kind":"(run|idle)"' "$records/records.jsonl" 2>/dev/null; then
    rm -rf "$records"
    exit "$measured"
fi
echo
"$bin/xtask" bench-report "$records/records.jsonl" "$results"
echo
echo "written: $results/results.json, a picture for each case beside it, and every run in $records/records.jsonl"
exit "$measured"
