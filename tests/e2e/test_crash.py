"""kill -9 under load, again and again on one spool: what was answered with 250 is delivered, what was not finished never is.

SEED=n repeats a run's choices (the moments still depend on the machine); ROUNDS=n makes it longer.
"""
import os
import random
import re
import signal
import subprocess
import time

import pytest
from harness.client import Client, send, stuffed
from harness.load import LoadSink, SourceRun, load_source, source_words
from harness.server import MAY_LEAK, SANITIZED, Ringpost, wait_until

ROUNDS = int(os.environ.get("ROUNDS", "24"))
SHARDS = ({"count": 1}, {"count": 2}, {"count": 2}, {"count": 3}, {"inbound": 1, "delivery": 2}, {"inbound": 2, "delivery": 1})
BODY = "Subject: crash\r\n\r\nbody\r\n"


@pytest.fixture
def seed():
    value = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"SEED={value}")
    return value


class Ledger:
    """Every message ever sent, over all rounds, and what its sender knows."""

    def __init__(self):
        self.fates = {letter: {} for letter in "ARUN"}

    def add(self, number, run):
        for letter, messages in run.fates.items():
            for message, facts in messages.items():
                self.fates[letter][f"r{number}m{message}"] = facts

    def judge(self, arrivals):
        """Returns the number of duplicates."""
        arrived = {}
        for recipient, copies in arrivals.items():
            arrived[re.match(r"(r\d+m\d+)\.0@", recipient).group(1)] = copies
        lost = sorted(set(self.fates["A"]) - set(arrived))
        assert not lost, f"{len(lost)} of {len(self.fates['A'])} acknowledged messages are lost: {lost[:20]}"
        invented = sorted((set(self.fates["N"]) | set(self.fates["R"])) & set(arrived))
        assert not invented, f"{len(invented)} messages arrived that were never accepted: {invented[:20]}"
        unknown = set(arrived) - set(self.fates["A"]) - set(self.fates["U"])
        assert not unknown, f"nobody sent these: {sorted(unknown)[:20]}"
        for name, copies in arrived.items():
            if name in self.fates["A"]:
                assert set(copies) == {self.fates["A"][name]}, f"{name} arrived changed"
        return sum(len(copies) - 1 for copies in arrived.values())


def crash_under_load(server, number, choose, log):
    """One round: load, a random wait, kill."""
    options = {"sessions": choose.choice((5, 20, 50)), "messages": 20000, "length": choose.choice((200, 2000, 4096, 40000)),
               "domains": choose.choice((1, 7)), "prefix": f"r{number}m", "plain": choose.random() < 0.3}
    source = subprocess.Popen(source_words(server.port, log, **options), stdout=subprocess.PIPE, text=True)
    time.sleep(choose.uniform(0.02, 0.6))
    server.kill()
    output = source.communicate(timeout=20)[0]
    return SourceRun(output, log)


def test_kill_under_load(make_server, tmp_path, seed):
    """d0.test is slow, so that much of what was acknowledged outlives several crashes; the other domains are fast."""
    choose = random.Random(seed)
    ledger = Ledger()
    slow_log, fast_log = tmp_path / "slow.log", tmp_path / "fast.log"
    with LoadSink(slow_log, delay_ms=200) as slow, LoadSink(fast_log, delay_ms=choose.choice((0, 5))) as fast:
        server = make_server(start=False, events={"path": ""}, delivery={"connections_per_destination_max": 10}, routes=(
            {"domain": "d0.test", "next_hop": slow.endpoint}, {"domain": "*", "next_hop": fast.endpoint}))
        for number in range(ROUNDS):
            server.settings["shards"] = {"pin": False, **choose.choice(SHARDS)}
            server.start()
            ledger.add(number, crash_under_load(server, number, choose, tmp_path / "source.log"))
            for _ in range(choose.choice((0, 0, 1, 2))):  # and while it is reading its spool
                server.start(wait=False)
                time.sleep(choose.uniform(0, 0.3))
                server.kill()
        server.settings["shards"] = {"pin": False, "count": 2}
        server.start()
        waiting = server.queued()[1]
        slow.close()
        with LoadSink(slow_log, port=slow.port) as quick:
            server.wait_queue_empty(240)
            duplicates = ledger.judge({**fast.arrivals(), **quick.arrivals()})
            accepted = len(ledger.fates["A"])
            print(f"{ROUNDS} kills, {accepted} acknowledged, {waiting:.0f} of them still there after the last one, "
                  f"{len(ledger.fates['U'])} unknown, {duplicates} duplicates")
            assert accepted > 100 * ROUNDS and waiting > 10 * ROUNDS
            # Each kill repeats what was delivered but not yet written down: about what is in flight, never all of it.
            assert duplicates < accepted / 4
            server.restart()
            server.wait_queue_empty()
            again = ledger.judge({**fast.arrivals(), **quick.arrivals()})
            assert again == duplicates, "a settled queue delivers nothing again"
            assert server.metric("spool_quarantined_records_total") == 0


def test_starts_stay_fast(make_server, tmp_path):
    """A queue that grew over many lives of the server is read like one that grew in a single life."""
    server = make_server(start=False, events={"path": ""})
    for number in range(8):
        server.start()
        load_source(server.port, messages=10000, sessions=50, length=1000, prefix=f"r{number}m")
        server.stop() if number % 2 else server.kill()
    started = time.monotonic()
    server.start()
    seconds = time.monotonic() - started
    print(f"80,000 messages, {seconds:.2f} s")
    wait_until(lambda: server.queued() == (80000, 80000), 10, lambda: f"all of the queue, there is {server.queued()}")
    assert seconds < (15 if SANITIZED else 3), "a tenth of it on an idle machine"


def test_the_judge_would_see_a_loss():
    ledger = Ledger()
    ledger.fates["A"] = {"r0m1": (10, "aa"), "r0m2": (10, "bb")}
    ledger.fates["N"] = {"r0m3": None}
    arrived = {"r0m1.0@d0.test": [(10, "aa"), (10, "aa")], "r0m2.0@d0.test": [(10, "bb")]}
    assert ledger.judge(arrived) == 1
    for wrong in ({"r0m1.0@d0.test": [(10, "aa")]}, {**arrived, "r0m3.0@d0.test": [(1, "cc")]},
                  {**arrived, "r0m2.0@d0.test": [(10, "cc")]}, {**arrived, "r0m4.0@d0.test": [(1, "cc")]}):
        with pytest.raises(AssertionError):
            ledger.judge(wrong)


@pytest.mark.parametrize("delay_ms", [0, 20])
def test_graceful_stops_under_load_repeat_nothing(make_server, tmp_path, delay_ms):
    """SIGTERM instead: every message exactly once, and each in the order of things ends with status 0."""
    ledger = Ledger()
    with LoadSink(tmp_path / "sink.log", delay_ms=delay_ms) as sink:
        server = make_server(sink, start=False, events={"path": ""})
        for number in range(4):
            server.start(shards={"count": 1 + number % 3, "pin": False})
            words = source_words(server.port, tmp_path / "source.log", sessions=20, messages=1000000, prefix=f"r{number}m")
            source = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            time.sleep(0.1 if delay_ms else 0.4)
            wait_until(lambda: server.metric("messages_accepted_total") > 100, 20, "a load that is under way")
            server.stop()
            ledger.add(number, SourceRun(source.communicate(timeout=20)[0], tmp_path / "source.log"))
        server.start()
        server.wait_queue_empty(240)
        assert len(ledger.fates["A"]) > 400
        assert ledger.fates["U"] == {}, "a final dot that was taken in is answered before the end"
        assert ledger.judge(sink.arrivals()) == 0


def test_queue_survives_with_its_history(make_server, sink):
    """Attempts and times of the next one, after a stop, a crash, and with another number of shards."""
    server = make_server(sink, retry={"schedule": ("1s", "1h"), "jitter_percent": 0})
    sink.on("RCPT", "451 4.2.1 greylisted")
    for number in range(10):
        send(server.port, f"s{number}@a.test", [f"u{number}@d{number % 3}.test"], BODY)

    def listing():
        found = server.control("GET", "/queue/messages")[1]["recipients"]
        return sorted((r["id"], r["sender"], r["recipient"], r["bytes"], r["state"], r["attempts"], r["last_error"])
                      for r in found)

    wait_until(lambda: len(listing()) == 10 and all(r[5] == 2 for r in listing()), 20, lambda: f"2 attempts: {listing()}")
    before = listing()
    time.sleep(0.5)
    attempts = len(sink.sessions)
    for end in server.stop, server.kill, server.stop:
        end()
        server.start(shards={"count": {2: 1, 1: 3, 3: 2}[server.settings["shards"]["count"]], "pin": False})
        wait_until(lambda: listing() == before, 5, lambda: f"{before}\nbut there is\n{listing()}")
        waits = [r["next_attempt_in_seconds"] for r in server.control("GET", "/queue/messages")[1]["recipients"]]
        assert all(3500 < wait <= 3600 for wait in waits), waits
    time.sleep(0.5)
    assert len(sink.sessions) == attempts, "a restart is no reason to try earlier"
    sink.heal()
    assert server.control("POST", "/queue/retry", body={"all": True}) == (200, {"matched": 10})
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == sorted(f"u{n}@d{n % 3}.test" for n in range(10))


def test_failed_mail_is_not_bounced_twice(make_server, sink):
    """The notification and the outcome that caused it survive together."""
    server = make_server(sink)
    sink.on("RCPT", "550 5.1.1 unknown", match="bad")
    for number in range(20):
        send(server.port, f"s{number}@a.test", [f"bad{number}@b.test"], BODY)
    wait_until(lambda: len(sink.messages) >= 20, 20, "20 notifications")
    server.wait_queue_empty()
    server.kill()
    server.start()
    server.wait_queue_empty()
    server.restart()
    server.wait_queue_empty()
    assert sorted(r for m in sink.messages for r in m.recipients) == sorted(f"s{n}@a.test" for n in range(20))


def test_large_messages_and_crashes(make_server, tmp_path, seed):
    """Messages in many pieces: a body whose last piece was not committed is not there."""
    choose = random.Random(seed)
    ledger = Ledger()
    with LoadSink(tmp_path / "sink.log") as sink:
        server = make_server(sink, start=False, events={"path": ""})
        for number in range(6):
            server.start()
            words = source_words(server.port, tmp_path / "source.log", sessions=6, messages=100000, length=1500000,
                                 prefix=f"r{number}m")
            source = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            time.sleep(choose.uniform(0.2, 0.9))
            server.kill()
            ledger.add(number, SourceRun(source.communicate(timeout=20)[0], tmp_path / "source.log"))
        server.start()
        server.wait_queue_empty(60)
        ledger.judge(sink.arrivals())
        assert len(ledger.fates["A"]) > 20


def test_second_server_on_one_spool_is_refused(make_server, sink):
    first = make_server(sink)
    second = make_server(sink, start=False, environment=MAY_LEAK)
    second.settings["spool"] = first.settings["spool"]
    second.write_config()
    second.start(wait=False)
    assert second.process.wait(10) != 0
    second.process = None
    assert "spool" in second.log()
    send(first.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)


def test_unanswered_message_at_the_end_of_the_stop_timeout(make_server, sink):
    """A client that sends for ever does not keep the server from stopping; nothing of it is delivered."""
    server = make_server(sink, stop_timeout="1s")
    client = Client(server.port)
    client.hello()
    client.envelope("a@a.test", ["b@b.test"])
    client.send(stuffed(BODY)[:-3])
    started = time.monotonic()
    server.stop(signal.SIGTERM, 30)
    assert time.monotonic() - started < 20, "it sends for ever"
    server.start()
    server.wait_queue_empty()
    assert sink.messages == []


def test_load_source_reaches_a_restarted_server(make_server, tmp_path):
    with LoadSink(tmp_path / "sink.log") as sink:
        server = make_server(sink)
        assert isinstance(server, Ringpost)
        load_source(server.port, messages=2000, sessions=20)
        server.restart()
        load_source(server.port, messages=2000, sessions=20, prefix="again")
        server.wait_queue_empty()
        assert sink.counts()[1] == 4000
