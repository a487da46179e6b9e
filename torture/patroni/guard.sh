#!/bin/sh
# Ends what the members of a Patroni cluster of the tests have left behind, when whoever started this has ended: then
# standard input is closed. Patroni starts PostgreSQL so that it outlives Patroni, and no signal comes with the end of a
# test that was killed.
# Usage: guard.sh FOLDER, which holds one folder for each member.
trap '' INT TERM HUP
read -r _
folder=$1

# Each process works in a folder of its own, by which a number that was given to another process is told apart.
is_in() {
    [ "$(readlink "/proc/$1/cwd")" = "$2" ]
}

for member in "$folder"/m*; do
    patroni=$(cat "$member/patroni.pid" 2>/dev/null) && is_in "$patroni" "$member" && kill -KILL "$patroni"
    server=$(head -n 1 "$member/data/postmaster.pid" 2>/dev/null) || continue
    is_in "$server" "$member/data" || continue
    kill -STOP "$server"
    for stat in /proc/[0-9]*/stat; do
        # The name, in brackets, may hold anything; behind it come the state and the parent.
        of=$(sed 's/.*) . \([0-9]*\) .*/\1/' "$stat" 2>/dev/null)
        [ "$of" != "$server" ] || kill -KILL "$(basename "$(dirname "$stat")")"
    done
    kill -KILL "$server"
done
rm -rf "$folder"
