"""Hosts that take their time: they keep neither the spool's segments nor a connection for as long as they like."""
import socket
import threading
import time

import pytest
from harness.client import send
from harness.load import LoadSink, load_source
from harness.server import wait_until
from harness.sink import Stall

SEGMENT = 16 << 20
MESSAGES, BYTES = 200, 100000  # more than a segment, in one load
BODY = "Subject: slow\r\nX-Filler: " + "x" * 900 + "\r\n\r\n" + "..a dot\r\nand a line that is not short\r\n" * 100
SLOW = [f"r{number}@slow.test" for number in range(3)]


@pytest.fixture
def server(make_server, sink):
    """Sends slow.test to `sink`, and all else to a host that takes it at once."""
    with LoadSink() as fast:
        def start(**delivery):
            routes = {"domain": "slow.test", "next_hop": sink.endpoint}, {"domain": "*", "next_hop": fast.endpoint}
            return make_server(routes=routes, delivery={"copy_after": "1s", **delivery}, shards={"count": 1},
                               spool={"segment_bytes": "16M", "spare_segments_max": 3})
        yield start


def slow_messages_in_several_segments(server, count):
    for number in range(count):
        send(server.port, f"a{number}@a.test", SLOW, BODY)
        delivered = server.metric("recipients_delivered_total")
        load_source(server.port, messages=MESSAGES, length=BYTES, sessions=10, prefix=f"m{number}-")
        wait_until(lambda: server.metric("recipients_delivered_total") >= delivered + MESSAGES, 60, "the load")


@pytest.mark.parametrize("phase", ["MAIL", "RCPT", "DATA", "."])
def test_a_host_that_does_not_answer_keeps_no_segment(server, sink, phase):
    stall = Stall(600)
    sink.on(phase, stall, times=5)
    held = server()
    slow_messages_in_several_segments(held, 5)
    wait_until(lambda: held.metric("delivery_copied_bytes") > 5 * (100 if phase == "." else len(BODY)), 20, "the copies")
    load_source(held.port, messages=MESSAGES, length=BYTES, sessions=10, prefix="last")
    wait_until(lambda: held.metric("spool_segments") <= 5, 20, lambda: f"{held.metric('spool_segments')} segments to go")
    stall.seconds = 0
    held.wait_queue_empty()
    assert held.metric("delivery_copied_bytes") == 0
    assert sorted(message.sender for message in sink.messages) == [f"a{number}@a.test" for number in range(5)]
    for message in sink.messages:
        assert message.content.endswith(BODY.encode()) and message.recipients == SLOW
    events = held.wait_events(lambda e: e["event"] == "delivery" and e["recipient"] in SLOW, 15)
    assert sorted((e["sender"], e["recipient"]) for e in events) == [(f"a{n}@a.test", to) for n in range(5) for to in SLOW]


def test_without_memory_for_copies_they_do(server, sink):
    """What the copies are for; and nothing else changes without them."""
    stall = Stall(600)
    sink.on(".", stall, times=5)
    held = server(copy_memory_max="0")
    slow_messages_in_several_segments(held, 5)
    time.sleep(1.5)
    assert held.metric("delivery_copied_bytes") == 0 and held.metric("spool_segments") > 7
    stall.seconds = 0
    held.wait_queue_empty()
    assert sorted(message.sender for message in sink.messages) == [f"a{number}@a.test" for number in range(5)]


def test_copies_have_a_bound(server, sink):
    stall = Stall(600)
    sink.on("DATA", stall, times=8)
    held = server(copy_memory_max="12K")
    for number in range(8):
        send(held.port, f"a{number}@a.test", SLOW, BODY)
    wait_until(lambda: held.metric("delivery_copied_bytes") > 2 * len(BODY), 20, "two copies")
    time.sleep(1.5)
    assert held.metric("delivery_copied_bytes") <= 12 << 10
    stall.seconds = 0
    held.wait_queue_empty()
    assert len(sink.messages) == 8 and held.metric("delivery_copied_bytes") == 0


@pytest.mark.parametrize("phase, copied", [("DATA", False), (".", True)])
def test_a_large_message_is_kept_until_it_is_sent(server, sink, phase, copied):
    """Then only its envelope is needed."""
    body = "Subject: large\r\n\r\n" + "a line of it\r\n" * 250000
    stall = Stall(600)
    sink.on(phase, stall, times=1)
    held = server()
    send(held.port, "a@a.test", SLOW, body)
    if copied:
        wait_until(lambda: held.metric("delivery_copied_bytes") >= 100, 20, "the copy")
    else:
        time.sleep(3)
    assert held.metric("delivery_copied_bytes") <= 4000 * copied
    stall.seconds = 0
    held.wait_queue_empty()
    assert sink.messages[0].content.endswith(body.encode()) and sink.messages[0].recipients == SLOW
    held.wait_events(lambda e: e["event"] == "delivery" and e["sender"] == "a@a.test" and e["recipient"] in SLOW, 3)


def test_a_host_that_reads_too_slowly_is_left(make_server):
    """Some octets every moment are progress, but not enough. The message is tried again later."""
    reader = SlowReader()
    routes = ({"domain": "*", "next_hop": f"127.0.0.1:{reader.port}"},)
    server = make_server(routes=routes, delivery={"body_rate_min": "10M", "timeouts": {"body": "1s"}})
    begin = time.monotonic()
    send(server.port, "a@a.test", ["b@b.test"], "Subject: long\r\n\r\n" + "a line of it\r\n" * 2000000)
    event = server.wait_events(lambda e: e["event"] == "deferral")[0]
    assert 3 < time.monotonic() - begin < 30
    assert event["status"].startswith("4.4.") and "time" in event["reply"]
    reader.close()


class SlowReader:
    """An SMTP server that reads at most 5 million octets a second of the body."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        self.listener.close()

    def _run(self):
        wire, _ = self.listener.accept()
        wire.sendall(b"220 slow\r\n")
        lines = wire.makefile("rb")
        for reply in (b"250 slow\r\n", b"250 fine\r\n", b"250 fine\r\n", b"354 go on\r\n"):
            lines.readline()
            wire.sendall(reply)
        try:
            while wire.recv(500000):
                time.sleep(0.1)
        except OSError:
            pass
