"""Clients that are many, slow, broken or hostile."""
import resource
import signal
import subprocess
import threading
import time

import pytest
from harness.client import Client, Closed, send, stuffed
from harness.load import LoadSink, tool
from harness.server import SANITIZED, wait_until
from harness.sink import Stall

BODY = "Subject: clients\r\n\r\nbody\r\n"
SLOW = 500 if SANITIZED else 5000


@pytest.fixture(scope="module", autouse=True)
def descriptors():
    """Thousands of connections need them on both sides; a machine whose hard limit is too low fails here, by name."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < SLOW + 500:
        pytest.skip(f"the hard limit of open files is {hard}; {SLOW + 500} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_slow_clients(make_server, tmp_path):
    """One byte at a time from each of 5,000 sessions, while ordinary mail flows as if they were not there."""
    with LoadSink(tmp_path / "sink.log") as sink:
        server = make_server(sink, listeners={"connections_per_address_max": 6000}, events={"path": ""})
        idle_rss = server.rss()
        slow = subprocess.Popen([tool("sessions"), "--to", f"127.0.0.1:{server.port}", "--count", str(SLOW), "--trickle", "50",
                                 "--sources", "50"], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: server.metric("sessions") >= SLOW, 60, "the slow sessions")
        latencies = []
        while slow.poll() is None:
            started = time.monotonic()
            send(server.port, "a@a.test", [f"fast{len(latencies)}@fast.test"], BODY)
            latencies.append(time.monotonic() - started)
            peak = server.rss()
            time.sleep(0.05)
        assert slow.communicate()[0].split() == [str(SLOW), "0"], "every slow message is accepted in the end"
        latencies.sort()
        print(f"{SLOW} slow clients; {len(latencies)} others: median {latencies[len(latencies) // 2] * 1e3:.1f} ms, "
              f"worst {latencies[-1] * 1e3:.1f} ms; {(peak - idle_rss) / SLOW / 1024:.1f} KiB per session")
        assert len(latencies) > 20
        assert latencies[len(latencies) // 2] < 0.5 and latencies[-1] < 8.0
        assert SANITIZED or peak - idle_rss < SLOW * 16384
        server.wait_queue_empty(60)
        arrived = sink.arrivals()
        assert {name for name in arrived if name.endswith("@slow.test")} == {f"slow{n}@slow.test" for n in range(SLOW)}
        assert len(arrived) == SLOW + len(latencies) and all(len(copies) == 1 for copies in arrived.values())


def test_slow_body_hits_the_deadline(make_server, sink):
    """Bytes that trickle in do not extend the time for a message."""
    server = make_server(sink, listeners={"timeouts": {"command": "5s", "data_block": "2s", "message": "3s"}})
    with Client(server.port) as client:
        client.hello()
        client.envelope("a@a.test", ["b@b.test"])
        started = time.monotonic()
        with pytest.raises((Closed, BrokenPipeError, ConnectionResetError)):
            while time.monotonic() - started < 10:
                client.send("x\r\n")
                time.sleep(0.1)
        assert 2.0 < time.monotonic() - started < 9.0
        assert client.reply() == "421 4.4.2"
    assert server.metric("messages_accepted_total") == 0 and sink.messages == []


def test_silence_in_a_body(make_server, sink):
    server = make_server(sink, listeners={"timeouts": {"data_block": "1s", "message": "1m"}})
    with Client(server.port) as client:
        client.hello()
        client.envelope("a@a.test", ["b@b.test"])
        client.send("half a mess")
        started = time.monotonic()
        assert client.reply() == "421 4.4.2"
        assert client.at_end() and 0.5 < time.monotonic() - started < 20
    assert sink.messages == []


@pytest.mark.parametrize("begun", ["", "EHLO x.test\r\n", "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\n", "EHL"])
def test_idle_client(make_server, sink, begun):
    server = make_server(sink, listeners={"timeouts": {"command": "1s"}})
    with Client(server.port) as client:
        client.send(begun)
        for _ in range(begun.count("\r\n")):
            assert client.reply() == 250
        started = time.monotonic()
        assert client.reply() == "421 4.4.2"
        assert client.at_end() and 0.5 < time.monotonic() - started < 20
    wait_until(lambda: server.metric("sessions") == 0, 5, "the session to end")


def test_command_in_drops_hits_the_deadline(make_server, sink):
    server = make_server(sink, listeners={"timeouts": {"command": "2s"}})
    with Client(server.port) as client:
        started = time.monotonic()
        with pytest.raises((Closed, BrokenPipeError, ConnectionResetError)):
            for octet in "NOOP " + "x" * 200:
                client.send(octet)
                time.sleep(0.1)
        assert 1.0 < time.monotonic() - started < 15


def test_session_ends_between_transactions_after_its_time(make_server, sink):
    server = make_server(sink, listeners={"timeouts": {"session": "1s"}})
    with Client(server.port) as client:
        client.hello()
        client.message("a@a.test", "b@b.test", BODY)
        time.sleep(1.2)
        reply = client.command("MAIL FROM:<a@a.test>")
        assert reply.code == 421, reply
        assert client.at_end()
    assert len(sink.wait(1)) == 1


def test_connections_in_total(make_server, sink):
    server = make_server(sink, limits={"connections_max": 8})
    clients = [Client(server.port) for _ in range(8)]
    for _ in range(3):
        with Client(server.port) as late:
            assert late.greeting == "421 4.3.2"
            assert late.at_end()
    assert server.metric("sessions") == 8 and server.metric("connections_refused_total") == 3
    clients[0].hello()
    clients[0].message("a@a.test", "b@b.test", BODY)
    for client in clients[:4]:
        client.close()
    wait_until(lambda: server.metric("sessions") == 4, 5, "the end of four sessions")
    for client in [Client(server.port) for _ in range(4)]:
        assert client.greeting == 220
        client.close()
    sink.wait(1)


def test_connections_per_address(make_server, sink):
    server = make_server(sink, shards={"count": 3}, listeners={"connections_per_address_max": 3})
    clients = [Client(server.port, source="127.0.0.2") for _ in range(3)]
    with Client(server.port, source="127.0.0.2") as late:
        assert late.greeting.code == 421 and late.at_end()
    with Client(server.port, source="127.0.0.3") as other:
        assert other.greeting == 220
    clients.pop().close()
    wait_until(lambda: server.metric("sessions") == 2, 5, "the end of a session")
    with Client(server.port, source="127.0.0.2") as again:
        assert again.greeting == 220
    for client in clients:
        client.close()


def test_connections_of_a_listener(make_server, sink):
    server = make_server(sink, listeners={"connections_max": 2})
    clients = [Client(server.port) for _ in range(2)]
    with Client(server.port) as late:
        assert late.greeting.code == 421
    for client in clients:
        client.close()


def test_few_descriptors(make_server, sink):
    """More connections than descriptors: those that are in go on, the others wait or are refused, nothing breaks."""
    server = make_server(sink, start=False)
    server.settings["limits"] = {"connections_max": 20000}
    try:
        server.start(limit_files=150)
    except AssertionError:
        # A server that says at the start that its limits do not fit its descriptors is right too.
        assert "descriptor" in server.log() or "NOFILE" in server.log() or "open files" in server.log()
        return
    clients = [Client(server.port)]
    for _ in range(200):
        try:
            clients.append(Client(server.port, timeout=0.2, greeting=False))
        except OSError:
            break
    time.sleep(0.5)
    clients[0].hello()
    # A segment of the spool needs a descriptor too: "not now" is an answer, "kept" must be true.
    kept = []
    if clients[0].command("MAIL FROM:<a@a.test>") == 250:
        assert clients[0].command("RCPT TO:<first@b.test>") == 250 and clients[0].command("DATA") == 354
        clients[0].send(stuffed(BODY))
        kept = ["first@b.test"] if clients[0].reply() == 250 else []
    for client in clients:
        client.close()
    wait_until(lambda: server.metric("sessions") == 0, 20, "the end of the crowd")
    wait_until(lambda: server.get("/readyz")[0] == 200, 30, lambda: "intake again\n" + server.log_tail())
    send(server.port, "a@a.test", ["last@b.test"], BODY)
    wait_until(lambda: sorted(sink.recipients()) == sorted([*kept, "last@b.test"]), 20, "the mail")


def test_errors_end_the_session(make_server, sink):
    server = make_server(sink, listeners={"errors_max": 5})
    with Client(server.port) as client:
        codes = [client.command("WHAT").code for _ in range(5)]
        assert codes[:4] == [500] * 4 and codes[4] in (421, 500)
        if codes[4] == 500:
            assert client.reply().code == 421
        assert client.at_end()


@pytest.mark.parametrize("first", ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "CONNECT x:25 HTTP/1.1\r\n\r\n",
                                   b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, b"\0" * 10 + b"\r\n"],
                         ids=["GET", "POST", "CONNECT", "TLS", "NUL"])
def test_other_protocols_are_cut_off(server, first):
    with Client(server.port) as client:
        client.send(first)
        wait_until(lambda: server.metric("sessions") == 0 or client.at_end(1), 10, "the end of the session")


def test_reset_in_every_phase(server, sink):
    steps = ["", "EHLO x.test\r\n", "MAIL FROM:<a@a.test>\r\n", "RCPT TO:<b@b.test>\r\n", "DATA\r\n", "half\r\n"]
    for count in range(len(steps) + 1):
        for _ in range(10):
            client = Client(server.port)
            client.send("".join(steps[:count]))
            client.reset()
    client = Client(server.port)
    client.send("EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n")
    for _ in range(4):
        client.reply()
    client.send(stuffed(BODY))
    client.reset()  # before the reply: the message may be kept or not, but the server stands
    wait_until(lambda: server.metric("sessions") == 0, 5, "the sessions to end")
    send(server.port, "a@a.test", ["after@b.test"], BODY)
    wait_until(lambda: "after@b.test" in sink.recipients(), 10, "a message after it")
    server.wait_queue_empty()


def test_client_that_never_reads(make_server, sink):
    """Millions of commands, no reply read: the server stops reading, and its memory stays as it was."""
    server = make_server(sink)
    warm = Client(server.port)
    before = server.rss()
    client = Client(server.port)
    client.socket.settimeout(1)
    sent = 0
    try:
        for _ in range(20000):
            sent += client.socket.send(b"NOOP\r\n" * 1000)
    except TimeoutError:
        pass
    assert sent < 100 * 1024 * 1024, "back-pressure reaches the client"
    assert server.rss() - before < 4 << 20
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    client.close()
    warm.close()


def test_endless_recipients(make_server, sink):
    server = make_server(sink, listeners={"recipients_max": 1000})
    before = server.rss()
    with Client(server.port) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test>") == 250
        codes = {}
        for batch in range(50):
            client.send("".join(f"RCPT TO:<u{batch}.{n}@b.test>\r\n" for n in range(1000)))
            for _ in range(1000):
                try:
                    code = client.reply().code
                except (Closed, ConnectionError):
                    code = None
                codes[code] = codes.get(code, 0) + 1
                if code in (None, 421):
                    break
            else:
                continue
            break
    assert codes[250] == 1000 and codes.get(452, 0) > 0
    assert set(codes) <= {250, 452, 421, None}
    assert server.rss() - before < 4 << 20


@pytest.mark.parametrize("where", ["idle", "in a transaction"])
def test_stop_says_421(make_server, sink, where):
    server = make_server(sink)
    client = Client(server.port)
    client.hello()
    if where != "idle":
        assert client.command("MAIL FROM:<a@a.test>") == 250
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    reply = client.reply()
    stopper.join()
    assert reply == "421 4.3.2" and client.at_end()
    with pytest.raises(OSError):
        Client(server.port)


def test_stop_lets_a_transaction_finish(make_server, sink):
    server = make_server(sink, stop_timeout="10s")
    client = Client(server.port)
    client.hello()
    client.envelope("a@a.test", ["b@b.test"])
    client.send("Subject: x\r\n\r\nfirst half\r\n")
    time.sleep(0.1)
    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    client.send("second half\r\n.\r\n")
    assert client.reply() == 250, "in the middle of a message is no moment to be sent away"
    assert client.reply() == "421 4.3.2"
    assert server.process.wait(10) == 0
    server.process = None
    server.start()
    server.wait_queue_empty()
    assert len(sink.messages) == 1 and sink.messages[0].content.endswith(b"first half\r\nsecond half\r\n")


def test_stop_waits_for_the_remote_reply(make_server, sink):
    server = make_server(sink, stop_timeout="10s")
    sink.on(".", Stall(1.5))
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    wait_until(lambda: sink.seen, 10, "the message at the sink")
    server.stop()
    assert len(sink.messages) == 1
    server.start()
    server.wait_queue_empty()
    time.sleep(0.3)
    assert len(sink.messages) == 1, "its delivery was recorded before the end"


def test_second_signal_stops_at_once(make_server, sink):
    server = make_server(sink, stop_timeout="1m")
    client = Client(server.port)
    client.hello()
    client.envelope("a@a.test", ["b@b.test"])
    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert server.process.poll() is None
    started = time.monotonic()
    server.send_signal(signal.SIGTERM)
    server.process.wait(30)
    server.process = None
    assert time.monotonic() - started < 20, "a minute, had it waited"
