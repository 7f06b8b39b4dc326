"""How far the server is from what the machine allows: a bare copy of the same bytes, the disk's own sync, and one shard more."""
import statistics

import lab
import scenarios
from scenarios import Scenario, Sink

HALF_RATE_SECONDS = 4
SHARD_ROUNDS = 5  # more than elsewhere: it is a small difference that is looked for


def relayed_cpu(bench, scenario, messages):
    """(CPU microseconds per message of the server, seconds)"""
    figures = scenarios.measure(bench, scenario, messages)
    return figures["CPU us"], figures


def copied_cpu(bench, scenario, messages):
    """CPU microseconds per message of a bare copy between the same source and sink."""
    sink = Sink(bench, {})
    port = lab.free_port()
    copy = bench.room.spawn([f"{bench.tools}/floor_copy", "--listen", str(port), "--to", str(sink.port)],
                            bench.room.path("floor-copy"))
    lab.wait_until(lambda: lab.listening(port), 5, "floor_copy")
    scenarios.send(bench, scenario, port, max(messages // 20, 50), "warm")
    used = lab.cpu_of(copy.pid)
    scenarios.send(bench, scenario, port, messages, "m")
    used = lab.cpu_of(copy.pid) - used
    copy.terminate()
    copy.wait()
    sink.stop()
    return used / messages * 1e6


def copy(bench, repeats, share):
    for size, length, messages, limit in (("4 KiB", 4096, 30000, None), ("100 KiB", 102400, 5000, 2.5)):
        scenario = Scenario(f"relay, {size}", source={"length": length})
        scenario.steady = True
        count = int(messages * share)
        ours, bare = [], []
        for _ in range(repeats):
            ours.append(relayed_cpu(bench, scenario, count)[0])
            bare.append(copied_cpu(bench, scenario, count))
        bench.book.add("floor", f"{size}: CPU of a bare copy in and out by io_uring", bare, "us")
        bench.book.add("floor", f"{size}: our CPU, stored durably and journaled", ours, "us")
        bench.book.add("floor", f"{size}: ours / bare copy", [a / b for a, b in zip(ours, bare)], "x", limit)


def half_rate(bench, repeats, share, sync_p99_us):
    """Accept-to-250 at half of the rate that the server reaches, for some seconds, against the disk's own sync. While
    it relays source, server and sink keep both cores of a small machine busy, and that is most of what is measured: so
    also while it accepts only."""
    for what, deliver, limit in (("relaying", True, 4), ("accepting only", False, None)):
        peak = statistics.median([scenarios.measure(bench, Scenario("peak", deliver=deliver), int(30000 * share))["accepted/s"]
                                  for _ in range(repeats)])
        rate = int(peak / 2)
        runs = [scenarios.measure(bench, Scenario("half", deliver=deliver, source={"rate": rate}), HALF_RATE_SECONDS * rate)
                for _ in range(repeats)]
        for name in ("p50", "p99", "max"):
            bench.book.add("floor", f"{what} at half of the peak rate, accept to 250, {name}",
                           [run[f"accept to 250, {name} ms"] for run in runs], "ms")
        bench.book.add("floor", f"{what}: p99 / p99 of the disk's own 4 KiB sync",
                       [run["accept to 250, p99 ms"] * 1000 / sync_p99_us for run in runs], "x", limit)


def shards(bench, repeats, share):
    """CPU per message with one pinned shard, with two, and with the roles split."""
    count = int(30000 * share)
    layouts = {"one shard": "count = 1;", "two shards": "count = 2;",
               "one inbound, one delivery shard": "inbound = 1; delivery = 1;"}
    figures = {name: [] for name in layouts}
    for _ in range(SHARD_ROUNDS if repeats > 1 else 1):
        for name, text in layouts.items():
            scenario = Scenario(name)
            scenario.more = f"shards = {{ {text} }};"
            figures[name].append(scenarios.measure(bench, scenario, count))
    for name, runs in figures.items():
        bench.book.add("floor", f"{name}: CPU per message", [run["CPU us"] for run in runs], "us")
        bench.book.add("floor", f"{name}: delivered", [run["delivered/s"] for run in runs], "/s")
    ratio = [two["CPU us"] / one["CPU us"] for one, two in zip(figures["one shard"], figures["two shards"])]
    bench.book.add("floor", "CPU per message, two shards / one", ratio, "x", 1.05)
