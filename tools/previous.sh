#!/bin/sh
# Usage: tools/previous.sh [REVISION]
# Builds the server of an earlier revision and prints where its program is: the newest release before this commit, or,
# lacking one, the last commit whose schema was the first. Built once and kept in target/previous.
set -eu

revision=${1:-}
[ -n "$revision" ] || revision=$(git tag --list 'v*' --merged HEAD --no-contains HEAD --sort=-version:refname | head -n 1)
[ -n "$revision" ] || revision=90265d7
if ! commit=$(git rev-parse --verify --quiet "$revision^{commit}"); then
    echo "there is no revision $revision here (git fetch --unshallow --tags brings it, if this is a part of the history)" >&2
    exit 1
fi

target=$PWD/target/previous/$commit
program=$target/debug/sidenote
if [ ! -x "$program" ]; then
    folder=$(mktemp -d)
    trap 'git worktree remove --force "$folder/tree" 2>/dev/null || true; rm -rf "$folder"' EXIT
    trap 'exit 130' INT TERM
    git worktree add --quiet --detach "$folder/tree" "$commit" >&2
    (cd "$folder/tree" && CARGO_TARGET_DIR=$target "${CARGO:-cargo}" build --locked --package sidenote >&2)
fi
echo "$program"
