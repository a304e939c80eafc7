"""Receivers for Lookout's messages: mail servers with every fault, Slack, a webhook.

usage: alert_receivers.py DIR     writes DIR/ports.json when all ports are open, and what it gets
                                  into DIR/mail, DIR/slack and DIR/hook

Mail behaves by the recipient's local part: ok@, temp451@, perm550@, big552@ (takes text only),
slow@ (answers DATA after 3 s), dropafter@ (stores the mail, then cuts the connection). Slack is
judged by slack_sdk's own models and the limits these lack; webhooks by standardwebhooks.
"""

import asyncio
import datetime
import http.server
import ipaddress
import json
import logging
import pathlib
import ssl
import sys
import threading
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from slack_sdk.models.blocks import Block
from standardwebhooks.webhooks import Webhook

# Refused handshakes and cut connections are what is being tested.
logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
warnings.simplefilter("ignore")

work = pathlib.Path(sys.argv[1])
counter = threading.Lock(), [0]


def store(folder, suffix, data):
    with counter[0]:
        counter[1][0] += 1
        number = counter[1][0]
    path = work / folder / f"{number:04}{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


# ------------------------------------------------------------------ certificates


def certificates():
    """A CA, a good leaf and an expired one; returns contexts for (good, expired)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def pem(key):
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = (
        x509.CertificateBuilder()
        .subject_name(name("test authority"))
        .issuer_name(name("test authority"))
        .public_key(ca_key.public_key())
        .serial_number(1)
        .not_valid_before(now - 800 * day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    (work / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))

    def context(label, begin, end):
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        leaf = (
            x509.CertificateBuilder()
            .subject_name(name("localhost"))
            .issuer_name(ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        (work / f"{label}.pem").write_bytes(
            leaf.public_bytes(serialization.Encoding.PEM) + pem(key)
        )
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(work / f"{label}.pem")
        return made

    return (
        context("good", now - day, now + day),
        context("expired", now - 700 * day, now - 600 * day),
    )


# ------------------------------------------------------------------ mail


class Mail:
    """Faults by the recipient's local part."""

    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0]
        if local == "temp451":
            return "451 4.3.0 try again later"
        if local == "perm550":
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        local = envelope.rcpt_tos[0].split("@")[0]
        if local == "big552" and b"multipart/alternative" in envelope.content:
            return "552 5.3.4 message too large"
        if local == "slow":
            await asyncio.sleep(3)
        store("mail", ".eml", envelope.content)
        if local == "dropafter":
            server.transport.abort()
        return "250 OK stored"


def login(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.password == b"right password"
    return AuthResult(success=good, handled=False)


async def mail_ports(good, expired):
    loop = asyncio.get_running_loop()

    async def listen(make, **options):
        server = await loop.create_server(make, "127.0.0.1", 0, **options)
        return server.sockets[0].getsockname()[1]

    def starttls(context):
        return lambda: SMTP(
            Mail(),
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=login,
        )

    silent = await asyncio.start_server(lambda r, w: asyncio.sleep(600), "127.0.0.1", 0)
    return {
        "plain": await listen(lambda: SMTP(Mail(), hostname="localhost")),
        "starttls": await listen(starttls(good)),
        "expired": await listen(starttls(expired)),
        "implicit": await listen(lambda: SMTP(Mail(), hostname="localhost"), ssl=good),
        "silent": silent.sockets[0].getsockname()[1],
    }


# ------------------------------------------------------------------ Slack and webhooks


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in ("type", "color", "fallback"):
                yield from texts(item)


def slack_fault(payload):
    """What Slack would refuse, or None."""
    if not payload.get("text"):
        return "no_text"
    if len(payload["text"]) > 4000:
        return "msg_too_long"
    groups = [payload.get("blocks", [])]
    groups += [attachment["blocks"] for attachment in payload.get("attachments", [])]
    total = 0
    for blocks in groups:
        if len(blocks) > 50:
            return "invalid_blocks: too many"
        parsed = Block.parse_all(blocks)
        if len(parsed) != len(blocks):
            return "invalid_blocks: unknown type"
        for raw, block in zip(blocks, parsed):
            try:
                block.validate_json()
            except Exception as problem:
                return f"invalid_blocks: {problem}"
            found = list(texts(raw))
            if not found or any(not text for text in found):
                return "invalid_blocks: empty text"
            if raw["type"] == "section" and len(raw.get("text", {}).get("text", "")) > 3000:
                return "invalid_blocks: must be less than 3001 characters"
            if any(len(it["text"]) > 2000 for it in raw.get("fields", [])):
                return "invalid_blocks: field too long"
            total += sum(map(len, found))
    if total > 9600:
        return "msg_blocks_too_long"
    return None


class Http(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/slack"):
            store("slack", ".json", body)
            fault = slack_fault(json.loads(body))
            self.answer(400 if fault else 200, (fault or "ok").encode())
        else:
            secret = (work / "secret").read_text()
            try:
                Webhook(secret).verify(body, dict(self.headers))
            except Exception as problem:
                return self.answer(401, str(problem).encode())
            store("hook", ".json", body)
            self.answer(204, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


async def main():
    good, expired = certificates()
    ports = await mail_ports(good, expired)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Http)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ports["http"] = server.server_address[1]
    (work / "ports.tmp").write_text(json.dumps(ports))
    (work / "ports.tmp").rename(work / "ports.json")
    await asyncio.Event().wait()


asyncio.run(main())
