#!/bin/sh
# Installs the published web client and a WebSocket for Node into target/stock-client, where the test
# crates/sidenote/tests/it/stock_client.rs looks for them. What is there already is not fetched again, so that everything
# works offline after the first run. Where it cannot be installed, this says so and the tests are skipped by name.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=$root/target/stock-client

say() { echo "stock-client: $*"; }

for program in node npm chromium; do
    if ! command -v "$program" >/dev/null; then
        package=$program
        [ "$program" = node ] && package=nodejs
        "$root/tools/need.sh" "$program" || say "skipped what needs $program: install the package $package"
    fi
done

# Whether the folder holds what the lock file asks for: a copy of that file is laid there last of all.
if ! cmp -s "$target/installed" "$here/package-lock.json"; then
    say "installing the npm packages @tencentcloud/chat and ws into $target"
    rm -rf "$target"
    mkdir -p "$target"
    cp "$here/package.json" "$here/package-lock.json" "$target/"
    if npm ci --prefix "$target" --ignore-scripts --no-audit --no-fund; then
        cp "$here/package-lock.json" "$target/installed"
    else
        say "skipped: the packages cannot be fetched"
    fi
fi
