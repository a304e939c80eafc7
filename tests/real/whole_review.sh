#!/usr/bin/env bash
# One whole review from an old .env over PostgREST and SeaweedFS. usage: whole_review.sh BIN
# Needs what records.sh and images.sh need.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "$1")
python=$("$here/python")
exec "$python" "$here/servers.py" --records --images -- "$python" "$here/whole_review.py" "$bin"
