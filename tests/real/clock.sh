#!/usr/bin/env bash
# The program under libfaketime: clock steps and both nights of a clock change. usage: clock.sh BIN
# Needs Debian's libfaketime (installed here if it is missing) and cargo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
library() { ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null | head -1; }
if [ -z "$(library)" ]; then
    apt-get -q update && apt-get -qy install libfaketime
fi
cd "$here/../.."
LOOKOUT_FAKETIME=$(library) cargo test --quiet --test real_clock -- --test-threads 1
