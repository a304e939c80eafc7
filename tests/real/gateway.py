"""What stands before PostgREST at Supabase, as far as a client can tell: keys, and nothing else.

usage: gateway.py SETTINGS.json

/rest/v1/… goes to PostgREST. A new key (sb_…) becomes a token of its role; a legacy key must be in
`apikey`, and goes on as the token it is. /down/rest/v1/… goes to a PostgREST without database.
/cut-N/rest/v1/… forwards changes, and cuts the first N answers to them: carried out, but nobody
was told. /paused, /html: what a paused project and a proxy's error page look like.
"""

import http.client
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SETTINGS = json.load(open(sys.argv[1]))
KEYS = SETTINGS["keys"]
# A new key is no token: the gateway puts one of the same role in its place.
ROLES = {KEYS["secret"]: KEYS["service"], KEYS["publishable"]: KEYS["anon"]}
LEGACY = {KEYS[name] for name in ("service", "anon", "reader", "expired")}
BROWSERS = re.compile(r"Mozilla|Chrome|Safari|Firefox", re.I)
CUT = {}
LOCK = threading.Lock()


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        place, found, rest = self.path.partition("/rest/v1")
        if self.path == "/_gateway":
            return self.reply(200, {"ready": True})
        if not found:
            return self.reply(404, {"message": "no Route matched with those values"})
        if place == "/paused":
            return self.reply(540, "<html>Project paused</html>", "text/html")
        if place == "/html":
            return self.reply(502, "<html>502 Bad Gateway</html>", "text/html")
        token = self.token()
        if token is None:
            return None
        port = SETTINGS["down"] if place == "/down" else SETTINGS["good"]
        return self.forward(port, rest or "/", token, body, place)

    def token(self):
        key = self.headers.get("apikey")
        if not key:
            self.reply(401, {"message": "No API key found in request",
                             "hint": "No `apikey` request header or url param was found."})
            return None
        authorization = self.headers.get("Authorization")
        if key in ROLES:
            agent = self.headers.get("User-Agent") or ""
            if key == KEYS["secret"] and BROWSERS.search(agent):
                self.reply(401, {"message": "Forbidden use of secret API key in browser"})
                return None
            if authorization not in (None, f"Bearer {key}"):
                return authorization
            return f"Bearer {ROLES[key]}"
        if key in LEGACY:
            return authorization or f"Bearer {key}"
        self.reply(401, {"message": "Invalid API key",
                         "hint": "Double check your Supabase `anon` or `service_role` API key."})
        return None

    def forward(self, port, path, token, body, place):
        headers = {name: value for name, value in self.headers.items()
                   if name.lower() not in ("host", "apikey", "authorization", "connection")}
        headers["Authorization"] = token
        peer = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            peer.request(self.command, path, body or None, headers)
            answer = peer.getresponse()
            data = answer.read()
        finally:
            peer.close()
        wanted = re.fullmatch(r"/cut-(\d+)(-[a-z_]+)?", place)
        if wanted and self.command == "PATCH":
            with LOCK:
                CUT[place] = CUT.get(place, 0) + 1
                if CUT[place] <= int(wanted[1]):
                    self.close_connection = True
                    self.connection.close()
                    return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", SETTINGS["port"]), Gateway).serve_forever()
