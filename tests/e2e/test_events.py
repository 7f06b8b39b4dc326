"""The event log: what happened to each message, one JSON object per line, in files that rotate."""
import os
import re

from harness.client import Client, send
from harness.load import LoadSink, load_source
from harness.server import wait_until

BODY = "Subject: events\r\n\r\nbody\r\n"
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
KEYS = {
    "reception": ["event", "time", "shard", "id", "listener", "client", "sender", "recipients", "bytes", "durability",
                  "tls", "user", "priority"],
    "delivery": ["event", "time", "shard", "id", "sender", "recipient", "host", "code", "status", "reply", "attempts",
                 "queued_ms"],
}
KEYS["filter"] = ["event", "time", "shard", "id", "listener", "client", "sender", "recipients", "bytes", "milter", "action",
                  "reply", "user"]
KEYS["removal"] = KEYS["delivery"]
KEYS["deferral"] = [*KEYS["removal"], "next_attempt"]
KEYS["bounce"] = KEYS["expiry"] = [*KEYS["removal"], "notice"]
KEYS["delivery"] = [*KEYS["removal"], "tls"]
REJECTION = {"event", "time", "shard", "id", "listener", "client", "sender", "phase", "recipient", "code", "status", "reply",
             "user"}


def check(event):
    kind = event["event"]
    if kind == "rejection":
        assert set(event) == REJECTION
    else:
        assert list(event) == KEYS[kind], event
        assert re.fullmatch(r"[0-9a-f]{16}", event["id"])
    assert TIME.match(event["time"]) and isinstance(event["shard"], int)


def test_life_of_a_message(make_server, sink, make_sink):
    home = make_sink()
    server = make_server(routes=({"domain": "home.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": sink.endpoint}))
    sink.on("RCPT", "451 4.2.1 later", match="<late@", times=2)
    sink.on("RCPT", "550 5.1.1 no such user", match="<bad@")
    send(server.port, "s@home.test", ["good@b.test", "late@b.test", "bad@b.test"], BODY)
    server.wait_queue_empty()
    events = server.wait_events(lambda e: True, 7)  # a notification has no reception
    for event in events:
        check(event)
    reception = next(e for e in events if e["event"] == "reception")
    assert (reception["listener"], reception["client"], reception["sender"]) == ("in", "127.0.0.1", "s@home.test")
    assert (reception["recipients"], reception["durability"]) == (3, "sync")
    assert reception["bytes"] >= len(BODY)

    def history(recipient):
        mine = sorted((e for e in events if e.get("recipient") == recipient), key=lambda e: e["time"])
        assert {e["id"] for e in mine} == {reception["id"]}
        return [(e["event"], e["code"], e["status"], e["attempts"]) for e in mine]

    assert history("good@b.test") == [("delivery", 250, "2.0.0", 1)]
    assert history("bad@b.test") == [("bounce", 550, "5.1.1", 1)]
    assert history("late@b.test") == [("deferral", 451, "4.2.1", 1), ("deferral", 451, "4.2.1", 2), ("delivery", 250, "2.0.0", 3)]
    bounce = next(e for e in events if e["event"] == "bounce")
    assert bounce["reply"] == "5.1.1 no such user" and "127.0.0.1" in bounce["host"]
    notice = [e for e in events if e["id"] == bounce["notice"]]
    assert [(e["event"], e["recipient"]) for e in notice] == [("delivery", "s@home.test")]


def test_rejections(make_server, sink):
    server = make_server(sink, listeners={"relay_networks": ("127.0.0.0/16",)})
    with Client(server.port) as client:
        client.hello()
        client.message("a@a.test", "b@b.test", "bare\nLF", code=None)
    with Client(server.port, source="127.7.7.7") as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test>") == 250
        assert client.command("RCPT TO:<b@b.test>") == 550
    events = server.wait_events(lambda e: e["event"] == "rejection", 2)
    for event in events:
        check(event)
    by_phase = {e["phase"]: e for e in events}
    assert set(by_phase) == {"dot", "rcpt"}
    assert (by_phase["dot"]["code"], by_phase["dot"]["status"]) == (550, "5.6.11")
    assert {e["sender"] for e in events} == {"a@a.test"}
    assert (by_phase["rcpt"]["recipient"], by_phase["rcpt"]["client"]) == ("b@b.test", "127.7.7.7")


def test_strange_addresses_stay_inside_their_line(make_server, sink):
    server = make_server(sink)
    sink.on("RCPT", '550 5.1.1 "quoted" \\ back\tslash')
    sender = '"a\\"\\\\ b"@a.test'
    with Client(server.port) as client:
        client.hello()
        client.message(sender, '"{\\"event\\": 1}"@b.test', BODY)
    bounce = server.wait_events(lambda e: e["event"] == "bounce")[0]
    check(bounce)
    assert bounce["sender"] == sender and bounce["recipient"] == '"{\\"event\\": 1}"@b.test'
    assert '"quoted" \\ back' in bounce["reply"]


def test_every_message_has_its_events(make_server, tmp_path):
    """Under load, with rotation: no line is missing, cut or mixed up, and old files go."""
    with LoadSink(tmp_path / "sink.log") as sink:
        server = make_server(sink, events={"rotate_bytes": "1M", "keep_files": 20})
        load_source(server.port, messages=5000, sessions=20, recipients=2, length=300)
        server.wait_queue_empty()
        wait_until(lambda: server.metric("events_written_total") == 15000, 10,
                   lambda: f"15000 events; written: {server.metric('events_written_total')}, "
                           f"lost: {server.metric('events_lost_total')}")
        server.stop()
        events = server.events()
        receptions = [e["id"] for e in events if e["event"] == "reception"]
        deliveries = [(e["id"], e["recipient"]) for e in events if e["event"] == "delivery"]
        assert len(receptions) == len(set(receptions)) == 5000
        assert len(deliveries) == len(set(deliveries)) == 10000
        assert {identity for identity, _ in deliveries} == set(receptions)
        files = os.listdir(server.settings["events"]["path"])
        assert len(files) >= 4
        sizes = [os.path.getsize(os.path.join(server.settings["events"]["path"], name)) for name in files]
        assert max(sizes) < 1.5 * (1 << 20)


def test_retention(make_server, tmp_path):
    with LoadSink(tmp_path / "sink.log") as sink:
        server = make_server(sink, shards={"count": 1}, events={"rotate_bytes": "1M", "keep_files": 2})
        load_source(server.port, messages=10000, sessions=20, length=200)
        server.wait_queue_empty()
        wait_until(lambda: server.metric("events_written_total") == 20000, 5, "20000 events")
        server.stop()
        assert sorted(os.listdir(server.settings["events"]["path"])) == [
            "events-0.jsonl", "events-0.jsonl.1", "events-0.jsonl.2"]


def test_chosen_types_only(make_server, sink):
    server = make_server(sink, events={"types": ("bounce",)})
    sink.on("RCPT", "550 5.1.1 no", match="<bad@")
    send(server.port, "a@a.test", ["good@b.test", "bad@b.test"], BODY)
    server.wait_events(lambda e: e["event"] == "bounce")
    server.wait_queue_empty()
    server.stop()
    assert [e["event"] for e in server.events()] == ["bounce"]


def test_no_event_log(make_server, sink):
    server = make_server(sink, events={"path": ""})
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    server.wait_queue_empty()
    assert server.metric("events_lost_total") == 0
