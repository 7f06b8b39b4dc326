"""Mail filters (milters), against a filter that does what the test says: every answer, every kind of nonsense, and what
becomes of the mail."""
import base64
import os
import re
import socket
import subprocess
import time

import pytest
from harness import accounts
from harness.certificates import Authority
from harness.client import Client
from harness.milter import Drop, Hang, Milter, Raw, Silence, packet
from harness.server import BINARY, SANITIZED, wait_until
from test_events import KEYS

SENDER, RECIPIENT = "a@client.test", "x@sink.test"
MESSAGE = "Subject: one\r\nX-Old: 1\r\nX-Old: 2\r\n\r\n.first\r\nlast\r\n"
ALL_SILENT = 0xff080


@pytest.fixture
def make_milter(tmp_path_factory):
    milters = []

    def make(**options):
        milters.append(Milter(**options))
        return milters[-1]
    yield make
    for milter in milters:
        milter.close()


@pytest.fixture
def milter(make_milter):
    return make_milter()


@pytest.fixture
def filtered(make_server, sink, milter):
    def make(*more, item=None, **listener):
        items = [milter.item(**(item or {})), *(other.item(f"m{i}") for i, other in enumerate(more, 2))]
        return make_server(sink, milters=tuple(items),
                           listeners={"milters": " ".join(i["name"] for i in items), "error_delay": 0, **listener})
    return make


@pytest.fixture
def connect():
    clients = []

    def make(server):
        clients.append(Client(server.port))
        clients[-1].hello()
        return clients[-1]
    yield make
    for client in clients:
        client.close()


def counted(server, name, milter="m"):
    return float(re.search(rf'^ringpost_{name}{{milter="{milter}"}} (\S+)$', server.get("/metrics")[1], re.M)[1])


def header_of(sink, count=1):
    """Without our Received field, which comes first."""
    sink.wait(count)
    header = sink.messages[-1].content.partition(b"\r\n\r\n")[0] + b"\r\n"
    lines = header.split(b"\r\n")
    assert lines.pop(0).startswith(b"Received:"), header
    while lines[0][:1] in (b" ", b"\t"):
        lines.pop(0)
    return b"\r\n".join(lines)


def body_of(sink, count=1):
    sink.wait(count)
    return sink.messages[-1].content.partition(b"\r\n\r\n")[2]


# --- what a filter is told ----------------------------------------------------------------------------------------------

def test_steps_and_macros_of_a_session(filtered, milter, connect):
    server = filtered()
    client = connect(server)
    client.message(SENDER, RECIPIENT, MESSAGE, " SIZE=100 BODY=8BITMIME RET=HDRS ENVID=e1")
    client.message(SENDER, [RECIPIENT, "y@sink.test"], MESSAGE)
    client.command("QUIT")
    milter.wait_letters("OCHMRTLLLNBE" + "MRRTLLLNBE" + "Q")
    assert milter.said("C") == [b"[127.0.0.1]\x004\0\x00127.0.0.1\0"]
    assert milter.said("H") == [b"client.test\0"]
    assert milter.said("M")[0] == b"<a@client.test>\0SIZE=100\0BODY=8BITMIME\0RET=HDRS\0ENVID=e1\0"
    assert milter.said("R") == [b"<x@sink.test>\0", b"<x@sink.test>\0", b"<y@sink.test>\0"]
    assert milter.said("L")[:3] == [b"Subject\0one\0", b"X-Old\x001\0", b"X-Old\x002\0"]
    assert milter.said("B")[0] == b".first\r\nlast\r\n"
    macros = milter.macros()
    assert macros["j"] == "mx.ringpost.test" and macros["{daemon_name}"] == "in"
    assert macros["{client_addr}"] == "127.0.0.1" and macros["{mail_addr}"] == SENDER
    assert macros["{rcpt_addr}"] == "y@sink.test" and len(macros["i"]) == 16
    assert counted(server, "milter_requests_total") == 22


def test_a_session_without_mail_costs_no_filter_anything(filtered, milter, connect):
    client = connect(filtered())
    client.command("NOOP")
    client.command("QUIT")
    time.sleep(0.2)
    assert milter.sessions == []


def test_folds_and_leading_space(filtered, make_milter, milter, connect):
    other = make_milter(steps=0x100000 | ALL_SILENT)
    client = connect(filtered(other))
    client.message(SENDER, RECIPIENT, "A: b\r\n\tc\r\n  d\r\nE:f\r\nG:  h\r\n\r\n")
    assert milter.said("L") == [b"A\0b\n\tc\n  d\0", b"E\0f\0", b"G\0 h\0"]
    assert other.said("L") == [b"A\0 b\n\tc\n  d\0", b"E\0f\0", b"G\0  h\0"]


def test_steps_that_a_filter_does_not_want(filtered, make_milter, milter, connect):
    milter.steps = 0x37f  # nothing but the end
    server = filtered()
    connect(server).message(SENDER, RECIPIENT, MESSAGE)
    assert milter.letters() == "OE"


def test_a_filter_of_version_2(filtered, milter, connect, sink):
    milter.version, milter.actions = 2, 0x3f
    milter.on("E", b"hX-A\0b\0", b"c")
    connect(filtered()).message(SENDER, RECIPIENT, MESSAGE)
    assert milter.letters() == "OCHMRLLLNBE"
    assert b"X-A: b\r\n" in header_of(sink)


def test_answers_that_do_not_come_are_not_waited_for(filtered, milter, connect):
    milter.steps = ALL_SILENT
    connect(filtered()).message(SENDER, RECIPIENT, MESSAGE)
    assert milter.letters() == "OCHMRTLLLNBE"


def test_a_message_without_a_header_and_one_without_a_body(filtered, milter, connect, sink):
    milter.on("E", b"hX-A\0b\0", b"c")
    client = connect(filtered())
    client.message(SENDER, RECIPIENT, "no header here\r\n")
    assert milter.said("L") == [] and milter.said("B") == [b"no header here\r\n"]
    assert header_of(sink) == b"X-A: b\r\n" and body_of(sink) == b"no header here\r\n"
    client.message(SENDER, RECIPIENT, "Subject: all\r\n")
    assert milter.letters() == "OCHMRTNBE" + "MRTLNE"
    sink.wait(2)
    assert sink.messages[-1].content.endswith(b"Subject: all\r\nX-A: b\r\n")


def test_rset_is_told_and_the_next_message_begins_anew(filtered, milter, connect):
    client = connect(filtered())
    client.command(f"MAIL FROM:<{SENDER}>")
    client.command("RSET")
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert milter.letters() == "OCHMAMRTLLLNBE"


def test_a_new_hello_is_told(filtered, milter, connect):
    client = connect(filtered())
    client.message(SENDER, RECIPIENT, MESSAGE)
    client.hello("other.test")
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert milter.said("H") == [b"client.test\0", b"other.test\0"]


# --- what it decides ----------------------------------------------------------------------------------------------------

REFUSALS = [(b"r", "550 5.7.1"), (b"t", "451 4.7.1"), (b"y554 5.7.9 no\0", "554 5.7.9"), (b"y450-4.2.0 a\r\n450 4.2.0 b\0", "450 4.2.0")]


@pytest.mark.parametrize("answer,reply", REFUSALS)
@pytest.mark.parametrize("letter", "CHMRTLNBE")
def test_refusals_at_every_step(filtered, milter, connect, sink, letter, answer, reply):
    milter.on(letter, answer)
    server = filtered()
    client = connect(server)
    replies = [client.command(f"MAIL FROM:<{SENDER}>")]
    if replies[-1] == 250:
        replies.append(client.command(f"RCPT TO:<{RECIPIENT}>"))
    if replies[-1] == 250:
        replies.append(client.command("DATA"))
    if replies[-1] == 354:
        client.send(MESSAGE.replace("\r\n.", "\r\n..") + ".\r\n")
        replies.append(client.reply())
    assert len(replies) == {"C": 1, "H": 1, "M": 1, "R": 2, "T": 3}.get(letter, 4)
    assert replies[-1] == reply
    assert all(r.code in (250, 354) for r in replies[:-1])
    # The session goes on as if nothing had been, and what is refused at connect or helo stays refused.
    del milter.answers[letter]
    client.command("RSET")
    again = client.command(f"MAIL FROM:<{SENDER}>")
    assert again == (reply if letter in "CH" else 250)
    assert sink.messages == [] and counted(server, "milter_refusals_total") >= 1
    phase = {"C": "mail", "H": "mail", "M": "mail", "R": "rcpt", "T": "data"}.get(letter, "dot")
    server.wait_events(lambda e: e["event"] == "rejection" and e["phase"] == phase and e["code"] == int(reply[:3]))


def test_421_closes(filtered, milter, connect):
    milter.on("M", b"y421 4.7.0 bye\0")
    client = connect(filtered())
    assert client.command(f"MAIL FROM:<{SENDER}>") == "421 4.7.0"
    assert client.at_end()


def test_one_recipient_is_refused(filtered, milter, connect, sink):
    milter.on("R", lambda data: b"r" if b"bad" in data else b"c")
    client = connect(filtered())
    assert client.command(f"MAIL FROM:<{SENDER}>") == 250
    assert client.command("RCPT TO:<bad@sink.test>") == "550 5.7.1"
    assert client.command(f"RCPT TO:<{RECIPIENT}>") == 250
    assert client.command("DATA") == 354
    client.send(".\r\n")
    assert client.reply() == 250
    sink.wait(1)
    assert sink.messages[0].recipients == [RECIPIENT]


def test_accept_is_for_one_message(filtered, milter, connect, sink):
    milter.on("M", b"a")
    client = connect(filtered())
    client.message(SENDER, RECIPIENT, MESSAGE)
    milter.wait_letters("OCHMA")
    milter.on("M", b"c").on("E", b"r")
    client.message(SENDER, RECIPIENT, MESSAGE, code=550)
    assert milter.letters() == "OCHMAMRTLLLNBE"


def test_accept_of_the_session(filtered, milter, connect, sink):
    milter.on("C", b"a")
    client = connect(filtered())
    client.message(SENDER, RECIPIENT, MESSAGE)
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert milter.letters() == "OC"
    sink.wait(2)


def test_skip_of_a_body(filtered, milter, connect, sink):
    milter.on("B", b"s")
    client = connect(filtered())
    client.message(SENDER, RECIPIENT, "A: b\r\n\r\n" + "x" * 900 + "\r\n" + ("y" * 900 + "\r\n") * 200)
    assert milter.letters() == "OCHMRTLNBE"
    sink.wait(1)
    assert len(sink.messages[0].content) > 180000


@pytest.mark.parametrize("letter", "MRTLNBE")
def test_discard(filtered, milter, connect, sink, letter):
    milter.on(letter, b"d")
    server = filtered()
    client = connect(server)
    client.message(SENDER, RECIPIENT, MESSAGE)
    event = server.wait_events(lambda e: e["event"] == "filter")[0]
    assert list(event) == KEYS["filter"]
    assert event["action"] == "discard" and event["milter"] == "m" and event["sender"] == SENDER
    assert event["recipients"] == 1 and event["bytes"] == len(MESSAGE)
    assert counted(server, "milter_discarded_total") == 1
    del milter.answers[letter]
    client.message(SENDER, RECIPIENT, MESSAGE)  # the next one is not
    sink.wait(1)
    server.wait_queue_empty()
    assert len(sink.messages) == 1 and server.metric("messages_accepted_total") == 1


def test_quarantine_is_held_across_a_restart_and_released(filtered, milter, connect, sink):
    milter.on("E", b"qlooks bad\0", b"c")
    server = filtered()
    reply = connect(server).message(SENDER, RECIPIENT, MESSAGE)
    event = server.wait_events(lambda e: e["event"] == "filter")[0]
    assert event["action"] == "quarantine" and event["reply"] == "looks bad" and event["id"] in reply.text
    assert counted(server, "milter_quarantined_total") == 1
    server.restart()
    time.sleep(0.5)
    assert sink.messages == [] and "held" in server.cli("list")
    server.cli("release", "--id", event["id"])
    sink.wait(1)


def test_progress_keeps_it_alive(filtered, milter, connect, sink):
    milter.on("E", *[answer for _ in range(6) for answer in (Hang(0.4), b"p")], b"c")
    connect(filtered(item={"timeouts": {"content": "1s"}})).message(SENDER, RECIPIENT, MESSAGE)
    sink.wait(1)


# --- what it changes ----------------------------------------------------------------------------------------------------

def test_header_edits(filtered, milter, connect, sink):
    milter.on("E", b"hX-End\0e\0", b"i\0\0\0\1X-First\0f\n\tfolded\0", b"i\0\0\0\2X-Second\0s\0", b"m\0\0\0\2X-Old\0new\0",
              b"m\0\0\0\1X-Old\0\0", b"m\0\0\0\1X-None\0added\0", b"m\0\0\0\7Subject\0\0", b"h.X-Dot\0d\0", b"c")
    server = filtered()
    connect(server).message(SENDER, RECIPIENT, MESSAGE)
    assert header_of(sink) == (b"X-First: f\r\n\tfolded\r\nX-Second: s\r\nSubject: one\r\nX-Old: new\r\nX-End: e\r\n"
                               b"X-None: added\r\n.X-Dot: d\r\n")
    assert body_of(sink) == b".first\r\nlast\r\n"
    assert counted(server, "milter_edits_total") == 8


def test_a_field_above_ours(filtered, milter, connect, sink):
    milter.on("E", b"i\0\0\0\0X-Top\0t\0", b"c")
    connect(filtered()).message(SENDER, RECIPIENT, MESSAGE)
    sink.wait(1)
    assert sink.messages[0].content.startswith(b"X-Top: t\r\nReceived: from client.test")


def test_envelope_edits(filtered, milter, connect, sink):
    milter.on("E", b"-<x@sink.test>\0", b"+<new@sink.test>\0", b"2<par@sink.test>\0NOTIFY=NEVER\0", b"e<other@client.test>\0",
              b"c")
    connect(filtered()).message(SENDER, [RECIPIENT, "stays@sink.test"], MESSAGE)
    sink.wait(1)
    message = sink.messages[0]
    assert message.sender == "other@client.test"
    assert sorted(message.recipients) == ["new@sink.test", "par@sink.test", "stays@sink.test"]


def test_the_last_recipient_is_removed(filtered, milter, connect, sink):
    milter.on("E", b"-x@sink.test\0", b"c")
    server = filtered()
    connect(server).message(SENDER, RECIPIENT, MESSAGE)
    event = server.wait_events(lambda e: e["event"] == "filter")[0]
    assert event["action"] == "discard" and event["reply"] == "no recipient was left" and sink.messages == []


def test_a_new_body(filtered, milter, connect, sink):
    milter.on("E", b"bone\r\n.dot\r", b"b\n.\r\nMAIL FROM:<evil@x.test>\r\n", b"b..two", b"c")
    connect(filtered()).message(SENDER, RECIPIENT, MESSAGE)
    assert body_of(sink) == b"one\r\n.dot\r\n.\r\nMAIL FROM:<evil@x.test>\r\n..two\r\n"
    assert len(sink.seen) == 1


def test_an_empty_new_body(filtered, milter, connect, sink):
    milter.on("E", b"b", b"c")
    connect(filtered()).message(SENDER, RECIPIENT, MESSAGE)
    assert body_of(sink) == b""


@pytest.mark.parametrize("lines", [500, 20000])
def test_large_messages_and_large_bodies(filtered, make_milter, milter, connect, sink, lines):
    """The second filter sees what the first one made of it."""
    body = b"".join(b"%s%06d a line of a body that is to be long enough\r\n" % (b"." * (i % 3), i) for i in range(lines))
    new = body.replace(b"long", b"wide")
    pieces = [b"b" + new[i:i + 60000] for i in range(0, len(new), 60000)]
    second = make_milter(steps=ALL_SILENT)
    milter.on("E", b"hX-One\x001\0", *pieces, b"c")
    second.on("E", b"hX-Two\x002\0", b"c")
    server = filtered(second)
    connect(server).message(SENDER, RECIPIENT, "Subject: large\r\n\r\n" + body.decode())
    assert b"".join(milter.said("B")) == body and b"".join(second.said("B")) == new
    assert second.said("L") == [b"Subject\0large\0", b"X-One\x001\0"]
    assert header_of(sink) == b"Subject: large\r\nX-One: 1\r\nX-Two: 2\r\n"
    assert body_of(sink) == new
    server.wait_queue_empty()


def test_only_the_header_of_a_large_message(filtered, milter, connect, sink):
    body = "".join(f"{'.' * (i % 2)}{i:06} a line of a body\r\n" for i in range(60000))
    milter.on("E", b"i\0\0\0\1X-One\x001\0", b"c")
    server = filtered()
    connect(server).message(SENDER, RECIPIENT, "Subject: large\r\n\r\n" + body)
    assert body_of(sink) == body.encode()
    assert header_of(sink) == b"X-One: 1\r\nSubject: large\r\n"


def test_a_result_beyond_the_limit(filtered, milter, connect, sink):
    milter.on("E", *[b"b" + b"0123456789abcde\r\n" * 3000] * 4, b"c")
    client = connect(filtered(message_bytes_max="64K"))
    assert client.message(SENDER, RECIPIENT, MESSAGE, code=None) == "552 5.3.4"
    assert sink.messages == []


def test_a_header_that_is_too_large_for_filters(filtered, milter, connect, sink):
    client = connect(filtered())
    fields = "".join(f"X-{i}: {'x' * 900}\r\n" for i in range(400))
    assert client.message(SENDER, RECIPIENT, fields + "\r\n", code=None) == "552 5.3.4"
    one = "X: " + "\r\n ".join(["y" * 900] * 80) + "\r\n\r\n"
    assert client.message(SENDER, RECIPIENT, one, code=None) == "552 5.3.4"
    many = "".join(f"X-{i}: {'x' * 900}\r\n" for i in range(200))
    client.message(SENDER, RECIPIENT, many + "\r\nbody\r\n")
    assert len(milter.said("L")) == 200


# --- what it must not be able to do --------------------------------------------------------------------------------------

BAD_EDITS = [
    b"hX\0a\nSubject: forged\0", b"hX\0a\r\n\r\nbody\0", b"hX: y\0v\0", b"hX y\0v\0", b"h\0v\0", b"hX\0a\rb\0", b"hX\0a\n \0",
    b"hX\0" + b"x" * 1200 + b"\0", b"bbare\nline\r\n", b"bbare\rcr\r\n", b"bnul\0\r\n", b"b" + b"x" * 1200 + b"\r\n",
    b"+<not an address>\0", b"+<>\0", b"+<a@b>\r\nRCPT TO:<c@d>\0", b"e<a@b\0", b"2<a@b.test>\0NOTIFY=SOMETIMES\0",
    b"e<a@b.test>\0RET=FULL\0", b"+<\xc3\xbc@b.test>\0"]


@pytest.mark.parametrize("edit", BAD_EDITS)
@pytest.mark.parametrize("action", ["tempfail", "accept"])
def test_edits_that_are_not_to_be_done(filtered, milter, connect, sink, edit, action):
    milter.on("E", edit, b"c")
    server = filtered(item={"default_action": action})
    client = connect(server)
    assert client.message(SENDER, RECIPIENT, MESSAGE, code=None) == "451 4.3.5"
    milter.on("E", b"c")
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert header_of(sink) == b"Subject: one\r\nX-Old: 1\r\nX-Old: 2\r\n"


def test_too_many_edits(filtered, milter, connect, sink):
    milter.on("E", *[b"m\0\0\0\1Subject\0s%d\0" % i for i in range(1001)], b"c")
    client = connect(filtered())
    assert client.message(SENDER, RECIPIENT, MESSAGE, code=None) == "451 4.3.5"
    milter.on("E", *[b"m\0\0\0\1Subject\0s%d\0" % i for i in range(1000)], b"c")
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert header_of(sink).startswith(b"Subject: s999\r\n")


NONSENSE = [
    Raw(b"\0\0\0\0"), Raw(b"\0\0\0"), Raw(b"\xff\xff\xff\xffc"), Raw(b"\x7f\xff\xff\xff" + b"c" * 1000), Raw(b"HTTP/1.1 400 Bad\r\n"),
    b"x", b"cx", b"y", b"y\0", b"y999 no\0", b"y550-one\r\n551 two\0", b"O", b"hX\0v\0", b"h", Drop()]


@pytest.mark.parametrize("letter", "OCHMRTLNBE")
def test_nonsense_at_every_step(filtered, milter, connect, sink, letter):
    """Each kind in turn, on one server: it is 451, and as soon as the filter is well again mail flows."""
    server = filtered(item={"timeouts": {"connect": "700ms", "command": "700ms", "content": "700ms"}})
    failures = 0
    for nonsense in NONSENSE:
        if letter == "E" and nonsense == b"hX\0v\0":
            continue  # is none there
        hangs = isinstance(nonsense, Raw) and len(nonsense.data) < 4
        milter.on(letter, nonsense, *([] if hangs else [Drop()] if isinstance(nonsense, Raw) else []))
        client = connect(server)
        codes = [client.command(line).code for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA")]
        if codes[-1] == 354:
            client.send("A: b\r\n\r\nbody\r\n.\r\n")
            codes.append(client.reply().code)
        wrong = [code for code in codes if code not in (250, 354, 503, 554)]
        assert wrong and set(wrong) == {451}, (letter, nonsense, codes)
        failures += 1
        client.close()
        assert counted(server, "milter_failures_total") == failures, nonsense
    del milter.answers[letter]
    connect(server).message(SENDER, RECIPIENT, MESSAGE)
    sink.wait(1)
    assert SANITIZED or server.rss() < 200e6


@pytest.mark.parametrize("action,reply", [("tempfail", "451 4.7.1"), ("reject", "550 5.7.1"), ("accept", 250)])
@pytest.mark.parametrize("letter", "OMRTLE")
def test_the_action_when_it_is_lost(filtered, milter, connect, sink, letter, action, reply):
    milter.on(letter, Drop())
    client = connect(filtered(item={"default_action": action}))
    replies = [client.command(line) for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA")]
    if replies[-1] == 354:
        client.send("A: b\r\n\r\nbody\r\n.\r\n")
        replies.append(client.reply())
    refused = [r for r in replies if r.code not in (250, 354, 503, 554)]
    if action == "accept":
        assert refused == [] and replies[-1] == 250
        sink.wait(1)
    else:
        assert refused[0] == reply and sink.messages == []


@pytest.mark.parametrize("edits", [(b"bhalf a new ",), (b"hX\0v\0",), (b"bhalf", b"p")])
@pytest.mark.parametrize("last", [Drop(), Raw(b"\0\0\0\0"), Hang(2)])
def test_lost_while_it_changes_the_message(filtered, milter, connect, sink, edits, last):
    """Neither half of the new message nor the old one may go out, even where the filter's loss is to be ignored."""
    milter.on("E", *edits, last)
    server = filtered(item={"default_action": "accept", "timeouts": {"content": "1s"}})
    client = connect(server)
    assert client.message(SENDER, RECIPIENT, MESSAGE, code=None) == "451 4.7.1"
    milter.on("E", b"c")
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert header_of(sink) == b"Subject: one\r\nX-Old: 1\r\nX-Old: 2\r\n" and len(sink.messages) == 1


def test_a_large_new_body_that_breaks_off(filtered, milter, connect, sink):
    milter.on("E", *[b"b" + b"0123456789abcde\r\n" * 3500] * 20, Drop())
    server = filtered(item={"default_action": "accept"})
    client = connect(server)
    body = "x" * 70 + "\r\n"
    assert client.message(SENDER, RECIPIENT, "A: b\r\n\r\n" + body * 10000, code=None) == "451 4.7.1"
    milter.on("E", b"c")
    client.message(SENDER, RECIPIENT, "A: b\r\n\r\n" + body * 10000)
    assert body_of(sink) == (body * 10000).encode()


@pytest.mark.parametrize("letter", "OCMRTLBE")
def test_a_filter_that_is_slow(filtered, milter, connect, letter):
    milter.on(letter, Silence())
    client = connect(filtered(item={"timeouts": {"connect": "500ms", "command": "500ms", "content": "500ms"}}))
    began = time.monotonic()
    replies = [client.command(line) for line in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA")]
    if replies[-1] == 354:
        client.send("A: b\r\n\r\nbody\r\n.\r\n")
        replies.append(client.reply())
    assert any(r == "451 4.7.1" for r in replies) and 0.4 < time.monotonic() - began < 20


def test_nobody_at_the_socket(make_server, sink, connect, tmp_path):
    server = make_server(sink, milters=({"name": "m", "socket": f"unix:{tmp_path}/none"},), listeners={"milters": "m"})
    client = connect(server)
    assert client.command(f"MAIL FROM:<{SENDER}>") == "451 4.7.1"
    assert "milter=\"m\"" in server.log()


def test_octets_that_nobody_asked_for(filtered, milter, connect, sink):
    """An answer too many is not the answer to the next question."""
    milter.on("M", b"c", b"a")
    client = connect(filtered())
    assert client.command(f"MAIL FROM:<{SENDER}>") == 250
    time.sleep(0.2)
    assert client.command(f"RCPT TO:<{RECIPIENT}>") == "451 4.7.1"


def test_clients_that_leave_while_it_thinks(filtered, milter, connect):
    milter.on("E", Hang(0.3), b"c").on("R", Hang(0.3), b"c")
    server = filtered()
    for reset in (False, True):
        for end in ("RCPT", "DATA"):
            client = connect(server)
            client.command(f"MAIL FROM:<{SENDER}>")
            if end == "RCPT":
                client.send(f"RCPT TO:<{RECIPIENT}>\r\n")
            else:
                client.command(f"RCPT TO:<{RECIPIENT}>")
                client.command("DATA")
                client.send("A: b\r\n\r\nbody\r\n.\r\n")
            time.sleep(0.05)
            client.reset() if reset else client.close()
    time.sleep(0.5)
    server.stop()


def test_a_stop_while_it_thinks(filtered, milter, connect):
    milter.on("E", Hang(1), b"c")
    server = filtered()
    client = connect(server)
    client.envelope(SENDER, [RECIPIENT])
    client.send("A: b\r\n\r\nbody\r\n.\r\n")
    time.sleep(0.2)
    server.send_signal(15)
    assert client.reply() == 250
    wait_until(lambda: server.process.poll() is not None, 10, "the end")
    server.process = None
    server.assert_log_clean()


def test_a_filter_that_is_restarted(filtered, milter, connect, sink):
    """A session outlives its filter's connection: the next transaction makes another."""
    client = connect(filtered())
    client.message(SENDER, RECIPIENT, MESSAGE)
    for connection in milter.sockets:
        connection.shutdown(socket.SHUT_RDWR)
    time.sleep(0.1)
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert len(milter.sessions) == 2 and milter.letters() == "OCHMRTLLLNBE"


def test_pipelined_and_in_chunks(filtered, milter, connect, sink):
    client = connect(filtered())
    client.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nBDAT 6\r\nA: b\r\nBDAT 7 LAST\r\n\r\n.bodyQUIT\r\n")
    assert [client.reply().code for _ in range(5)] == [250, 250, 250, 250, 221]
    assert milter.said("L") == [b"A\0b\0"] and milter.said("B") == [b".body\r\n"]


def test_refused_chunks_are_read_over(filtered, milter, connect):
    milter.on("T", b"r")
    client = connect(filtered())
    client.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nBDAT 6\r\nA: b\r\nBDAT 7 LAST\r\n\r\n.bodyNOOP\r\n")
    assert [client.reply().code for _ in range(5)] == [250, 250, 550, 503, 250]


def test_two_listeners_and_a_reload(make_server, sink, milter, connect):
    server = make_server(sink, milters=(milter.item(),), listeners={})
    client = connect(server)
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert milter.sessions == []
    listener = {**server.settings["listeners"][0], "milters": "m"}
    server.write_config(listeners=(listener,))
    server.send_signal(1)
    wait_until(lambda: "reloaded" in server.log(), 10, "the reload")
    connect(server).message(SENDER, RECIPIENT, MESSAGE)
    assert milter.letters() == "OCHMRTLLLNBE"


def test_many_sessions_at_once(filtered, milter, connect, sink):
    milter.on("E", b"hX-A\0b\0", Hang(0.1), b"c")
    server = filtered()
    clients = [connect(server) for _ in range(40)]
    for client in clients:
        client.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n")
    for client in clients:
        assert [client.reply().code for _ in range(3)] == [250, 250, 354]
        client.send("A: b\r\n\r\n" + "body\r\n" * 1000 + ".\r\n")
    assert all(client.reply() == 250 for client in clients)
    sink.wait(40)


def test_check_says_whether_they_answer(make_server, milter, tmp_path):
    other = f"unix:{tmp_path}/none"
    milter.on("O", b"O" + bytes.fromhex("00000006000000010000037f"))
    server = make_server(start=False, milters=(milter.item("good"), {"name": "gone", "socket": other}))
    server.write_config()
    run = subprocess.run([BINARY, "check", "--config", server.config_path], capture_output=True, text=True, check=True)
    assert re.search(rf"good +{milter.endpoint} answers, version 6\n", run.stdout), run.stdout
    assert f"warning: milter gone: {other}: No such file or directory" in run.stdout
    milter.on("O", b"O" + bytes.fromhex("000000060000800000000000"))
    run = subprocess.run([BINARY, "check", "--config", server.config_path], capture_output=True, text=True, check=True)
    assert "does not speak the milter protocol, or wants what is not offered" in run.stdout


def test_a_unix_socket_in_the_sandbox(make_server, make_milter, sink, connect, tmp_path):
    milter = make_milter(path=f"/var/tmp/milter-{os.getpid()}.sock")
    server = make_server(sink, milters=(milter.item(),), listeners={"milters": "m"})
    assert SANITIZED or ('files="landlock' in server.log() and 'calls="seccomp"' in server.log())
    connect(server).message(SENDER, RECIPIENT, MESSAGE)
    assert milter.letters() == "OCHMRTLLLNBE"


def test_macros_of_tls_and_of_a_login(make_server, sink, milter, tmp_path):
    authority = Authority(str(tmp_path))
    passwords = tmp_path / "passwords"
    accounts.write(str(passwords), accounts.line("ann@client.test", "secret"))
    server = make_server(sink, milters=(milter.item(),), auth={"passwords": str(passwords)},
                         tls={"certificates": (authority.issue("mx.ringpost.test").item(),)},
                         listeners={"milters": "m", "role": "submission"})
    with Client(server.port) as client:
        client.hello("before.test")
        client.start_tls(authority.context())
        assert client.command("AUTH PLAIN " + base64.b64encode(b"\0ann@client.test\0secret").decode()) == 235
        client.message("ann@client.test", RECIPIENT, "Subject: one\r\n\r\nbody\r\n")
    macros = milter.macros()
    assert macros["{tls_version}"].startswith("TLSv1.") and macros["{cipher}"] and int(macros["{cipher_bits}"]) >= 128
    assert macros["{auth_type}"] == "PLAIN" and macros["{auth_authen}"] == "ann@client.test"
    assert milter.said("H") == [b"client.test\0"]  # what was said in clear text is forgotten
    names = [field.split(b"\0")[0] for field in milter.said("L")]
    assert names == [b"Date", b"Message-ID", b"Subject"]  # what we add to a submitted message is shown, and can be signed


def test_xclient_makes_another_client(filtered, milter, connect):
    client = connect(filtered(xclient_networks=("127.0.0.0/8",), relay_networks=("127.0.0.0/8", "2001:db8::/32")))
    client.message(SENDER, RECIPIENT, MESSAGE)
    assert client.command("XCLIENT ADDR=IPV6:2001:db8::7") == 220
    client.hello("behind.test")
    client.message(SENDER, RECIPIENT, MESSAGE, code=None)
    assert len(milter.sessions) == 2
    assert milter.said("C") == [b"[2001:db8::7]\x006\0\x002001:db8::7\0"] and milter.said("H") == [b"behind.test\0"]


@pytest.mark.parametrize("answer,codes", [(b"c", [250, 250]), (b"r", [550, 550]), (b"d", [250, 250])])
def test_lmtp_has_an_answer_for_each_recipient(filtered, milter, sink, answer, codes):
    milter.on("E", answer)
    server = filtered(protocol="lmtp")
    with Client(server.port) as client:
        assert client.command("LHLO client.test") == 250
        client.envelope(SENDER, [RECIPIENT, "y@sink.test"])
        client.send("A: b\r\n\r\nbody\r\n.\r\n")
        assert [client.reply().code for _ in codes] == codes
        assert client.command("NOOP") == 250
