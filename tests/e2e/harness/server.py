"""The program under test: started with a configuration of its own, watched, stopped by its process id, its log judged."""
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

from . import config, spool_files

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PLAIN_BINARY = os.environ.get("RINGPOST", os.path.join(ROOT, "build/release/ringpost"))
BINARY = os.environ.get("RINGPOST_SAN") or PLAIN_BINARY
SANITIZED = bool(os.environ.get("RINGPOST_SAN"))
# For starts that are meant to fail: the process ends, and gives back what it has by doing so.
MAY_LEAK = {"ASAN_OPTIONS": "detect_leaks=0"}
# A real disk, where /tmp may not be one, and short enough for the name of a unix socket.
DIRECTORY = os.environ.get("E2E_DIRECTORY", "/var/tmp")
# Sanitizers, failed CHECKs and the C library's own complaints: none may ever appear in a log.
DISASTER = re.compile(r"AddressSanitizer|ThreadSanitizer|LeakSanitizer|runtime error:|CHECK failed|check failed|"
                      r"free\(\): |malloc\(\): |stack smashing|Assertion .* failed")


class Died(AssertionError):
    pass


given = []  # ports handed out lately: two draws must not be one port


def free_port(address="127.0.0.1"):
    """A port below the kernel's range of ephemeral ports, so that no outgoing connection takes it meanwhile."""
    del given[:-1000]
    while True:
        port = int.from_bytes(os.urandom(2), "big") % 20000 + 10000
        if port in given:
            continue
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            try:
                probe.bind((address, port))
                given.append(port)
                return port
            except OSError:
                continue


def wait_until(condition, seconds=20, what="a condition", every=0.02):
    """The first true value of condition(); an assertion error when it stays false."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what() if callable(what) else what}")
        time.sleep(every)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Ringpost:
    """A server with its files below `directory` (one of its own by default, which close() removes).

    Keyword arguments lay over the defaults, group by group. `listeners` holds changes to the first listener when it is a
    dictionary. `sink` is anything with an `endpoint`; all mail goes there unless `routes` says otherwise."""

    def __init__(self, sink=None, directory=None, environment=None, **changes):
        self.directory = directory or tempfile.mkdtemp(prefix="ringpost-", dir=DIRECTORY)
        self.own_directory = directory is None
        self.environment = environment or {}
        self.port, self.admin_port = free_port(), free_port()
        self.socket_path = os.path.join(self.directory, "control.sock")
        self.config_path = os.path.join(self.directory, "ringpost.conf")
        self.log_path = os.path.join(self.directory, "log")
        self.process = None
        listener = {"name": "in", "address": f"127.0.0.1:{self.port}"}
        if isinstance(changes.get("listeners"), dict):
            listener.update(changes.pop("listeners"))
        self.settings = config.merged({
            "hostname": "mx.ringpost.test",
            "shards": {"count": 2, "pin": False},
            "spool": {"path": os.path.join(self.directory, "spool"), "segment_bytes": "16M"},
            "listeners": (listener,),
            "routes": ({"domain": "*", "next_hop": sink.endpoint if sink else f"127.0.0.1:{free_port()}"},),
            "retry": {"schedule": ("1s",), "jitter_percent": 0},
            "dns": {"servers": ("127.0.0.1:9",)},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}", "socket": self.socket_path},
            "events": {"path": os.path.join(self.directory, "events"), "fsync_interval": 0},
            "stop_timeout": "5s",
        }, changes)

    # --- life ---------------------------------------------------------------------------------------------------

    def write_config(self, **changes):
        self.settings = config.merged(self.settings, changes)
        os.makedirs(self.settings["spool"]["path"], exist_ok=True)
        if self.settings["events"]["path"]:
            os.makedirs(self.settings["events"]["path"], exist_ok=True)
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(config.text(self.settings))

    def start(self, wait=True, limit_files=None, **changes):
        assert self.process is None
        self.write_config(**changes)
        prefix = ["prlimit", f"--nofile={limit_files}:{limit_files}"] if limit_files else []
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*prefix, BINARY, "serve", "--config", self.config_path], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env={**os.environ, **self.environment})
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=30):
        wait_until(self.ready, seconds, lambda: "the server to be ready; its log ends with\n" + self.log_tail())

    def ready(self):
        self.assert_alive()
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def assert_alive(self):
        code = self.process.poll()
        if code is not None:
            self.process = None
            raise Died(f"the server ended with {code}; its log ends with\n{self.log_tail()}")

    def send_signal(self, number):
        self.assert_alive()
        os.kill(self.process.pid, number)

    def stop(self, number=signal.SIGTERM, seconds=20, code=0):
        """A graceful end; the exit status and the log are part of every test."""
        self.send_signal(number)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.process = None
            raise AssertionError(f"the server did not end in {seconds} s after signal {number}:\n{self.log_tail()}") from None
        self.process = None
        assert status == code, f"exit status {status}; its log ends with\n{self.log_tail()}"
        self.assert_log_clean()

    def kill(self):
        """As a crash: no handler runs."""
        self.assert_alive()
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self, **changes):
        self.stop()
        self.start(**changes)

    def close(self, keep=False):
        """Ends whatever still runs; removes the files unless asked to keep them."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.own_directory and not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    # --- what it says -------------------------------------------------------------------------------------------

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def log_tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])

    def assert_log_clean(self):
        found = DISASTER.search(self.log())
        assert not found, f"the log says {found.group(0)!r}:\n{self.log_tail(80)}"

    def get(self, path, timeout=5):
        """(status, body text) from the admin listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP: {error}") from error
        finally:
            connection.close()

    def control(self, method, path, query=None, body=None, timeout=10):
        """(status, parsed JSON or text) from the control socket."""
        connection = UnixConnection(self.socket_path, timeout)
        try:
            if query:
                path += "?" + urllib.parse.urlencode(query)
            text = json.dumps(body) if body is not None else None
            connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            answer = connection.getresponse()
            data = answer.read().decode()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer.status, json.loads(data) if is_json else data
        finally:
            connection.close()

    def cli(self, *arguments, code=0):
        """Output of `ringpost queue ...` against this server."""
        words = [BINARY, "queue", *arguments, "--socket", self.socket_path]
        run = subprocess.run(words, capture_output=True, text=True, timeout=30)
        assert run.returncode == code, f"{' '.join(words)} ended with {run.returncode}: {run.stdout}{run.stderr}"
        return run.stdout

    def metrics(self):
        """Samples without labels as {name without prefix: value}."""
        samples = re.findall(r"^ringpost_(\w+) (\S+)$", self.get("/metrics")[1], re.M)
        return {name: float(value) for name, value in samples}

    def metric(self, name):
        return self.metrics()[name]

    def wait_metric(self, name, value, seconds=20):
        wait_until(lambda: self.metric(name) == value, seconds,
                   lambda: f"{name} to be {value}; it is {self.metric(name)}\n{self.log_tail()}")

    def wait_queue_empty(self, seconds=30):
        """Until no recipient waits: everything was delivered, failed or removed, and its outcome written."""
        wait_until(lambda: self.queued() == (0, 0), seconds,
                   lambda: f"an empty queue; recipients and messages are {self.queued()}\n{self.log_tail()}")

    def wait_outcomes_written(self, recipients, seconds=20):
        """Until the outcomes of so many recipients are durable: the counters of deliveries know them some milliseconds
        earlier, because outcomes wait for company. For a server that began with an empty spool."""
        path = self.settings["spool"]["path"]
        wait_until(lambda: spool_files.outcomes(path) >= recipients, seconds, lambda: f"the outcomes of {recipients} recipients")
        written = len(spool_files.records(path))
        wait_until(lambda: self.metric("spool_records_total") >= written, seconds, lambda: f"{written} records to be durable")

    def queued(self):
        """(recipients without a fate, messages whose fate is not all written down)"""
        samples = self.metrics()
        return samples["queued_recipients"], samples["queued_messages"]

    def events(self):
        """Every event of every shard's log, in the order of their times; a line that is no JSON object fails."""
        result = []
        pattern = os.path.join(self.settings["events"]["path"], "events-*.jsonl*")
        for path in sorted(glob.glob(pattern)):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    event = json.loads(line)
                    assert isinstance(event, dict), line
                    result.append(event)
        return sorted(result, key=lambda event: event["time"])

    def wait_events(self, wanted, count=1, seconds=10):
        """Events for which wanted(event) is true, once there are at least so many."""
        return wait_until(lambda: (lambda found: len(found) >= count and found)([e for e in self.events() if wanted(e)]),
                          seconds, lambda: f"{count} events; there are {self.events()}")

    # --- what it costs ------------------------------------------------------------------------------------------

    def rss(self):
        """Resident anonymous memory in bytes: the page cache under the spool's maps is not the program's."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"^RssAnon:\s+(\d+) kB", file.read(), re.M).group(1)) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
