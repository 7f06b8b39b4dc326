"""The spool's files as they are at one instant, again and again under load, each time with a second server on the copy.

The server is stopped as a whole (SIGSTOP), the files are copied, it goes on: the copy is what a crash at that instant
leaves. What was answered with 250 before it was delivered before it, or is delivered by the server on the copy; and what
that one delivers was sent, unchanged. The first server then runs to its end, and must not have noticed.

SEED=n repeats a run's choices (the moments still depend on the machine); CUTS=n makes it longer.
"""
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from harness.load import LoadSink, SourceRun, source_words
from harness.server import wait_until

CUTS = int(os.environ.get("CUTS", "6"))


def states(pid):
    result = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as file:
                result.add(file.read().rpartition(")")[2].split()[0])
        except OSError:
            pass
    return result


def freeze(server):
    """Stops every thread, the kernel's workers among them."""
    server.send_signal(signal.SIGSTOP)
    wait_until(lambda: states(server.process.pid) <= {"T", "t"}, 10, lambda: f"all threads to stop: {states(server.process.pid)}")


def settled_lines(path, quiet=0.05):
    """The lines of a file that has stopped growing: what was under way between the processes has arrived."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < quiet:
        if os.path.getsize(path) != size:
            size, since = os.path.getsize(path), time.monotonic()
        time.sleep(0.005)
    with open(path, encoding="ascii") as file:
        return file.read().splitlines()


def acknowledged(log, number):
    """{name: (bytes, hash)} of what its sender knows to be accepted."""
    return {f"r{number}m{words[1]}": (int(words[2]), words[3]) for words in map(str.split, settled_lines(log)) if words[0] == "A"}


def named(arrivals):
    """By message instead of by recipient; the load has one recipient each."""
    return {re.match(r"(r\d+m\d+)\.0@", recipient).group(1): copies for recipient, copies in arrivals.items()}


class Cuts:
    def __init__(self, server, sink, choose, make_server, directory):
        self.server, self.sink, self.choose = server, sink, choose
        self.make_server, self.directory = make_server, directory
        self.known = {}       # all that was ever acknowledged
        self.waited = 0       # messages that the second servers delivered
        self.duplicates = 0   # of them, delivered by the first server as well

    def load(self, number):
        """One source, one to three cuts while it runs."""
        log = self.directory / f"source{number}.log"
        words = source_words(self.server.port, log, sessions=self.choose.choice((5, 20, 50)), messages=30000,
                             length=self.choose.choice((200, 2000, 4096, 40000, 400000)), domains=7, prefix=f"r{number}m",
                             plain=self.choose.random() < 0.3)
        source = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            for cut in range(self.choose.choice((1, 2, 3))):
                time.sleep(self.choose.uniform(0.02, 0.5))
                self.cut(number, cut, log)
        finally:
            source.terminate()
            source.wait()
        # What was under way when the source ended may have been accepted, or not.
        self.known.update(acknowledged(log, number))

    def cut(self, number, cut, log):
        copy = self.directory / f"copy{number}.{cut}"
        freeze(self.server)
        try:
            safe = {**self.known, **acknowledged(log, number)}
            before = named(self.sink.arrivals())
            shutil.copytree(self.server.settings["spool"]["path"], copy / "spool")
        finally:
            self.server.send_signal(signal.SIGCONT)
        after = self.second(copy)
        lost = sorted(set(safe) - set(before) - set(after))
        assert not lost, f"{len(lost)} of {len(safe)} acknowledged messages are not in the copy: {lost[:20]}"
        changed = [name for name in set(after) & set(safe) if set(after[name]) != {safe[name]}]
        assert not changed, f"{changed[:20]} arrived changed"
        self.waited += len(after)
        self.duplicates += len(set(after) & set(before))
        shutil.rmtree(copy)

    def second(self, copy):
        log = copy / "sink.log"
        with LoadSink(log) as sink:
            server = self.make_server(sink, start=False, events={"path": ""}, spool={"path": str(copy / "spool")},
                                      shards={"count": self.choose.choice((1, 2, 3)), "pin": False})
            server.start()
            server.wait_queue_empty(60)
            assert server.metric("spool_quarantined_records_total") == 0
            server.stop()
            return named(sink.arrivals())


def test_cut_copies(make_server, tmp_path):
    seed = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"SEED={seed}")
    choose = random.Random(seed)
    log = tmp_path / "sink.log"
    with LoadSink(log, delay_ms=choose.choice((20, 100))) as slow:
        server = make_server(slow, events={"path": ""}, limits={"queued_recipients_max": 4000},
                             delivery={"connections_per_destination_max": choose.choice((5, 20))})
        cuts = Cuts(server, slow, choose, make_server, tmp_path)
        for number in range(CUTS):
            cuts.load(number)
        server.kill()
        slow.close()
        with LoadSink(log, port=slow.port) as quick:
            server.start()
            server.wait_queue_empty(60)
            arrived = named(quick.arrivals())
        assert not set(cuts.known) - set(arrived), "the server that was copied lost mail"
    print(f"{len(cuts.known)} acknowledged; the servers on the copies delivered {cuts.waited}, {cuts.duplicates} of them again")
    assert len(cuts.known) > 20 * CUTS and cuts.waited > 20 * CUTS
    assert cuts.duplicates < cuts.waited / 4
