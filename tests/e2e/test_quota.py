"""Quotas of Maildirs: at RCPT, at the delivery, and together with a reader who takes messages out."""
import os
import signal
import time

import pytest
from harness.client import Client, send
from harness.maildir import Maildirs
from harness.report import Report
from harness.server import wait_until

BODY = "Subject: x\r\n\r\n" + "y" * 70 + "\r\n"
BIG = "Subject: x\r\n\r\n" + ("z" * 78 + "\r\n") * 50


def own_with(make_server, sink, tmp_path, retry=None, expire="4d", listeners=None, **keys):
    maildirs = Maildirs(tmp_path, aliases="both: anna, ben\n", **keys)
    server = make_server(sink, domains=(maildirs.settings,), retry={"schedule": (retry or "1h",), "expire": expire},
                         listeners={"error_delay": 0, **(listeners or {})})
    server.maildirs = maildirs
    return server


def usage(server, user):
    """What maildirsize says: (quota, octets, messages)."""
    with open(server.maildirs.path(user, "maildirsize"), encoding="ascii") as file:
        quota, *lines = file.read().splitlines()
    return quota, *(sum(int(line.split()[part]) for line in lines) for part in (0, 1))


def really(server, user):
    sizes = [os.path.getsize(path) for path in server.maildirs.files(user)]
    return sum(sizes), len(sizes)


def rcpt(server, recipient, size=None):
    with Client(server.port) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test>" + (f" SIZE={size}" if size else "")) == 250
        return client.command(f"RCPT TO:<{recipient}>")


def test_the_file_is_kept(make_server, sink, tmp_path):
    """As other programs write it: each delivery is a line, and the sum is what is there."""
    server = own_with(make_server, sink, tmp_path, quota="1M", quota_messages=1000)
    for count in range(1, 6):
        send(server.port, "a@a.test", ["anna@own.test", "Ben+x@own.test"], BODY)
        server.maildirs.wait("anna", count)
        server.wait_queue_empty()
    for user in ("anna", "ben"):
        send(server.port, "a@a.test", [f"{user}@own.test"], BIG)
        server.wait_queue_empty()
        assert usage(server, user) == ("1048576S,1000C", *really(server, user))
        assert really(server, user)[1] == 6


@pytest.mark.parametrize("over, reply", [("defer", "452 4.2.2"), ("refuse", "552 5.2.2")])
def test_at_rcpt(make_server, sink, tmp_path, over, reply):
    server = own_with(make_server, sink, tmp_path, quota=3000, over_quota=over)
    assert rcpt(server, "anna@own.test") == 250
    assert rcpt(server, "anna@own.test", 3000) == 250
    assert rcpt(server, "anna@own.test", 3001) == reply
    for _ in range(8):
        send(server.port, "a@a.test", ["anna@own.test"], BODY)
        server.wait_queue_empty()
        if really(server, "anna")[0] > 2000:
            break
    left = 3000 - really(server, "anna")[0]
    assert rcpt(server, "anna@own.test", left) == 250
    assert rcpt(server, "ANNA+x@own.test", left + 1) == reply
    assert rcpt(server, "ben@own.test", 3000) == 250, "each mailbox has its own"
    assert rcpt(server, "b@b.test", 10000) == 250
    assert rcpt(server, "both@own.test", 3000) == 250, "an alias may have room elsewhere"
    event = server.wait_events(lambda e: e["event"] == "rejection")[0]
    assert (event["phase"], event["recipient"], f"{event['code']} {event['status']}") == ("rcpt", "anna@own.test", reply)


def test_by_number_of_messages(make_server, sink, tmp_path):
    server = own_with(make_server, sink, tmp_path, quota_messages=2)
    for _ in range(2):
        send(server.port, "a@a.test", ["anna@own.test"], BODY)
        server.wait_queue_empty()
    assert usage(server, "anna")[0] == "2C"
    assert rcpt(server, "anna@own.test") == "452 4.2.2"


def test_a_reader_makes_room(make_server, sink, tmp_path):
    """One who takes a message out and says so in the file; and one who does not, whom counting finds out."""
    server = own_with(make_server, sink, tmp_path, quota_messages=2)
    for _ in range(2):
        send(server.port, "a@a.test", ["anna@own.test"], BODY)
        server.wait_queue_empty()
    assert rcpt(server, "anna@own.test") == "452 4.2.2"
    path = server.maildirs.files("anna")[0]
    with open(server.maildirs.path("anna", "maildirsize"), "a", encoding="ascii") as file:
        file.write(f"-{os.path.getsize(path)} -1\n")
    os.remove(path)
    assert rcpt(server, "anna@own.test") == 250
    send(server.port, "a@a.test", ["anna@own.test"], BODY)
    server.wait_queue_empty()
    assert rcpt(server, "anna@own.test") == "452 4.2.2"
    os.remove(server.maildirs.files("anna")[0])
    assert rcpt(server, "anna@own.test") == "452 4.2.2", "the file is believed"
    past = time.time() - 16 * 60
    os.utime(server.maildirs.path("anna", "maildirsize"), (past, past))
    assert rcpt(server, "anna@own.test") == 250
    assert usage(server, "anna") == ("2C", *really(server, "anna"))


def test_deferred_at_the_delivery_until_there_is_room(make_server, sink, tmp_path):
    """By an alias RCPT does not ask: the delivery does, for each of its mailboxes."""
    server = own_with(make_server, sink, tmp_path, retry="1s", quota=2000)
    os.makedirs(server.maildirs.path("anna", "cur"))
    os.makedirs(server.maildirs.path("anna", "tmp"))
    os.makedirs(server.maildirs.path("anna", "new"))
    with open(server.maildirs.path("anna", "cur", "old:2,S"), "wb") as file:
        file.write(b"x" * 1990)
    send(server.port, "a@a.test", ["both@own.test"], BODY)
    server.maildirs.wait("ben")
    event = server.wait_events(lambda e: e["event"] == "deferral" and e["recipient"] == "anna@own.test", 2)[0]
    assert event["status"] == "4.2.2" and "quota" in event["reply"]
    os.remove(server.maildirs.path("anna", "cur", "old:2,S"))
    os.remove(server.maildirs.path("anna", "maildirsize"))
    server.maildirs.wait("anna")
    server.wait_queue_empty()
    assert sink.messages == []


@pytest.mark.parametrize("over, expire, status, event", [("refuse", "4d", "5.2.2", "bounce"), ("defer", "2s", "5.4.7", "expiry")])
def test_bounced_in_the_end(make_server, sink, tmp_path, over, expire, status, event):
    """At once where it is refused for good, else when it has waited long enough; either way the sender hears why."""
    server = own_with(make_server, sink, tmp_path, retry="1s", expire=expire, quota=1000, over_quota=over)
    send(server.port, "a@home.test", ["both@own.test"], BIG)
    report = Report(sink.wait(1)[0])
    report.check("a@home.test", "mx.ringpost.test")
    assert {fields["Status"] for fields in report.failed.values()} == {status}
    server.wait_queue_empty()
    assert all("quota" in e["reply"] for e in server.wait_events(lambda e: e["event"] == event, 2))
    assert "quota" in sink.messages[0].content.decode()
    assert server.maildirs.files("anna") == [] and server.maildirs.files("ben") == []


def test_quota_comes_with_a_reload(make_server, sink, tmp_path):
    server = own_with(make_server, sink, tmp_path)
    for _ in range(2):
        send(server.port, "a@a.test", ["anna@own.test"], BODY)
        server.wait_queue_empty()
    assert not os.path.exists(server.maildirs.path("anna", "maildirsize"))
    server.write_config(domains=({**server.maildirs.settings, "quota_messages": 2},))
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in server.log(), what="the reload")
    assert rcpt(server, "anna@own.test") == "452 4.2.2"


def test_many_at_once_are_all_counted(make_server, sink, tmp_path):
    server = own_with(make_server, sink, tmp_path, quota="1G")
    send(server.port, "a@a.test", ["anna@own.test"], BODY)
    server.wait_queue_empty()
    send(server.port, "a@a.test", ["anna@own.test"], BODY)
    server.wait_queue_empty()
    with Client(server.port) as client:
        client.hello()
        for _ in range(200):
            client.message("a@a.test", "anna@own.test", BODY)
    server.maildirs.wait("anna", 202)
    server.wait_queue_empty()
    assert usage(server, "anna") == ("1073741824S", *really(server, "anna"))
