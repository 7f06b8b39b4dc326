"""What TLS costs: the same load in the clear and inside TLS 1.3, turn by turn on the same server, by the same load tools. Their
TLS is OpenSSL's, on the same cores, so the rates hold its work too; the server's own is in the CPU per message."""
import subprocess
import time

import lab
import scenarios

IDLE_SESSIONS = 2000
SESSIONS = 50
KIB4 = {"length": 4096}


def certificate(room):
    """(chain, key), of the kind that most servers have by now."""
    chain, key = room.path("secure.pem"), room.path("secure.key")
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-out", chain, "-keyout", key], check=True, capture_output=True)
    return chain, key


class Load:
    """A server with a certificate, and what a run through it took."""

    def __init__(self, bench, files, sink_port, tls="starttls", **changes):
        self.bench = bench
        more = f'tls = {{ certificates = ( {{ certificate = "{files[0]}"; key = "{files[1]}"; }} ); }};'
        self.server = bench.server(sink_port, listener=f'tls = "{tls}";', more=more, **changes)

    def run(self, tool, messages, **options):
        """(accepted/s, delivered/s, CPU us per message, share of handshakes that resumed a session)"""
        words = scenarios.words({"to": f"127.0.0.1:{self.server.port}", "sessions": SESSIONS, "messages": messages, **KIB4,
                                 **{name.replace("_", "-"): value for name, value in options.items()}})
        before, used, begin = self.server.metrics(), self.server.cpu(), time.monotonic()
        run = subprocess.run([f"{self.bench.tools}/{tool}", *words], capture_output=True, text=True, check=False,
                             timeout=scenarios.SECONDS)
        if run.returncode != 0:
            raise lab.Failed(f"{tool} said {run.stdout.strip()} {run.stderr.strip()}")
        lab.wait_until(lambda: self.server.metrics()["recipients_delivered"] >= before["recipients_delivered"] + messages,
                       scenarios.SECONDS, "the deliveries", every=0.02)
        delivered = messages / (time.monotonic() - begin)
        after = self.server.metrics()
        changes = {name: after[name] - before[name] for name in ("tls_handshakes", "tls_resumed")}
        later = sum(changes.values()) - SESSIONS  # the first ones have no ticket
        resumed = min(changes["tls_resumed"] / later, 1) if later > 0 else 0
        return messages / float(run.stdout.split()[4]), delivered, (self.server.cpu() - used) / messages * 1e6, resumed

    def end(self):
        self.server.stop()
        self.server.remove()


def pairs(book, title, runs, rate, limit=None):
    """Rows of runs that were made turn by turn: (in the clear, in TLS)."""
    name = ("accepted", "delivered")[rate]
    book.add("tls", f"{title}: {name}/s, to that in the clear", [tls[rate] / clear[rate] for clear, tls in runs], "x", limit, True)
    book.add("tls", f"{title}: {name}/s", [tls[rate] for _, tls in runs], "/s")
    book.add("tls", f"{title}: server CPU per message", [tls[2] for _, tls in runs], "us")
    book.add("tls", "... in the clear", [clear[2] for clear, _ in runs], "us")


def inbound(bench, files, repeats, share):
    port, sink = bench.fast_sink()
    load = Load(bench, files, port)
    for tool in ("load_source", "load_source_tls"):
        load.run(tool, 2000)
    kept = [(load.run("load_source", int(30000 * share)), load.run("load_source_tls", int(30000 * share)))
            for _ in range(repeats)]
    pairs(bench.book, "relay of 4 KiB, TLS in, kept sessions", kept, 0, 0.70)
    messages = int(2000 * share)
    every = [(load.run("load_source", messages, per_session=1),
              load.run("load_source_tls", messages, per_session=1, no_resumption=None),
              load.run("load_source_tls", messages, per_session=1)) for _ in range(repeats)]
    title = "relay of 4 KiB, a TLS connection per message"
    pairs(bench.book, f"{title}, full handshakes", [(clear, full) for clear, full, _ in every], 0)
    pairs(bench.book, f"{title}, resumed", [(clear, resumed) for clear, _, resumed in every], 0)
    bench.book.add("tls", "... of which were resumed", [run[3] for _, _, run in every], "", 0.95, True)
    load.end()
    sink.terminate()
    sink.wait()


def outbound(bench, files, repeats, share):
    port, sink = bench.fast_sink()
    tls_port = lab.free_port()
    tls_sink = bench.room.spawn([f"{bench.tools}/load_sink_tls", "--listen", f"127.0.0.1:{tls_port}", "--certificate", files[0],
                                 "--key", files[1]], bench.room.path("tls-sink"))
    lab.wait_until(lambda: lab.listening(tls_port), 5, "load_sink_tls")
    loads = [Load(bench, files, port), Load(bench, files, tls_port, route='tls = "require";')]
    for load in loads:
        load.run("load_source", 2000)
    runs = [tuple(load.run("load_source", int(30000 * share)) for load in loads) for _ in range(repeats)]
    pairs(bench.book, "relay of 4 KiB, TLS out, kept connections", runs, 1)
    for load in loads:
        load.end()
    for process in (sink, tls_sink):
        process.terminate()
        process.wait()


def idle(bench, files):
    port, sink = bench.fast_sink()
    load = Load(bench, files, port, tls="implicit")
    server = load.server
    load.run("load_source_tls", 10000, tls=None)  # receive buffers and the like are in use once
    time.sleep(2)
    before = server.resident()
    with open(bench.room.path("tls-sessions"), "wb") as output:
        holder = subprocess.Popen([f"{bench.tools}/sessions_tls", "--tls", "--to", f"127.0.0.1:{server.port}", "--count",
                                   str(IDLE_SESSIONS), "--sources", "100"], stdin=subprocess.PIPE, stdout=output, stderr=output)
    try:
        lab.wait_until(lambda: b"open" in open(output.name, "rb").read(), 60, "idle TLS sessions", every=0.1)
        time.sleep(2)
        each = (server.resident() - before) / IDLE_SESSIONS
        bench.book.add("tls", f"resident bytes per idle TLS session, {IDLE_SESSIONS:,} of them", [each], "B", 8192)
        used = server.cpu()
        time.sleep(2)
        bench.book.add("tls", "with them: clock ticks of CPU in 2 s", [round((server.cpu() - used) * lab.HERTZ)])
    finally:
        holder.stdin.close()
        holder.wait()
    load.end()
    sink.terminate()
    sink.wait()


def run(bench, repeats, share):
    files = certificate(bench.room)
    inbound(bench, files, repeats, share)
    outbound(bench, files, repeats, share)
    idle(bench, files)
