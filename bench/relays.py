"""Other servers at the same work: relays of 4 KiB messages, turn by turn on the same disk, each with all that its authors do
for durability and with an empty queue. Source and sink are the same for all of them:

    load tools     load_source, which pipelines where that is announced, and load_sink. They cost a few microseconds per message,
                   so that it is the servers whose limit is met.
    smtp-source    and smtp-sink, which come with Postfix and do not pipeline. They need most of the two cores themselves when
                   the server is fast.
"""
import os
import statistics
import time

import lab
import peers
import scenarios

SESSIONS = 50
SECONDS = 300


class Ourselves:
    """ringpost in the shape of a peer."""
    turns_left_out = 0

    def __init__(self, bench, durability):
        self.bench, self.durability, self.server = bench, durability, None

    def title(self):
        return f"ringpost {self.durability}"

    def prepare(self):
        pass

    def version(self):
        return self.title()

    def start(self, _, sink_port):
        self.server = self.bench.server(sink_port, listener=f'durability = "{self.durability}";')
        self.port = self.server.port

    def cpu(self):
        return self.server.cpu()

    def stop(self):
        self.server.stop()
        self.server.remove()


class LoadTools:
    name = "load tools"

    def __init__(self, bench):
        self.bench = bench
        self.sink = scenarios.Sink(bench, {})
        self.port = self.sink.port

    def send(self, port, messages, prefix):
        """Seconds until all of them were accepted, and the percentiles of the wait for a 250 in ms."""
        scenario = scenarios.Scenario("relay", source={"sessions": SESSIONS})
        sent = scenarios.send(self.bench, scenario, port, messages, prefix)
        return sent["seconds"], {name: sent[name] / 1000 for name in ("p50", "p99", "max")}

    def messages(self):
        return self.sink.counts()["messages"]

    def begin(self):
        self.sink.counts("XRESET")

    def end_to_end(self):
        counts = self.sink.counts()
        return {name: counts[name] / 1000 for name in ("p50", "p99", "max")}

    def stop(self):
        self.sink.stop()


class SmtpTools:
    name = "smtp-source"

    def __init__(self, bench):
        self.bench = bench
        self.sink = lab.SmtpSink(bench.room, count=True)
        self.port = self.sink.port

    def send(self, port, messages, _):
        return lab.smtp_source(self.bench.room, port, messages, 4096, SESSIONS), {}

    def messages(self):
        return self.sink.messages()

    def begin(self):
        pass

    def end_to_end(self):
        return {}

    def stop(self):
        self.sink.stop()


def relay_once(bench, relay, messages, kind):
    """{figure: value} of a relay with an empty queue."""
    tools = kind(bench)
    warm = messages // 4  # so that what each makes once, files and connections, is there
    try:
        lab.settle_disk(bench.room.directory)
        relay.start(bench.room, tools.port)
        tools.send(relay.port, warm, "warm")
        lab.wait_until(lambda: tools.messages() >= warm, SECONDS, f"{relay.title()} to deliver")
        tools.begin()
        used, begin = relay.cpu(), time.monotonic()
        accepted_s, waits = tools.send(relay.port, messages, "m")
        lab.wait_until(lambda: tools.messages() >= warm + messages, SECONDS, f"{relay.title()} to deliver")
        delivered_s = time.monotonic() - begin
        figures = {"accepted /s": messages / accepted_s, "delivered /s": messages / delivered_s,
                   "CPU per message us": (relay.cpu() - used) / messages * 1e6}
        figures |= {f"final dot to 250, {name} ms": value for name, value in waits.items()}
        return figures | {f"end to end, {name} ms": value for name, value in tools.end_to_end().items()}
    finally:
        relay.stop()
        tools.stop()


def run(bench, repeats, messages):
    """Turn by turn; those that need half a minute for one are left out of the last. A quick run is by the load tools only."""
    contestants = [(Ourselves(bench, "sync"), messages), (Ourselves(bench, "relaxed"), messages)]
    contestants += [(peer(), messages // peer.slower) for peer in peers.ALL]
    for relay, _ in contestants:
        relay.prepare()
    for kind in (LoadTools, SmtpTools) if repeats > 1 else (LoadTools,):
        figures = {relay.title(): [] for relay, _ in contestants}
        turns = repeats if kind is LoadTools else repeats - 1
        for turn in range(turns):
            for relay, count in contestants:
                if turn != 0 and turn >= turns - relay.turns_left_out:
                    continue
                try:
                    figures[relay.title()].append(relay_once(bench, relay, count, kind))
                except lab.Failed as error:
                    print(f"  {relay.title()}: {error}", flush=True)  # a fault in a peer is reported, never hidden
        for title, runs in figures.items():
            for figure in runs[0] if runs else ():
                what, _, unit = figure.rpartition(" ")
                bench.book.add("relays", f"relay of 4 KiB by {kind.name}, {title}: {what}", [one[figure] for one in runs], unit)
        compare(bench.book, kind, figures)
    return [relay.version() for relay, _ in contestants[2:]]


def compare(book, kind, figures):
    """Against Postfix's better setting, and the best of the others. What is promised is promised by the load tools, which leave
    the cores to the servers."""
    ours = figures["ringpost sync"]
    groups = {"Postfix's better setting": ["Postfix", "Postfix tuned"], "the best other server": ["Exim", "OpenSMTPD"]}
    for (name, members), (rate, share) in zip(groups.items(), ((30, 40), (10, 10))):
        known = [title for title in members if figures.get(title)]
        if not known or not ours:
            continue

        def best(figure, choose):
            return choose(statistics.median([run[figure] for run in figures[title]]) for title in known)
        delivered, used = best("delivered /s", max), best("CPU per message us", min)
        promised = kind is LoadTools
        book.add("relays", f"by {kind.name}: delivered/s to that of {name}", [run["delivered /s"] / delivered for run in ours], "x",
                 rate if promised else None, at_least=True)
        book.add("relays", f"by {kind.name}: CPU of {name} to ours", [used / run["CPU per message us"] for run in ours], "x",
                 share if promised else None, at_least=True)


def allowed():
    return os.geteuid() == 0
