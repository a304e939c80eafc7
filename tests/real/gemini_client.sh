#!/usr/bin/env bash
# google-genai (pinned) against `lookout stand-in gemini`. usage: gemini_client.sh BIN
# Needs python3 with venv and PyPI at the first run; the environment is kept in target/real-venv.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "$1")
python=$("$here/python")
work=$(mktemp -d "${TMPDIR:-/tmp}/lookout-gemini.XXXXXX")
mkfifo "$work/out"
"$bin" stand-in gemini --port 0 >"$work/out" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
exec 3<"$work/out"
# The first line names the address; it is printed once the port is open.
read -r -t 30 -u 3 line || { echo "the stand-in did not start"; exit 1; }
"$python" "$here/gemini_client.py" "${line#listening on }"
