#!/usr/bin/env bash
# Pictures over the S3 API against SeaweedFS and moto. usage: images.sh BIN
# Needs PyPI at the first run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
exec "$("$here/python")" "$here/servers.py" --images -- \
    cargo test --features real-servers --test real_servers images::
