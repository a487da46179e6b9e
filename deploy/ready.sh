#!/bin/bash
# Whether the server on this machine is ready: 0 if GET /readyz answers 200, otherwise 1 and what it said.
# Usage: ready.sh [PORT]. Needs nothing but bash. For a server without TLS of its own.
port=${1:-${SIDENOTE_LISTEN##*:}}
exec 3<>"/dev/tcp/127.0.0.1/${port:-7780}" || exit 1
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
IFS= read -r -t 2 line <&3 || exit 1
[[ $line == "HTTP/1.1 200"* ]] && exit 0
cat <&3
exit 1
