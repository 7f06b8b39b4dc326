"""How far the server is from what the machine allows: a bare copy of the same bytes, the disk's own sync, and one shard more."""
import contextlib
import os
import statistics

import lab
import scenarios
from scenarios import Scenario, Sink, Stage

SHARD_ROUNDS = 5  # more than elsewhere: it is a small difference that is looked for


class BareCopy:
    """Between a source and a sink like the server's."""

    def __init__(self, bench, scenario):
        self.bench, self.scenario = bench, scenario
        self.sink = Sink(bench, {})
        self.port = lab.free_port()
        self.process = bench.room.spawn([f"{bench.tools}/floor_copy", "--listen", str(self.port), "--to", str(self.sink.port)],
                                        bench.room.path("floor-copy"))
        lab.wait_until(lambda: lab.listening(self.port), 5, "floor_copy")
        self.cpu_us(1000)

    def cpu_us(self, messages):
        """CPU microseconds per message."""
        used = lab.cpu_of(self.process.pid)
        scenarios.send(self.bench, self.scenario, self.port, messages, "m")
        return (lab.cpu_of(self.process.pid) - used) / messages * 1e6

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.sink.stop()


def copy(bench, repeats, share):
    for size, length, messages, limit in (("4 KiB", 4096, 30000, None), ("100 KiB", 102400, 5000, 2.5)):
        scenario = Scenario(f"relay, {size}", source={"length": length})
        scenario.steady = True
        count = int(messages * share)
        ours, bare = [], []
        copier = BareCopy(bench, scenario)
        with Stage(bench, scenario, count) as stage:
            for _ in range(repeats):
                ours.append(stage.load(count)["CPU us"])
                bare.append(copier.cpu_us(count))
        copier.end()
        bench.book.add("floor", f"{size}: CPU of a bare copy in and out by io_uring", bare, "us")
        bench.book.add("floor", f"{size}: our CPU, stored durably and journaled", ours, "us")
        bench.book.add("floor", f"{size}: ours / bare copy", [a / b for a, b in zip(ours, bare)], "x", limit)


def busy_sync_p99_us(room, seconds):
    """The disk's own sync while every core has something else to do, as source, server and sink have it on a small machine."""
    loops = [room.spawn(["sh", "-c", "while :; do :; done"], room.path("loops")) for _ in os.sched_getaffinity(0)]
    p99 = lab.sync_latency_us(room, seconds)[1]
    for loop in loops:
        loop.kill()
        loop.wait()
    return p99


def half_rate(bench, repeats, share, seconds):
    """Accept-to-250 at half of the rate that the server reaches, for `seconds`, against the disk's own sync just before.
    Source, server and sink keep both cores of a small machine busy meanwhile, and the disk of a virtual one is served by these
    cores: so also against a sync beside busy loops, and while it accepts only."""
    idle, busy = [], []
    for what, deliver, limit in (("relaying", True, 4), ("accepting only", False, None)):
        peak_messages = int(30000 * share)
        runs, syncs = [], []
        with Stage(bench, Scenario("half of the peak", deliver=deliver), peak_messages) as stage:
            peak = statistics.median([stage.load(peak_messages)["accepted/s"] for _ in range(repeats)])
            rate = int(peak / 2)
            for _ in range(repeats):
                syncs.append((lab.sync_latency_us(bench.room, seconds)[1], busy_sync_p99_us(bench.room, seconds)))
                runs.append(stage.load(seconds * rate, rate=rate))
        for name in ("p50", "p99", "max"):
            bench.book.add("floor", f"{what} at half of the peak rate, accept to 250, {name}",
                           [run[f"accept to 250, {name} ms"] for run in runs], "ms")
        for index, (where, promised) in enumerate((("", limit), (" beside busy loops", None))):
            bench.book.add("floor", f"{what}: p99 / p99 of the disk's own 4 KiB sync{where}",
                           [run["accept to 250, p99 ms"] * 1000 / sync[index] for run, sync in zip(runs, syncs)], "x", promised)
        idle += [sync[0] for sync in syncs]
        busy += [sync[1] for sync in syncs]
    bench.book.add("floor", "the disk's own 4 KiB sync, p99", idle, "us")
    bench.book.add("floor", "the disk's own 4 KiB sync beside busy loops, p99", busy, "us")


def shards(bench, repeats, share):
    """CPU per message with one pinned shard, with two, and with the roles split; all three up, and loaded in turn. When files are
    made meanwhile, two shards make more of them: so when there are enough."""
    count = int(40000 * share)
    layouts = {"one shard": "count = 1;", "two shards": "count = 2;",
               "one inbound, one delivery shard": "inbound = 1; delivery = 1;"}
    figures = {name: [] for name in layouts}
    with contextlib.ExitStack() as stack:
        stages = {}
        for name, text in layouts.items():
            scenario = Scenario(name)
            scenario.more = f"shards = {{ {text} }};"
            scenario.steady = True
            stages[name] = stack.enter_context(Stage(bench, scenario, count))
        for turn in range(SHARD_ROUNDS if repeats > 1 else 1):
            for name in list(layouts)[::-1 if turn % 2 else 1]:
                figures[name].append(stages[name].load(count))
    for name, runs in figures.items():
        bench.book.add("floor", f"{name}: CPU per message", [run["CPU us"] for run in runs], "us")
        bench.book.add("floor", f"{name}: delivered", [run["delivered/s"] for run in runs], "/s")
    ratio = [two["CPU us"] / one["CPU us"] for one, two in zip(figures["one shard"], figures["two shards"])]
    bench.book.add("floor", "CPU per message, two shards / one", ratio, "x", 1.05)
