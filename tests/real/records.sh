#!/usr/bin/env bash
# Supabase records against the real PostgREST and PostgreSQL. usage: records.sh BIN
# Needs PyPI, npm and (if it is not there) Debian's postgresql-15 at the first run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
exec "$("$here/python")" "$here/servers.py" --records -- \
    cargo test --features real-servers --test real_servers -- compare:: records:: rerun::
