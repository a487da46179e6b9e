#!/bin/sh
# Makes the secrets that compose.yaml needs, each in the folder of those who may read it, and leaves those that are
# there alone. Runs once, as root, before anything else.
# Usage: secrets.sh FOLDER, which holds the folders node, database and dashboard.
set -eu
umask 077
cd "$1"

random() {
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

# keep FILE OWNER: what comes in becomes the file, wholly or not at all.
keep() {
    cat >"$1.new"
    chown "$2:$2" "$1.new"
    chmod 0400 "$1.new"
    mv "$1.new" "$1"
}

# The owners are the users of the images: 10001 of this one, 999 of postgres, 472 of grafana.
chown 10001:10001 node
chown 999:999 database
chown 472:472 dashboard

[ -s database/password ] || random | keep database/password 999
[ -s node/database-url ] || printf 'postgres://sidenote:%s@postgres/sidenote?sslmode=disable' \
    "$(cat database/password)" | keep node/database-url 10001
[ -s node/app-secret-key ] || random | keep node/app-secret-key 10001
[ -s dashboard/password ] || random | keep dashboard/password 472
