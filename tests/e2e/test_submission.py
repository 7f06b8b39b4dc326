"""Roles of listeners: submission (RFC 6409), mx, and what each takes and adds."""
import os
import re

import pytest
from harness import accounts
from harness.check import received_field
from harness.client import Client

BODY = "Subject: x\r\nFrom: <ann@a.test>\r\n\r\nHello.\r\n"
PASSWORD = "secret"


@pytest.fixture
def submission(make_server, sink):
    """In clear text on loopback: TLS has its own tests."""
    def make(**changes):
        server = make_server(sink, start=False)
        server.passwords = os.path.join(server.directory, "passwords")
        accounts.write(server.passwords, accounts.line("ann@a.test", PASSWORD),
                       accounts.line("shop", PASSWORD, "sender=@shop.test sender=info@a.test tenant=shop"),
                       accounts.line("all", PASSWORD, "sender=*"))
        server.write_config(auth={"passwords": server.passwords}, listeners=(
            {"name": "in", "address": f"127.0.0.1:{server.port}", "role": "submission", "auth_without_tls": True,
             "error_delay": 0, **changes},))
        return server.start()
    return make


def logged_in(server, name="ann@a.test"):
    client = Client(server.port)
    client.hello()
    assert client.command("AUTH PLAIN " + accounts.plain(name, PASSWORD)) == 235
    return client


def test_not_without_an_account(submission):
    with Client(submission().port) as client:
        client.hello()
        assert client.command("MAIL FROM:<ann@a.test>") == "530 5.7.0"
        assert client.command("RCPT TO:<b@b.test>") == 503


@pytest.mark.parametrize("name, good, bad", [
    ("ann@a.test", ["ann@a.test", "ANN@A.test", ""], ["ben@a.test", "ann@b.test", "ann@x.a.test"]),
    ("shop", ["any@shop.test", "info@a.test", ""], ["shop@a.test", "any@x.shop.test"]),
    ("all", ["any@any.test"], []),
])
def test_sender_belongs_to_the_account(submission, name, good, bad):
    server = submission()
    client = logged_in(server, name)
    for sender in bad:
        assert client.command(f"MAIL FROM:<{sender}>") == "550 5.7.1", sender
    for sender in good:
        client.message(sender, "b@b.test", BODY)
    rejections = bad and server.wait_events(lambda e: e["event"] == "rejection", len(bad))
    assert [(e["phase"], e["sender"], e["user"]) for e in rejections] == [("mail", sender, name) for sender in bad]


@pytest.mark.parametrize("header, date, message_id", [
    ("Subject: x\r\n", True, True),
    ("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n", False, True),
    ("MESSAGE-ID: <a@b>\r\n", True, False),
    ("date: x\r\nmessage-id: <a@b>\r\n", False, False),
    ("", True, True),
])
def test_date_and_message_id_are_added(submission, sink, header, date, message_id):
    server = submission()
    reply = logged_in(server).message("ann@a.test", "b@b.test", header + "\r\nDate: in the body\r\n")
    rest = received_field(sink.wait(1)[0].content)[1].decode()
    added, _, original = rest.partition(header + "\r\nDate: in the body")
    assert original == "\r\n"
    assert bool(re.search(r"^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r$", added, re.M)) == date
    assert bool(re.search(r"^Message-ID: <[0-9a-f]{16}@mx\.ringpost\.test>\r$", added, re.M)) == message_id
    assert added.count("\r\n") == date + message_id
    if message_id:
        assert re.search("[0-9a-f]{16}", added).group() in reply.text


def test_message_without_header_gets_one(submission, sink):
    logged_in(submission()).message("ann@a.test", "b@b.test", "Hello, without header.\r\n")
    rest = received_field(sink.wait(1)[0].content)[1]
    assert re.fullmatch(rb"Date: [^\r]+\r\nMessage-ID: [^\r]+\r\n\r\nHello, without header.\r\n", rest)


def test_nothing_is_added_elsewhere(server, sink):
    with Client(server.port) as client:
        client.hello()
        client.message("a@a.test", "b@b.test", "Subject: x\r\n\r\nx\r\n")
    assert received_field(sink.wait(1)[0].content)[1] == b"Subject: x\r\n\r\nx\r\n"


def test_extensions_are_those_configured(submission, make_server, sink):
    assert {"FUTURERELEASE", "DELIVERBY", "MT-PRIORITY", "BINARYMIME", "DSN"} <= set(logged_in(submission()).extensions())
    server = make_server(sink, listeners={"extensions": ("size", "8bitmime")})
    with Client(server.port) as client:
        assert set(client.extensions()) - {"HELP"} == {"SIZE", "8BITMIME"}
        for parameter in ("RET=FULL", "SMTPUTF8", "BODY=BINARYMIME", "MT-PRIORITY=1", "BY=100;N", "HOLDFOR=10", "AUTH=<>",
                          "ENVID=x", "REQUIRETLS"):
            assert client.command(f"MAIL FROM:<a@a.test> {parameter}").code in (501, 555), parameter
        assert client.command("BDAT 0 LAST").code in (500, 502)
        assert client.command("STARTTLS").code in (500, 502)


def test_each_account_has_its_own_rates_and_events(submission):
    """RFC 5068 3: whatever the address, an account is counted as itself, and each message says whose it is."""
    server = submission(rates={"account": {"messages": "2/1h", "recipients": "5/1h"}})
    with logged_in(server) as first, logged_in(server) as second, logged_in(server, "shop") as other:
        first.message("ann@a.test", "b@b.test", BODY)
        second.message("ann@a.test", "b@b.test", BODY)
        for client in (first, second):
            refused = client.command("MAIL FROM:<ann@a.test>")
            assert refused == "450 4.7.1" and "account" in refused.text
        other.message("any@shop.test", ["b@b.test", "c@b.test", "d@b.test", "e@b.test"], BODY)
        assert other.command("MAIL FROM:<any@shop.test>") == 250
        assert other.command("RCPT TO:<f@b.test>") == 250
        refused = other.command("RCPT TO:<g@b.test>")
        assert refused == "450 4.7.1" and "account" in refused.text
    received = server.wait_events(lambda e: e["event"] == "reception", 3)
    assert sorted(event["user"] for event in received) == ["ann@a.test", "ann@a.test", "shop"]
    rejected = server.wait_events(lambda e: e["event"] == "rejection", 3)
    assert sorted((event["user"], event["phase"]) for event in rejected) == [
        ("ann@a.test", "mail"), ("ann@a.test", "mail"), ("shop", "rcpt")]


def test_priority_is_lowered_for_strangers(make_server, sink):
    server = make_server(sink, listeners={"relay_networks": ("127.0.0.2",), "extensions": ("auto", "mt-priority")})
    with Client(server.port) as client:
        client.hello()
        reply = client.command("MAIL FROM:<a@a.test> MT-PRIORITY=5")
        assert reply == "250 2.3.6" and re.match(r"2\.3\.6 0 \w", reply.text), "the new priority, a space, words"
        client.command("RSET")
        assert client.command("MAIL FROM:<a@a.test> MT-PRIORITY=-5") == "250 2.1.0"
        client.command("RSET")
        assert client.command("MAIL FROM:<a@a.test> MT-PRIORITY=10") == 501
    with Client(server.port, source="127.0.0.2") as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test> MT-PRIORITY=5") == "250 2.1.0"


def test_priorities_that_are_refused(make_server, sink):
    """RFC 6710 4.1 and 5: what is below the minimum, and what is too big, at MAIL where SIZE says so, else at the dot."""
    server = make_server(sink, listeners={"error_delay": 0, "priorities": {"min": -3, "low_bytes_max": 1000,
                                                                          "high_bytes_max": "2K"}})
    big = "Subject: x\r\n\r\n" + 30 * ("x" * 48 + "\r\n")
    with Client(server.port) as client:
        client.hello()
        for priority, size, expected in ((-9, 10, "550 5.7.15"), (-4, 10, "550 5.7.15"), (-3, 1000, 250), (-3, 1001, "552 5.7.16"),
                                         (0, 10000, 250), (1, 2048, 250), (9, 2049, "552 5.7.16")):
            assert client.command(f"MAIL FROM:<a@a.test> SIZE={size} MT-PRIORITY={priority}") == expected, priority
            client.command("RSET")
        assert client.message("a@a.test", "b@b.test", big, " MT-PRIORITY=-1", code=None) == "552 5.7.16"
        assert client.command("RCPT TO:<b@b.test>") == 503, "nothing is left of it"
        client.message("a@a.test", "b@b.test", big, " MT-PRIORITY=0")
        client.message("a@a.test", "b@b.test", BODY, " MT-PRIORITY=-1")
    assert len(sink.wait(2)) == 2
    event = server.wait_events(lambda e: e["event"] == "rejection" and e["phase"] == "dot")[0]
    assert (event["code"], event["status"]) == (552, "5.7.16")


def test_low_priorities_wait_outside_when_the_queue_is_nearly_full(make_server):
    """Three quarters of limits.queued_recipients_max: 450 for the low ones, the others may fill it."""
    server = make_server(limits={"queued_recipients_max": 40}, listeners={"error_delay": 0, "priorities": {"min_busy": 1}},
                         retry={"schedule": ("1h",)})
    with Client(server.port) as client:
        client.hello()
        for _ in range(3):
            client.message("a@a.test", [f"b{number}@b.test" for number in range(10)], BODY)
        server.wait_metric("queued_recipients", 30)  # the shard of b.test counts them when it has heard of them
        assert client.command("MAIL FROM:<a@a.test>") == "450 4.7.15"
        assert client.command("MAIL FROM:<a@a.test> MT-PRIORITY=-9") == "450 4.7.15"
        client.message("a@a.test", [f"b{number}@b.test" for number in range(10)], BODY, " MT-PRIORITY=1")
        server.wait_metric("queued_recipients", 40)
        assert client.command("MAIL FROM:<a@a.test> MT-PRIORITY=9") == "452 4.3.1"


def test_priority_is_traced(make_server, sink):
    """RFC 6710 4.1, 7: in Received and in the log, as it is in force; a message without it says nothing."""
    server = make_server(sink, listeners={"relay_networks": ("127.0.0.2",), "extensions": ("auto", "mt-priority")},
                         domains=({"name": "b.test"},))
    for source, given, traced in (("127.0.0.2", 7, 7), ("127.0.0.1", -5, -5), ("127.0.0.1", 7, 0), ("127.0.0.1", None, None)):
        before = len(sink.messages)
        with Client(server.port, source=source) as client:
            client.hello()
            client.message("a@a.test", "b@b.test", BODY, "" if given is None else f" MT-PRIORITY={given}")
        field = received_field(sink.wait(before + 1)[-1].content)[0]
        assert field["priority"] == (None if traced is None else str(traced).encode())
    events = server.wait_events(lambda e: e["event"] == "reception", 4)
    assert sorted(event["priority"] for event in events) == [-5, 0, 0, 7]


def test_hold(submission):
    client = logged_in(submission(hold_max="1h"))
    assert client.extensions()["FUTURERELEASE"].split()[0] == "3600"
    assert client.command("MAIL FROM:<ann@a.test> HOLDFOR=3601").code == 501
    assert client.command("MAIL FROM:<ann@a.test> HOLDFOR=60 HOLDUNTIL=2026-11-23T00:00:00Z").code == 501
    assert client.command("MAIL FROM:<ann@a.test> HOLDFOR=3600") == 250


def test_messages_max(make_server, sink):
    server = make_server(sink, listeners={"messages_max": 2})
    with Client(server.port) as client:
        assert "MAILMAX=2" in client.extensions()["LIMITS"]
        for _ in range(2):
            client.message("a@a.test", "b@b.test", BODY)
        assert client.command("MAIL FROM:<a@a.test>") == 421


# --- mx ---------------------------------------------------------------------------------------------------------------

@pytest.fixture
def mx(make_server, sink, tmp_path):
    (tmp_path / "mailboxes").write_text("postmaster\nanna\nben\n")
    (tmp_path / "aliases").write_text("info: anna, ben, carl@else.test\n")
    server = make_server(sink, start=False)
    server.write_config(
        domains=({"name": "own.test", "mailboxes": str(tmp_path / "mailboxes"), "aliases": str(tmp_path / "aliases")},),
        listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", "role": "mx", "error_delay": 0},))
    return server.start()


def test_mx_takes_mail_for_own_users_only(mx, sink):
    with Client(mx.port) as client:
        extensions = client.extensions()
        assert "AUTH" not in extensions and "MT-PRIORITY" not in extensions and "BINARYMIME" not in extensions
        assert client.command("MAIL FROM:<a@a.test>") == 250
        assert client.command("RCPT TO:<nobody@own.test>") == "550 5.1.1"
        assert client.command("RCPT TO:<b@b.test>") == "550 5.7.1"
        assert client.command("RCPT TO:<Postmaster>") == 250
        assert client.command("RCPT TO:<ANNA@OWN.test>") == 250
        assert client.command("RCPT TO:<info@own.test>") == 250
        assert client.command("DATA") == 354
        client.send(BODY + ".\r\n")
        assert client.reply() == 250
    event = mx.wait_events(lambda e: e["event"] == "reception")[0]
    assert event["recipients"] == 5, "the alias stands for three"


def test_alias_keeps_its_name_from_the_trace(mx, sink):
    with Client(mx.port) as client:
        client.hello()
        client.message("a@a.test", "info@own.test", BODY)
    for message in sink.wait(1):
        assert received_field(message.content)[0]["recipient"] is None


# --- relay with BDAT, UTF-8, DSN --------------------------------------------------------------------------------------

def test_bdat_is_the_same_message(server, sink):
    with Client(server.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@a.test>")
        client.command("RCPT TO:<b@b.test>")
        content = b"Subject: x\r\n\r\n.dot\r\n..\r\nlast\r\n"
        for at in range(0, len(content), 7):
            piece = content[at:at + 7]
            client.send(f"BDAT {len(piece)}\r\n".encode() + piece)
            assert client.reply() == 250
        assert client.command("DATA") == 503
        assert client.command("BDAT 0 LAST") == 250
        client.message("a@a.test", "c@b.test", content.decode())
    messages = sink.wait(2)
    assert {received_field(m.content)[1] for m in messages} == {content}


def test_bdat_without_last_line_end(server, sink):
    with Client(server.port) as client:
        client.hello()
        client.send(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 15 LAST\r\nSubject: x\r\n\r\ny")
        assert [client.reply().code for _ in range(3)] == [250, 250, 250]
    assert received_field(sink.wait(1)[0].content)[1] in (b"Subject: x\r\n\r\ny", b"Subject: x\r\n\r\ny\r\n")


def test_smtputf8(server, sink):
    with Client(server.port) as client:
        assert "SMTPUTF8" in client.extensions()
        client.send("MAIL FROM:<\u00fcnl@a.test>\r\n")
        assert client.reply().code in (501, 550, 553)
        client.send("MAIL FROM:<\u00fcnl@a.test> SMTPUTF8 BODY=8BITMIME\r\n")
        assert client.reply() == 250
        client.send("RCPT TO:<\u03b4@b.test>\r\n")
        assert client.reply() == 250


def test_envelope_is_kept(server, sink):
    """Every parameter is taken; what the queue does with it has its own tests."""
    with Client(server.port) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test> RET=HDRS ENVID=QQ+2B314 BY=3600;N MT-PRIORITY=3") == 250
        assert client.command("RCPT TO:<b@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@b.test") == 250
        assert client.command("RCPT TO:<c@b.test> NOTIFY=NEVER,DELAY") == 501
        assert client.command("RCPT TO:<c@b.test> NOTIFY=NEVER") == 250
        assert client.command("DATA") == 354
        client.send(BODY + ".\r\n")
        assert client.reply() == 250
