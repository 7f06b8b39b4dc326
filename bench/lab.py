"""What the demonstration and the benchmark share: a directory on a real disk, processes that never outlive us, the server
under test with its counters, smtp-source and smtp-sink."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERTZ = os.sysconf("SC_CLK_TCK")
SETTLE_QUIET_SECONDS = 0.2  # without a discard
SETTLE_SECONDS_MAX = 20


class Failed(Exception):
    """Ends the run; its text is for the reader."""


def free_port():
    """A port below the kernel's range of ephemeral ports, so that no outgoing connection takes it meanwhile."""
    while True:
        port = int.from_bytes(os.urandom(2), "big") % 20000 + 10000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def wait_until(condition, seconds, what, every=0.01):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(every)


def settle_disk(directory):
    """Waits until the disk has forgotten what was deleted before. A file system that is mounted with `discard` tells the disk
    of it behind its next commit, for tens of milliseconds each: no part of what is measured next."""
    os.sync()
    device = os.stat(directory).st_dev
    path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
    seen, since = None, time.monotonic()
    deadline = since + SETTLE_SECONDS_MAX
    while os.path.exists(path) and time.monotonic() < min(deadline, since + SETTLE_QUIET_SECONDS):
        with open(path, encoding="ascii") as file:
            fields = file.read().split()
        now = fields[11:12]  # discards so far
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.02)


def tail(path, lines=15):
    with open(path, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-lines:])


class Lab:
    """`with Lab(name) as lab`: lab.directory is gone afterwards, and so is every process of lab.spawn(), also on Ctrl-C."""

    def __init__(self, name):
        os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
        self.directory = tempfile.mkdtemp(prefix=f"{name}-", dir=os.path.join(ROOT, "build"))
        self.processes = []

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def spawn(self, words, output, stdin=subprocess.DEVNULL):
        """In a session of its own: Ctrl-C reaches only us, and we end it in order."""
        with open(output, "ab") as file:
            process = subprocess.Popen(words, stdin=stdin, stdout=file, stderr=file, start_new_session=True)
        self.processes.append(process)
        return process

    def file_system(self):
        return self.mounted("FSTYPE")

    def mounted(self, column):
        """What findmnt calls so: FSTYPE, OPTIONS. It knows nothing of a root that is not a mount, as in a chroot."""
        words = subprocess.run(["findmnt", "-n", "-o", column, "-T", self.directory], capture_output=True, text=True, check=False)
        return (words.stdout.split() or ["unknown"])[-1]


def sync_latency_us(lab, seconds=1):
    """Of 4 KiB writes with O_DSYNC over a file that exists already, one after the other: (median, 99th percentile)."""
    path, places = lab.path("sync"), 4096
    block, times = os.urandom(4096), []
    with open(path, "wb") as file:
        file.write(bytes(4096 * places))
        os.fsync(file.fileno())
    descriptor = os.open(path, os.O_WRONLY | os.O_DSYNC)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        begin = time.monotonic_ns()
        os.pwrite(descriptor, block, 4096 * (len(times) % places))
        times.append((time.monotonic_ns() - begin) / 1000)
    os.close(descriptor)
    os.unlink(path)
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cpu_of(pid):
    """Seconds of user and system time of all threads so far, the kernel's io-wq workers included."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


class SmtpSink:
    """smtp-sink. With `count` it says what it took; counting costs it a write per message."""

    WORDS = ["smtp-sink", *(["-u", "nobody"] if os.geteuid() == 0 else [])]

    def __init__(self, lab, count=False, port=None):
        self.port = port or free_port()
        self.output = lab.path(f"sink-{self.port}")
        words = [*self.WORDS, *(["-c"] if count else []), f"127.0.0.1:{self.port}", "1000"]
        self.process = lab.spawn(words, self.output)
        wait_until(lambda: listening(self.port) or self.process.poll() is not None, 5, "smtp-sink")
        if self.process.poll() is not None:
            raise Failed(f"smtp-sink did not start: {tail(self.output)}")

    def messages(self):
        with open(self.output, "rb") as file:
            file.seek(max(0, os.path.getsize(self.output) - 200))
            counts = re.findall(rb"mesg=(\d+)", file.read())
        return int(counts[-1]) if counts else 0

    def stop(self):
        self.process.terminate()
        self.process.wait()


def smtp_source_words(port, messages, length, sessions=50):
    return ["smtp-source", "-d", "-s", str(sessions), "-m", str(messages), "-l", str(length),
            "-f", "sender@source.test", "-t", "recipient@sink.test", f"127.0.0.1:{port}"]


def smtp_source(lab, port, messages, length, sessions=50):
    """Sends, and returns how many seconds it took."""
    output = lab.path(f"source-{port}")
    begin = time.monotonic()
    status = lab.spawn(smtp_source_words(port, messages, length, sessions), output).wait()
    if status != 0:
        raise Failed(f"smtp-source ended with {status}: {tail(output)}")
    return time.monotonic() - begin


CONFIGURATION = """\
hostname = "mx.ringpost.test";
listeners = ( {{ name = "in"; address = "127.0.0.1:{port}"; {listener} }} );
routes = ( {{ domain = "*"; next_hop = "127.0.0.1:{sink}"; {route} }} );
spool = {{ path = "{directory}/spool"; {spool} }};
events = {{ path = "{directory}/events"; }};
admin = {{ listen = "127.0.0.1:{admin}"; socket = "{directory}/control.sock"; }};
{more}"""


class Server:
    """ringpost, with every setting at its default but the places of things and what is given here as text."""

    def __init__(self, lab, binary, sink_port, listener="", route="", spool="", more=""):
        self.lab, self.binary = lab, os.path.abspath(binary)
        self.directory = tempfile.mkdtemp(prefix="server-", dir=lab.directory)
        self.port, self.admin = free_port(), free_port()
        self.configuration = os.path.join(self.directory, "ringpost.conf")
        self.log = os.path.join(self.directory, "log")
        self.process = None
        for name in ("spool", "events"):
            os.mkdir(os.path.join(self.directory, name))
        with open(self.configuration, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(port=self.port, admin=self.admin, sink=sink_port, directory=self.directory,
                                            listener=listener, route=route, spool=spool, more=more))

    def start(self, seconds=60):
        """Returns the seconds from exec to readiness."""
        settle_disk(self.directory)
        begin = time.monotonic()
        self.process = self.lab.spawn([self.binary, "serve", "--config", self.configuration], self.log)
        wait_until(self.ready, seconds, "the server to be ready", every=0.002)
        return time.monotonic() - begin

    def stop(self, seconds=60):
        """Gracefully; returns the seconds it took."""
        begin = time.monotonic()
        self.process.terminate()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"the server did not stop in {seconds} s:\n{tail(self.log)}") from None
        if status != 0:
            raise Failed(f"the server ended with {status}:\n{tail(self.log)}")
        return time.monotonic() - begin

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def control(self, action, selection):
        """`ringpost queue ACTION` by the control socket."""
        wire = http.client.HTTPConnection("localhost")
        wire.sock = socket.socket(socket.AF_UNIX)
        wire.sock.settimeout(60)
        wire.sock.connect(f"{self.directory}/control.sock")
        wire.request("POST", f"/queue/{action}", json.dumps(selection), {"Content-Type": "application/json"})
        answer = wire.getresponse()
        text = answer.read().decode()
        wire.close()
        if answer.status != 200:
            raise Failed(f"{action}: {answer.status} {text}")
        return json.loads(text)

    def ready(self):
        if self.process.poll() is not None:
            raise Failed(f"the server ended with {self.process.returncode}:\n{tail(self.log)}")
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def metrics(self):
        """Samples without labels: {name without prefix and suffix _total: value}."""
        if self.process.poll() is not None:
            raise Failed(f"the server ended with {self.process.returncode}:\n{tail(self.log)}")
        return {name.removesuffix("_total"): float(value)
                for name, value in re.findall(r"^ringpost_(\w+) (\S+)$", self.get("/metrics")[1], re.M)}

    def wait_delivered(self, count, seconds=60):
        wait_until(lambda: self.metrics()["recipients_delivered"] >= count, seconds, f"{count} deliveries", every=0.1)

    def cpu(self):
        return cpu_of(self.process.pid)

    def resident(self):
        """Bytes of anonymous memory: heap, stacks, buffers. Mapped files are the page cache's."""
        return self.status("RssAnon") * 1024

    def status(self, key):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return int(re.search(rf"^{key}:\s+(\d+)", file.read(), re.M).group(1))
