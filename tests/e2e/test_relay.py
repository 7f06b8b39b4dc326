"""What comes in goes out: the same envelope, the same bytes, one Received field more."""
import hashlib
import os
import re

import pytest
from harness.check import assert_relayed, received_field
from harness.client import Client, pipelined, send, stuffed
from harness.server import SANITIZED, free_port, wait_until

HEADER = "Subject: test\r\nFrom: <a@a.test>\r\n\r\n"

BODIES = {
    "plain": HEADER + "Hello.\r\n",
    "nothing at all": "",
    "no header": "\r\n",
    "no body": "Subject: x\r\n",
    "one dot": ".\r\n",
    "dots": HEADER + ".\r\n..\r\n...\r\n.a\r\na.\r\n",
    "dot first": ".first\r\nSubject: x\r\n",
    "8 bits": (HEADER + "caf\xe9\r\n").encode("latin-1"),
    "every octet but NUL, CR and LF": HEADER.encode() + bytes(b for b in range(1, 256) if b not in (10, 13)) + b"\r\n",
    "longest line": HEADER + "x" * 998 + "\r\n" + "." + "y" * 997 + "\r\n",
    "empty lines": "\r\n" * 50,
    "strange header": "no colon here\r\n\tand folded\r\nSubject:x\r\n\r\nbody\r\n",
    "commands inside": HEADER + "QUIT\r\nRSET\r\nMAIL FROM:<evil@evil.test>\r\n",
    "128 KiB": HEADER + ("z" * 76 + "\r\n") * 1680,
    "at a dot in every chunk": HEADER + ".\r\n" * 20000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bytes_are_kept(server, sink, body):
    send(server.port, "Sender.Name@A.test", ["User.Name+tag@B.test"], body, parameters=" BODY=8BITMIME")
    message = sink.wait(1)[0]
    assert_relayed(message, "Sender.Name@a.test", ["User.Name+tag@b.test"], body)
    assert message.wire == message.wire[:-3] + b".\r\n"
    server.wait_queue_empty()
    assert len(sink.messages) == 1


def test_received_field(server, sink):
    with Client(server.port) as client:
        client.hello("sender.example")
        reply = client.message("a@a.test", "b@b.test", BODIES["plain"])
        client.message("a@a.test", ["b@b.test", "c@b.test"], BODIES["plain"])
    with Client(server.port) as client:
        client.command("HELO old.example")
        client.message("a@a.test", "d@b.test", BODIES["plain"])
    fields = {tuple(sorted(m.recipients)): received_field(m.content)[0] for m in sink.wait(3)}
    single, several, old = fields["b@b.test",], fields["b@b.test", "c@b.test"], fields["d@b.test",]
    assert single["helo"] == b"sender.example" and single["peer"] == b"127.0.0.1"
    assert single["host"] == b"mx.ringpost.test" and single["protocol"] == b"ESMTP"
    assert single["id"].decode() in reply.text, "the reply to the final dot names the message"
    assert single["recipient"] == b"b@b.test"
    assert several["recipient"] is None, "a field `for` would tell one recipient about another"
    assert len({single["id"], several["id"], old["id"]}) == 3
    assert old["protocol"] == b"SMTP" and old["helo"] == b"old.example"


def test_ipv6_on_both_sides(make_server, make_sink):
    sink = make_sink(address="::1")
    server = make_server(start=False, routes=({"domain": "*", "next_hop": sink.endpoint},))
    server.settings["listeners"] = ({"name": "six", "address": f"[::1]:{server.port}"},)
    server.start()
    with Client(server.port, address="::1") as client:
        client.hello()
        client.message("a@a.test", "b@b.test", BODIES["plain"])
    field = assert_relayed(sink.wait(1)[0], "a@a.test", ["b@b.test"], BODIES["plain"])
    assert field["peer"] == b"IPv6:::1"
    assert server.wait_events(lambda e: e["event"] == "reception")[0]["client"] == "::1"
    assert "::1" in server.wait_events(lambda e: e["event"] == "delivery")[0]["host"]


def test_listeners_with_settings_of_their_own(make_server, sink):
    server = make_server(sink, start=False)
    other = free_port()
    server.settings["listeners"] += ({"name": "other", "address": f"127.0.0.1:{other}", "hostname": "other.test",
                                      "message_bytes_max": "64K", "relay_networks": ("192.0.2.0/24",)},)
    server.start()
    with Client(server.port) as client:
        assert "mx.ringpost.test" in client.greeting.text and "SIZE 52428800" in client.hello().text
        client.message("a@a.test", "b@b.test", BODIES["plain"])
    with Client(other) as client:
        assert "other.test" in client.greeting.text and "SIZE 65536" in client.hello().text
        assert client.command("MAIL FROM:<a@a.test>") == 250
        assert client.command("RCPT TO:<b@b.test>") == "550 5.7.1"
        assert client.command("RCPT TO:<Postmaster>") == 250
    assert sink.wait(1)[0].recipients == ["b@b.test"]


def test_null_sender_and_postmaster(server, sink):
    send(server.port, "", ["Postmaster"], BODIES["plain"])
    message = sink.wait(1)[0]
    assert message.sender == ""
    assert message.recipients == ["Postmaster@mx.ringpost.test"]


def test_quoted_and_literal_addresses(server, sink):
    with Client(server.port) as client:
        client.hello()
        client.envelope('"a b\\"c"@a.test', ['"x@y"@b.test', "d@[192.0.2.1]"])
        client.send(stuffed(BODIES["plain"]))
        assert client.reply() == 250
    wait_until(lambda: len(sink.recipients()) == 2, 10, "both recipients")
    assert set(sink.recipients()) == {'"x@y"@b.test', "d@[192.0.2.1]"}
    assert {message.sender for message in sink.messages} == {'"a b\\"c"@a.test'}


def test_source_route_is_ignored(server, sink):
    send(server.port, "@x.test,@y.test:a@a.test", ["@z.test:b@b.test"], BODIES["plain"])
    message = sink.wait(1)[0]
    assert (message.sender, message.recipients) == ("a@a.test", ["b@b.test"])


def test_one_transaction_per_message_and_next_hop(make_server, make_sink):
    """Sites, not domains: 250 recipients of 5 domains over two next hops."""
    one, two = make_sink(), make_sink()
    server = make_server(routes=(
        {"domain": "d0.test", "next_hop": one.endpoint}, {"domain": "d1.test", "next_hop": one.endpoint},
        {"domain": "*", "next_hop": two.endpoint}))
    recipients = [f"u{i}@d{i % 5}.test" for i in range(250)]
    send(server.port, "a@a.test", recipients, BODIES["plain"])
    server.wait_queue_empty()
    at_one = [r for r in recipients if r.endswith(("d0.test", "d1.test"))]
    assert sorted(one.recipients()) == sorted(at_one)
    assert sorted(two.recipients()) == sorted(set(recipients) - set(at_one))
    for sink in one, two:
        for message in sink.messages:
            assert_relayed(message, "a@a.test", message.recipients, BODIES["plain"])
    # A message goes to one site once per 100 recipients of it, whatever domains they have.
    assert len(one.messages) == 1, [len(m.recipients) for m in one.messages]
    assert len(two.messages) == 2, [len(m.recipients) for m in two.messages]


def test_many_recipients_in_chunks(server, sink):
    recipients = [f"user{i}@many.test" for i in range(1000)]
    with Client(server.port) as client:
        client.hello()
        commands, body = pipelined("a@a.test", recipients, BODIES["plain"])
        client.send(commands)
        assert [client.reply().code for _ in range(1002)] == [250] * 1001 + [354]
        client.send(body)
        assert client.reply() == 250
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == sorted(recipients)
    assert [len(message.recipients) for message in sink.messages] == [100] * 10
    for message in sink.messages:
        assert_relayed(message, "a@a.test", message.recipients, BODIES["plain"])


def test_recipient_over_the_limit_comes_again(make_server, sink):
    server = make_server(sink, listeners={"recipients_max": 100})
    with Client(server.port) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test>") == 250
        replies = [client.command(f"RCPT TO:<u{i}@b.test>") for i in range(103)]
        assert [reply.code for reply in replies] == [250] * 100 + [452] * 3
        assert replies[-1] == "452 4.5.3"
        assert client.command("DATA") == 354
        client.send(".\r\n")
        assert client.reply() == 250
    server.wait_queue_empty()
    assert len(sink.recipients()) == 100


def test_pipelined_sender(server, sink):
    """A body and the next group in one write: as many replies as commands, in order."""
    with Client(server.port) as client:
        client.hello()
        stream = b""
        for number in range(50):
            commands, body = pipelined(f"s{number}@a.test", [f"r{number}@b.test"], HEADER + f"{number}\r\n")
            stream += commands
            client.send(stream)
            stream = body
        client.send(stream + b"QUIT\r\n")
        codes = [client.reply().code for _ in range(50 * 4 + 1)]
        assert codes == [250, 250, 354, 250] * 50 + [221]
        assert client.at_end()
    for message in sink.wait(50):
        number = message.sender[1:-len("@a.test")]
        assert_relayed(message, f"s{number}@a.test", [f"r{number}@b.test"], HEADER + f"{number}\r\n")


def test_sender_in_single_bytes(server, sink):
    with Client(server.port) as client:
        stream = b"EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n"
        for octet in stream:
            client.send(bytes([octet]))
        for _ in range(3):
            assert client.reply() == 250
        assert client.reply() == 354
        for octet in stuffed(BODIES["dots"]):
            client.send(bytes([octet]))
        assert client.reply() == 250
    assert_relayed(sink.wait(1)[0], "a@a.test", ["b@b.test"], BODIES["dots"])


@pytest.mark.parametrize("mebibytes", [1, 8])
def test_large_message(server, sink, mebibytes):
    body = HEADER.encode() + (b"." * 7 + os.urandom(35).hex().encode() + b"\r\n") * (mebibytes * 1024 * 1024 // 79)
    send(server.port, "a@a.test", ["b@b.test", "c@c.test"], body)
    server.wait_queue_empty(60)
    for message in sink.messages:
        assert_relayed(message, "a@a.test", message.recipients, body)
    assert sorted(sink.recipients()) == ["b@b.test", "c@c.test"]


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's shadow memory is not the program's")
def test_fifty_mebibytes_do_not_cost_fifty_mebibytes(server, sink):
    line = b"x" * 76 + b"\r\n"
    body = HEADER.encode() + line * ((50 * 1024 * 1024 - 1000) // len(line))
    send(server.port, "warm@a.test", ["b@b.test"], line * 20000)
    sink.wait(1)
    before, peak = server.rss(), 0
    with Client(server.port, timeout=60) as client:
        client.hello()
        client.envelope("a@a.test", ["b@b.test"])
        wire = stuffed(body)
        for start in range(0, len(wire), 1 << 20):
            client.send(wire[start:start + (1 << 20)])
            peak = max(peak, server.rss())
        assert client.reply() == 250
        peak = max(peak, server.rss())
    sink.wait(2, 60)
    peak = max(peak, server.rss())
    message = sink.messages[1]
    assert hashlib.sha256(received_field(message.content)[1]).digest() == hashlib.sha256(body).digest()
    # Up to 16 MiB of it are the shard's receive buffers, which exist anyway and are touched for the first time here.
    assert peak - before < 24 * 1024 * 1024, f"{(peak - before) >> 20} MiB more"


def test_size_is_announced_and_enforced(make_server, sink):
    server = make_server(sink, listeners={"message_bytes_max": "64K"})
    with Client(server.port) as client:
        assert "SIZE 65536" in client.hello().text
        assert client.command("MAIL FROM:<a@a.test> SIZE=65537") == "552 5.3.4"
        client.message("a@a.test", "b@b.test", "x" * 70 + "\r\n" * 100, parameters=" SIZE=65536")
        reply = client.message("a@a.test", "b@b.test", ("x" * 70 + "\r\n") * 1000, code=None)
        assert reply == "552 5.3.4"
        client.message("a@a.test", "after@b.test", BODIES["plain"])
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == ["after@b.test", "b@b.test"]


def test_loop_is_broken(server, sink):
    hop = "Received: from a.test by b.test; Thu, 01 Jan 1970 00:00:00 +0000\r\n"
    with Client(server.port) as client:
        client.hello()
        assert client.message("a@a.test", "b@b.test", hop * 100 + HEADER, code=None) == "554 5.4.6"
        client.message("a@a.test", "c@b.test", hop * 99 + HEADER)
    assert sink.wait(1)[0].recipients == ["c@b.test"]
    assert len(re.findall(rb"^Received:", sink.messages[0].content, re.M)) == 100


def test_relay_is_refused_to_strangers(make_server, sink):
    server = make_server(sink, listeners={"relay_networks": ("192.0.2.0/24",)})
    with Client(server.port) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test>") == 250
        assert client.command("RCPT TO:<b@b.test>") == "550 5.7.1"
        assert client.command("DATA").code in (503, 554)
    assert sink.sessions == []


def test_envelope_is_empty_after_every_reply_to_a_message(server, sink):
    """The half-reset session: after a refusal at the final dot, RCPT needs a new MAIL."""
    with Client(server.port) as client:
        client.hello()
        assert client.message("a@a.test", "b@b.test", "a\nb", code=None).code // 100 == 5
        assert client.command("RCPT TO:<c@b.test>") == 503
        assert client.command("DATA") == 503
        client.message("a@a.test", "d@b.test", BODIES["plain"])
        assert client.command("RCPT TO:<e@b.test>") == 503
    server.wait_queue_empty()
    assert sink.recipients() == ["d@b.test"]


def test_unfinished_message_is_not_delivered(server, sink):
    client = Client(server.port)
    client.hello()
    client.envelope("a@a.test", ["b@b.test"])
    client.send("almost\r\n." )
    client.close()
    client = Client(server.port)
    client.hello()
    client.envelope("a@a.test", ["c@b.test"])
    client.send("x" * 500000 + "\r\n")
    client.reset()
    send(server.port, "a@a.test", ["d@b.test"], BODIES["plain"])
    assert sink.wait(1)[0].recipients == ["d@b.test"]
    wait_until(lambda: server.metric("sessions") == 0, 5, "the sessions to end")
    assert server.metric("messages_accepted_total") == 1
    assert sink.recipients() == ["d@b.test"]


@pytest.mark.parametrize("durability", ["sync", "relaxed"])
def test_relaxed_durability_says_so(make_server, sink, durability):
    server = make_server(sink, listeners={"durability": durability})
    reply = send(server.port, "a@a.test", ["b@b.test"], BODIES["plain"])
    assert ("relaxed" in reply.text) == (durability == "relaxed")
    sink.wait(1)
    event = server.wait_events(lambda e: e["event"] == "reception")[0]
    assert event["durability"] == durability
    assert (server.metric("spool_syncs_total") > 0) or durability == "relaxed"


@pytest.mark.parametrize("shards", [{"count": 1}, {"count": 3}, {"inbound": 1, "delivery": 1}, {"inbound": 2, "delivery": 3}])
def test_any_number_of_shards(make_server, sink, shards):
    server = make_server(sink, start=False)
    server.settings["shards"] = {**shards, "pin": False}
    server.start()
    for number in range(20):
        send(server.port, "a@a.test", [f"u{number}@d{number}.test", f"v{number}@e{number}.test"], BODIES["plain"])
    wait_until(lambda: len(sink.recipients()) >= 40, 20, "40 recipients")
    server.wait_queue_empty()
    assert len(set(sink.recipients())) == len(sink.recipients()) == 40
