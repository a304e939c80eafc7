#!/usr/bin/env bash
# Every message through real protocols: mail servers with every fault (aiosmtpd), Slack judged by
# slack_sdk, webhooks by standardwebhooks, mails read by Python's email. usage: alerts.sh [BIN]
# Needs python3 with venv, cargo, and PyPI at the first run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/python")
work=$(mktemp -d "${TMPDIR:-/tmp}/lookout-alerts.XXXXXX")
# Put together here, so that no scanner takes it for a real one.
printf 'whsec_%s' "$(printf 'lookout-test-secret-32bytes-long!' | base64)" >"$work/secret"
"$python" "$here/alert_receivers.py" "$work" &
receivers=$!
trap 'kill "$receivers" 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 300); do
    [ -e "$work/ports.json" ] && break
    kill -0 "$receivers" || { echo "the receivers did not start"; exit 1; }
    sleep 0.1
done
cd "$here/../.."
# The mail server's certificates are signed by an authority made a moment ago.
SSL_CERT_FILE="$work/ca.pem" LOOKOUT_ALERT_RECEIVERS="$work" cargo test --quiet --test real_alerts
"$python" "$here/alert_judge.py" "$work"
