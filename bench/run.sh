#!/usr/bin/env bash
# What a durable set and a pull cost beside HTTP and JSON alone: docs/performance.md tells the method.
#
# Settings, by environment:
#   SECS            seconds of one timed run (5)
#   PAIRS           runs of each server in a case, in turns (5)
#   CONNS           numbers of keep-alive connections ("64 256")
#   WRK_THREADS     threads of the load generator (2)
#   BENCH_MESSAGES  messages in the group (10000)
#   PULL_MESSAGES   of these, messages that carry 20 pairs and are pulled (1000)
#   BENCH_DIR       where the data go; put it on the disk that is to be measured (target)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SECS=${SECS:-5} PAIRS=${PAIRS:-5} CONNS=${CONNS:-64 256} WRK_THREADS=${WRK_THREADS:-2}
BENCH_MESSAGES=${BENCH_MESSAGES:-10000} PULL_MESSAGES=${PULL_MESSAGES:-1000} BENCH_DIR=${BENCH_DIR:-target}
readonly APP=1400000001 ADMIN=administrator SERVICE=v4/openim_msg_ext_http_svc
# A throw-away key, for a server that listens on the loopback interface while this script runs.
readonly KEY=8f3c0c1d5be94fa2a61d7e20b9c4f35870d1e2639ab5c4f7801d2e3f4a5b6c7d

fail() { echo "bench: $*" >&2; exit 1; }
for name in SECS PAIRS WRK_THREADS BENCH_MESSAGES PULL_MESSAGES; do
    [[ ${!name} =~ ^[1-9][0-9]*$ ]] || fail "$name must be a whole number above 0, not \"${!name}\""
done
for connections in $CONNS; do
    [[ $connections =~ ^[1-9][0-9]*$ ]] || fail "CONNS must hold whole numbers above 0, not \"$connections\""
    ((connections >= WRK_THREADS)) || fail "CONNS must not be below WRK_THREADS ($WRK_THREADS)"
done
((PULL_MESSAGES <= BENCH_MESSAGES)) || fail "PULL_MESSAGES must not be above BENCH_MESSAGES"

tools/need.sh cc curl wrk
cargo build --release --locked -p sidenote -p bare -p xtask
mkdir -p "$BENCH_DIR" bench/results
data=$(mktemp -d "$BENCH_DIR/bench.XXXXXX")
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$data"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
file_system=$(stat --file-system --format=%T "$data")
case $file_system in
    tmpfs | ramfs) echo "bench: $data is on $file_system, so nothing reaches a disk; set BENCH_DIR" >&2 ;;
esac

answers_on() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() { local port=$1; while answers_on "$port"; do port=$((port + 1)); done; echo "$port"; }
# wait_until NAME PID LOG COMMAND...: until COMMAND succeeds; fails if the server ends or takes 30 s.
wait_until() {
    local name=$1 pid=$2 log=$3 deadline=$((SECONDS + 30))
    shift 3
    until "$@"; do
        if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 20 "$log" >&2
            fail "$name did not start; its last lines are above"
        fi
        sleep 0.1
    done
}

product_port=$(free_port 17780)
cat >"$data/sidenote.toml" <<TOML
listen = "127.0.0.1:$product_port"

[store]
engine = "embedded"
path = "$data/store"

[[apps]]
sdk_app_id = $APP
secret_key = "$KEY"
admins = ["$ADMIN"]
plan = "ultimate"

[limits]
attempts_per_minute = 0
TOML
target/release/sidenote serve --config "$data/sidenote.toml" >"$data/product.log" 2>&1 &
product_pid=$!
pids+=("$product_pid")
wait_until "the product" "$product_pid" "$data/product.log" \
    curl --silent --fail --output /dev/null "http://127.0.0.1:$product_port/readyz"

bare_port=$(free_port $((product_port + 1)))
target/release/bare "$bare_port" >"$data/bare.log" 2>&1 &
bare_pid=$!
pids+=("$bare_pid")
wait_until "the bare server" "$bare_pid" "$data/bare.log" answers_on "$bare_port"

usersig=$(target/release/sidenote usersig --app "$APP" --key "$KEY" --user "$ADMIN")
query="sdkappid=$APP&identifier=$ADMIN&usersig=$usersig&random=1234567890&contenttype=json"

# import NAME URL COUNT: sends the request bodies on stdin, one a line, and expects COUNT answers without an error.
import() {
    local accepted
    awk -v url="$2" '{
        gsub(/["\\]/, "\\\\&")
        printf "%surl = \"%s\"\nheader = \"Content-Type: application/json\"\ndata = \"%s\"\n", (NR > 1 ? "next\n" : ""), url, $0
    }' >"$data/import.curl"
    curl --no-progress-meter --parallel --parallel-max 64 --config "$data/import.curl" >"$data/import.json" \
        || fail "importing $1 failed"
    # An answer has the envelope's ErrorCode once; lists of pairs bring their own, which must be 0 as well.
    accepted=$({ grep -o '"ActionStatus":"OK"' "$data/import.json" || true; } | wc -l)
    if ((accepted != $3)) || grep -q '"ErrorCode":[^0]' "$data/import.json"; then
        head -c 600 "$data/import.json" >&2
        fail "importing $1: $accepted of $3 were accepted; the first answers are above"
    fi
}

at="http://127.0.0.1:$product_port"
echo "bench: importing a group with $BENCH_MESSAGES messages, 20 pairs on each of the first $PULL_MESSAGES" >&2
echo '{"Type":"Public","Name":"bench","GroupId":"bench"}' \
    | import "the group" "$at/v4/group_open_http_svc/create_group?$query" 1
seq "$BENCH_MESSAGES" | awk '{
    printf "{\"GroupId\":\"bench\",\"From_Account\":\"'"$ADMIN"'\",\"Random\":%d,\"SupportMessageExtension\":1,", $1
    printf "\"MsgBody\":[{\"MsgType\":\"TIMTextElem\",\"MsgContent\":{\"Text\":\"message %d\"}}]}\n", $1
}' | import "the messages" "$at/v4/group_open_http_svc/send_group_msg?$query" "$BENCH_MESSAGES"
seq "$PULL_MESSAGES" | awk '{
    printf "{\"GroupId\":\"bench\",\"MsgSeq\":%d,\"OperateType\":1,\"ExtensionList\":[", $1
    for (key = 0; key < 20; key++)
        printf "%s{\"Key\":\"attr%02dname\",\"Value\":\"abcdefghijklmnopqrstuvwxyz0123456789abcd\",\"Seq\":0}", (key ? "," : ""), key
    print "]}"
}' | import "the pairs" "$at/$SERVICE/group_set_key_values?$query" "$PULL_MESSAGES"

# url SERVER CASE: with a request line of the same length for both servers.
url() {
    local path="$SERVICE/group_set_key_values" pad
    [ "$2" = set ] || path="$SERVICE/group_get_key_values"
    if [ "$1" = product ]; then
        echo "$at/$path?$query"
    else
        printf -v pad '%*s' $((${#path} - ${#2} - 5)) ""
        echo "http://127.0.0.1:$bare_port/$2?$query&pad=${pad// /x}"
    fi
}
# load SERVER CASE CONNECTIONS SECONDS SEED [verify]: prints members of a JSON object.
load() {
    local messages=$BENCH_MESSAGES result
    [ "$2" = set ] || messages=$PULL_MESSAGES
    result=$(wrk --threads "$WRK_THREADS" --connections "$3" --duration "${4}s" --timeout 5s --latency \
        --script bench/wrk/extension.lua "$(url "$1" "$2")" -- "$2" "$messages" "${@:5}") || fail "wrk failed: $result"
    sed -n 's/^RESULT //p' <<<"$result"
}

runs="$data/runs.jsonl"
syncs=$({ LC_ALL=C dd if=/dev/zero of="$data/syncs" bs=8k count=2000 oflag=dsync; } 2>&1 \
    | awk '/copied/ { for (i = 2; i <= NF; i++) if ($i ~ /^s,?$/) printf "%d", 2000 / $(i - 1) }')
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
printf '{"kind":"settings","commit":"%s","date":"%s","seconds":%d,"pairs":%d,"wrk_threads":%d,"messages":%d,"pull_messages":%d,"file_system":"%s","syncs_per_second":%d}\n' \
    "$commit" "$(date --utc +%FT%TZ)" "$SECS" "$PAIRS" "$WRK_THREADS" "$BENCH_MESSAGES" "$PULL_MESSAGES" \
    "$file_system" "${syncs:-0}" >"$runs"

for case in set pull; do
    # Warms both servers and looks into every answer, so that the timed runs need not.
    for server in product bare; do
        result=$(load "$server" "$case" 64 2 "$PAIRS" verify)
        echo "{\"kind\":\"verify\",\"case\":\"$case\",\"server\":\"$server\",$result}" >>"$runs"
    done
    for connections in $CONNS; do
        for ((pair = 1; pair <= PAIRS; pair++)); do
            for server in product bare; do
                result=$(load "$server" "$case" "$connections" "$SECS" "$pair")
                echo "bench: $case, $connections connections, pair $pair, $server: $result" >&2
                echo "{\"kind\":\"run\",\"case\":\"$case\",\"connections\":$connections,\"pair\":$pair,\"server\":\"$server\",$result}" >>"$runs"
            done
        done
    done
done

out="bench/results/$(date --utc +%Y-%m-%dT%H%M%SZ).json"
echo
target/release/xtask bench-report "$runs" "$out"
echo
echo "disk: ${syncs:-unknown} appends of 8 KiB a second, each synced ($file_system)"
echo "written: $out"
