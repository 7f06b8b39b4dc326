"""What a sender meets, one figure set per situation: sizes, sessions, recipients, many domains, and peers that defer, refuse
or are far away. Source and sink are bench/load_source and bench/load_sink, which cost a fraction of what the server costs."""
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import lab

sys.path.insert(0, os.path.join(lab.ROOT, "tests/e2e"))

SECONDS = 300


class Scenario:
    """`source` and `sink` are options of the load tools. `messages` are those of a full run; `deliver` False: nobody listens
    where the mail should go, so it is only accepted and stored. `steady`, which may be set afterwards: measured when the
    spool has as many files as this load goes round in."""

    def __init__(self, name, messages=30000, deliver=True, source=None, sink=None, route="", durability="sync", domains=1,
                 backlog=0):
        self.name, self.messages, self.deliver, self.route = name, messages, deliver, route
        self.source = {"sessions": 50, "length": 4096, **(source or {})}
        self.sink, self.durability, self.domains = sink or {}, durability, domains
        self.backlog = backlog  # messages of 1 KiB that wait for another host, which is not there
        self.more = ""
        self.steady = False


def scenarios():
    yield Scenario("accept only, 4 KiB", deliver=False)
    yield Scenario("relay, 4 KiB")
    yield Scenario("relay, 4 KiB, relaxed durability", durability="relaxed")
    for size, messages in (("1 KiB", 30000), ("10 KiB", 20000), ("100 KiB", 6000), ("1 MiB", 1000)):
        number, unit = size.split()
        yield Scenario(f"relay, {size}", messages, source={"length": int(number) << (10 if unit == "KiB" else 20)})
    yield Scenario("relay, 4 KiB, a connection per message", 10000, source={"per-session": 1})
    for sessions, messages in ((1, 3000), (10, 30000), (500, 30000)):
        yield Scenario(f"relay, 4 KiB, {sessions} session{'s' * (sessions > 1)}", messages, source={"sessions": sessions})
    for recipients, messages in ((10, 10000), (50, 3000)):
        yield Scenario(f"relay, 4 KiB, {recipients} recipients each", messages, source={"recipients": recipients})
    yield Scenario("relay, 4 KiB, not pipelined by the source", source={"plain": None})
    yield Scenario("relay, 4 KiB, to 1,000 domains by DNS", 6000, source={"domains": 1000}, domains=1000)
    yield Scenario("relay, 4 KiB, 10 % deferred and 5 % refused", 20000, sink={"defer": 100, "refuse": 50})
    yield Scenario("relay, 4 KiB, behind a backlog of 1,000,000", backlog=1000000)
    yield Scenario("relay, 4 KiB, sink 50 ms away, 20 connections", 3000, sink={"delay-all": 50})


FAR = Scenario("relay, 4 KiB, sink 200 ms away, one connection", 1000, sink={"delay-all": 200},
               route="connections_max = 1; messages_per_connection_max = 1000000;")


def words(options):
    result = []
    for name, value in options.items():
        result += [f"--{name}"] + ([] if value is None else [str(value)])
    return result


class Sink:
    def __init__(self, bench, options, address="127.0.0.1"):
        self.port = lab.free_port()
        self.process = bench.room.spawn([f"{bench.tools}/load_sink", "--listen", f"{address}:{self.port}", *words(options)],
                                        bench.room.path("scenario-sink"))
        lab.wait_until(lambda: lab.listening(self.port), 5, "load_sink")

    def counts(self, command="XSTAT"):
        """messages, recipients, deferred, refused, and p50, p99, max in microseconds from the making to the arrival."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as wire:
            wire.sendall(f"{command}\r\nQUIT\r\n".encode())
            text = b""
            while b"221" not in text:
                piece = wire.recv(4096)
                if not piece:
                    break
                text += piece
        fields = re.search(rb"^250 (\d+(?: \d+)+)\r$", text, re.M).group(1).split()
        names = ("connections", "messages", "recipients", "bytes", "deferred", "refused", "p50", "p99", "max")
        return dict(zip(names, map(int, fields)))

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Counters:
    """System calls and context switches of the server, as perf counts them; none without perf or the right to use it."""

    def __init__(self, bench, server):
        self.output = bench.room.path(f"perf-stat-{server.port}")
        self.process = None
        if shutil.which("perf") and os.geteuid() == 0:
            if os.path.exists(self.output):
                os.unlink(self.output)
            events = "raw_syscalls:sys_enter,syscalls:sys_enter_io_uring_enter,context-switches,instructions"
            self.process = bench.room.spawn(["perf", "stat", "-x,", "-o", self.output, "-e", events, "-p",
                                             str(server.process.pid)], bench.room.path("perf-log"))
            time.sleep(0.3)

    def end(self):
        if self.process is None:
            return {}
        self.process.send_signal(2)
        self.process.wait()
        counts = {}
        with open(self.output, encoding="utf-8") as file:
            for line in file:
                fields = line.split(",")
                if len(fields) > 2 and fields[0].isdigit():
                    counts[fields[2].split(":")[-1]] = int(fields[0])
        return counts


def name_server(scenario):
    from harness.names import NameServer
    return NameServer({f"d{i}.test": {"MX": [(10, f"mx{i}.d{i}.test")]} for i in range(scenario.domains)} |
                      {f"mx{i}.d{i}.test": {"A": [f"127.1.{i // 250}.{i % 250 + 1}"]} for i in range(scenario.domains)})


def start(bench, scenario, sink_port):
    listener = f'durability = "{scenario.durability}";'
    if scenario.backlog:
        more = f'retry = {{ schedule = ( "1h" ); }}; {scenario.more}'
        return configured(bench, sink_port, listener, more, f'''{{ domain = "d0.test"; next_hop = "127.0.0.1:{sink_port}"; }},
            {{ domain = "*"; next_hop = "127.0.0.1:{lab.free_port()}"; }}'''), None
    if scenario.domains == 1:
        return bench.server(sink_port, listener=listener, route=scenario.route, more=scenario.more), None
    names = name_server(scenario)
    more = f'dns = {{ servers = ( "{names.endpoint}" ); }}; delivery = {{ loopback_is_remote = true; }};'
    return configured(bench, sink_port, listener, more, f'{{ domain = "*"; next_hop = "mx"; port = {sink_port}; }}'), names


def configured(bench, sink_port, listener, more, routes):
    """A server with these routes in the place of the one that lab gives it."""
    server = lab.Server(bench.room, bench.binary, sink_port, listener=listener, more=more)
    with open(server.configuration, encoding="utf-8") as file:
        text = re.sub(r"(?m)^routes = .*$", lambda _: f"routes = ( {routes} );", file.read(), count=1)
    with open(server.configuration, "w", encoding="utf-8") as file:
        file.write(text)
    server.start()
    return server


def send(bench, scenario, port, messages, prefix):
    options = {"to": f"127.0.0.1:{port}", "messages": messages, "prefix": prefix, **scenario.source}
    output = bench.room.path("scenario-source")
    run = subprocess.run([f"{bench.tools}/load_source", *words(options)], capture_output=True, text=True, timeout=SECONDS,
                         check=False)
    fields = run.stdout.split()
    if run.returncode != 0:
        raise lab.Failed(f"{scenario.name}: load_source said {run.stdout.strip()} {run.stderr.strip()} ({output})")
    return {"seconds": float(fields[4]), "p50": int(fields[5]), "p99": int(fields[6]), "max": int(fields[7])}


def pile_up(bench, server, count):
    """Until so many messages wait: of 64 domains all but the one that is delivered. Its mail is there already."""
    messages = count * 64 // 63
    waiting = messages - (messages + 63) // 64
    send(bench, Scenario("backlog", source={"length": 1024, "domains": 64}), server.port, messages, "pile")
    lab.wait_until(lambda: server.metrics()["queued_recipients"] == waiting, SECONDS, "the backlog", every=0.1)


def settle(bench, scenario, server, messages):
    """Sends until no more segments are made. Each is written with zeros once, which costs more than the mail that first
    comes into it, and on a virtual machine that has not used all of its memory yet several times as much."""
    source = {name: value for name, value in scenario.source.items() if name != "rate"}
    for _ in range(20):
        before = server.metrics()
        send(bench, Scenario(scenario.name, source=source), server.port, messages, "settle")
        server.wait_delivered(before["recipients_delivered"] + messages)
        if server.metrics()["spool_segments"] <= before["spool_segments"]:
            return
    raise lab.Failed(f"{scenario.name}: segments are still being made")


def wait_for_outcomes(scenario, server, before, expected):
    def there():
        now = server.metrics()
        return sum(now[name] - before[name] for name in
                   ("recipients_delivered", "recipients_deferred", "recipients_failed")) >= expected
    lab.wait_until(there, SECONDS, f"{scenario.name}: {expected} outcomes", every=0.5 if scenario is FAR else 0.02)


class Stage:
    """A server and a sink for one scenario, up and warmed, to be loaded any number of times."""

    def __init__(self, bench, scenario, messages):
        self.bench, self.scenario, self.loads = bench, scenario, 0
        self.recipients = scenario.source.get("recipients", 1)
        address = "127.0.0.1" if scenario.domains == 1 else "0.0.0.0"  # each domain has an address of its own
        self.sink = Sink(bench, scenario.sink, address) if scenario.deliver else None
        port = self.sink.port if self.sink else lab.free_port()
        self.server, self.names = start(bench, scenario, port)
        try:
            self.warm(messages)
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def warm(self, messages):
        scenario = self.scenario
        if scenario.backlog:
            pile_up(self.bench, self.server, scenario.backlog)
        if "delay-all" not in scenario.sink:
            send(self.bench, scenario, self.server.port, max(messages // 20, scenario.source["sessions"]), "warm")
            time.sleep(0.5)
            if scenario.steady:
                settle(self.bench, scenario, self.server, messages)

    def load(self, messages, **source):
        """{figure: value}. `source`: options of the load source beside the scenario's."""
        server, scenario = self.server, self.scenario
        scenario.source |= source
        if self.sink:
            self.sink.counts("XRESET")
        self.loads += 1
        before, used = server.metrics(), server.cpu()
        begin = time.monotonic()
        sent = send(self.bench, scenario, server.port, messages, f"m{self.loads}-")
        expected = messages * self.recipients
        if scenario.deliver:
            wait_for_outcomes(scenario, server, before, expected)
        seconds = time.monotonic() - begin
        after = server.metrics()
        sizes = messages * scenario.source["length"]
        figures = {
            "accepted/s": messages / sent["seconds"],
            "accept to 250, p50 ms": sent["p50"] / 1000,
            "accept to 250, p99 ms": sent["p99"] / 1000,
            "accept to 250, max ms": sent["max"] / 1000,
            "CPU us": (server.cpu() - used) / messages * 1e6,
            "syncs": (after["spool_syncs"] - before["spool_syncs"]) / messages,
            "spool bytes per byte": (after["spool_written_bytes"] - before["spool_written_bytes"]) / sizes,
            "peak MiB": server.status("VmHWM") / 1024,
        }
        if scenario.deliver:
            figures["delivered/s"] = expected / seconds
            arrived = self.sink.counts()
            figures |= {f"end to end, {name} ms": arrived[name] / 1000 for name in ("p50", "p99", "max")}
            if "delay-all" in scenario.sink and "one connection" in scenario.name:
                figures["round trips"] = seconds / (messages * scenario.sink["delay-all"] / 1000)
        return figures

    def count(self, messages):
        """What perf counts per message, of a load of its own: watching costs the server some microseconds for each."""
        counters, before = Counters(self.bench, self.server), self.server.metrics()
        send(self.bench, self.scenario, self.server.port, messages, "count")
        if self.scenario.deliver:
            wait_for_outcomes(self.scenario, self.server, before, messages * self.recipients)
        counts = counters.end()
        return {name: counts[event] / messages
                for event, name in (("sys_enter", "system calls"), ("sys_enter_io_uring_enter", "enters"),
                                    ("context-switches", "context switches"), ("instructions", "instructions"))
                if event in counts}

    def end(self):
        self.server.stop()
        self.server.remove()
        if self.sink:
            self.sink.stop()
        if self.names:
            self.names.close()


LIMITS = {("relay, 4 KiB", "CPU us"): 45, ("relay, 1 KiB", "CPU us"): 45,
          ("relay, 4 KiB, not pipelined by the source", "CPU us"): 75, ("relay, 4 KiB", "syncs"): 0.25,
          ("relay, 4 KiB, 500 sessions", "syncs"): 0.05,
          ("relay, 4 KiB, sink 200 ms away, one connection", "round trips"): 1.1}


def book(bench, scenario, runs):
    for figure in runs[0] if runs else ():
        bench.book.add("scenarios", f"{scenario.name}: {figure}", [one[figure] for one in runs if figure in one], "",
                       LIMITS.get((scenario.name, figure)))


def attempt(bench, scenario, messages, repeats, watch):
    """A list of so many sets of figures, or of none. `watch`: the first one has what perf counts as well."""
    try:
        with Stage(bench, scenario, messages) as stage:
            runs = [stage.load(messages) for _ in range(repeats)]
            if watch:
                runs[0] |= stage.count(max(messages // 3, 100))
            return runs
    except lab.Failed as error:
        print(f"  {error}", flush=True)
        return []


class FarAway(threading.Thread):
    """Measures FAR beside other parts: that takes minutes, and next to nothing of the machine."""

    def __init__(self, bench, share):
        super().__init__(daemon=True)
        self.bench, self.runs = bench, []
        self.messages = FAR.messages if share == 1 else FAR.messages // 10

    def run(self):
        self.runs += attempt(self.bench, FAR, self.messages, 1, watch=False)


def run(bench, repeats, share, far, watch):
    """`share` of the messages of a full run; `far` was started before."""
    for scenario in scenarios():
        if scenario.backlog:
            scenario.backlog = int(scenario.backlog * share)
            scenario.name = f"relay, 4 KiB, behind a backlog of {scenario.backlog:,}"
        book(bench, scenario, attempt(bench, scenario, max(int(scenario.messages * share), 100), repeats, watch))
    far.join()
    book(bench, FAR, far.runs)
