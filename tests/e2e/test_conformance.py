"""What RFC 5321 and its extensions want of a receiver, asked in clear text and inside TLS. Written from the texts: codes and
their classes are compared, never words. docs/conformance.md says which requirement each test stands for."""
import random

import pytest
from harness.certificates import Authority
from harness.check import received_field
from harness.client import stuffed
from harness.door import HOST, PASSWORD, WAYS, Door
from harness.server import wait_until

BODY = "Subject: x\r\n\r\nHello.\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture(scope="module")
def leaf(authority):
    return authority.issue(HOST)


@pytest.fixture
def make_door(make_server, sink, authority, leaf):
    return lambda **changes: Door(make_server, sink, authority, leaf, **changes)


@pytest.fixture
def door(make_door):
    return make_door()


@pytest.fixture(params=WAYS)
def client(door, request):
    with door.connect(request.param) as opened:
        yield opened


@pytest.fixture(params=WAYS)
def silent(door, request):
    """A client that has not said EHLO."""
    with door.connect(request.param, hello=False) as opened:
        yield opened


def in_transaction(client):
    assert client.command("MAIL FROM:<a@a.test>") == "250 2.1.0"
    assert client.command("RCPT TO:<b@b.test>") == "250 2.1.5"


def assert_empty(client):
    """No transaction: nothing may follow but MAIL."""
    assert client.command("RCPT TO:<b@b.test>") == "503 5.5.1"
    assert client.command("DATA") in ("503 5.5.1", "554 5.5.1")
    assert client.command("BDAT 3 LAST\r\nx") == "503 5.5.1"


def finish(client, recipients=("b@b.test",), code=250):
    """DATA in a transaction that is still there."""
    assert client.command("DATA") == 354
    client.send(stuffed(BODY))
    assert client.reply() == code


# --- sessions (RFC 5321 3.1, 4.1.1, 4.1.4) --------------------------------------------------------------------------

def test_greeting_and_ehlo_begin_with_the_own_name(silent):
    assert silent.greeting == 220
    assert silent.greeting.text.split()[0] == HOST
    reply = silent.command("EHLO client.test")
    assert reply == 250 and reply.text.split()[0] == HOST
    reply = silent.command("HELO client.test")
    assert reply == 250 and len(reply.lines) == 1


@pytest.mark.parametrize("again", ["EHLO other.test", "HELO other.test", "RSET"])
def test_a_new_hello_is_a_reset(client, sink, again):
    in_transaction(client)
    assert client.command(again) == 250
    assert_empty(client)
    client.message("c@c.test", "d@d.test", BODY)
    assert sink.wait(1)[0].recipients == ["d@d.test"]


BAD_HELLOS = ["EHLO", "HELO", "EHLO ", "EHLO a b", "EHLO [1.2.3", "EHLO <x>", "EHLO a\x01b", "HELO a@b"]


def test_a_bad_hello_changes_nothing(client, sink):
    in_transaction(client)
    for bad in BAD_HELLOS:
        assert client.command(bad) == 501, bad
    finish(client)
    assert sink.wait(1)[0].sender == "a@a.test"


def test_no_name_is_refused_for_not_being_the_address(silent):
    for name in ("x", "[127.0.0.1]", "[192.0.2.1]", "[IPv6:2001:db8::1]", "elsewhere.example", "xn--bcher-kva.example"):
        assert silent.command(f"EHLO {name}") == 250, name


def test_before_ehlo(silent):
    assert silent.command("NOOP") == 250
    assert silent.command("RSET") == 250
    assert silent.command("VRFY b").code in (250, 252)
    assert silent.command("HELP").code in (211, 214, 502)
    assert silent.command("EXPN b").code in (250, 252, 502)
    assert silent.command("MAIL FROM:<a@a.test>") == "503 5.5.1"


def test_order_of_a_transaction(client, sink):
    assert_empty(client)
    assert client.command("DATA now") in ("501 5.5.4", "503 5.5.1")
    assert client.command("MAIL FROM:<a@a.test>") == 250
    assert client.command("DATA") in ("503 5.5.1", "554 5.5.1")
    assert client.command("MAIL FROM:<other@a.test>") == "503 5.5.1"
    assert client.command("RCPT TO:<b@b.test>") == 250
    assert client.command("MAIL FROM:<other@a.test>") == "503 5.5.1"
    assert client.command("DATA now") == "501 5.5.4"
    finish(client)
    message = sink.wait(1)[0]
    assert (message.sender, message.recipients) == ("a@a.test", ["b@b.test"])
    assert_empty(client)


NO_PART = ["NOOP", "NOOP with words", "VRFY b", "VRFY b\u00fc", "VRFY <b@b.test> SMTPUTF8", "EXPN list", "HELP", "HELP mail",
           "STARTTLS x", "AUTH", "XCLIENT ADDR=1.2.3.4", "XFORWARD ADDR=1.2.3.4", "ETRN b.test", "TURN", "SOML FROM:<a@a.test>",
           "XYZZY", "", "LHLO x.test"]


def test_what_is_no_part_of_it_leaves_a_transaction_alone(client, sink):
    """Row 7: a VRFY in the middle, in UTF-8 that nobody asked for."""
    in_transaction(client)
    for verb in NO_PART:
        client.send(f"{verb}\r\n".encode())
        assert client.reply().code not in (354, 334, 220), verb
    assert client.command("RCPT TO:<c@b.test>") == 250
    finish(client)
    assert sink.wait(1)[0].recipients == ["b@b.test", "c@b.test"]


def test_verbs_in_any_case(client, sink):
    for verb in ("eHlO x.test", "mAiL fRoM:<a@a.test> bOdY=7bit", "rCpT tO:<B@b.test>", "nOoP", "vRfY x"):
        assert client.command(verb).code in (250, 252), verb
    assert client.command("dAtA") == 354
    client.send(stuffed(BODY))
    assert client.reply() == 250
    assert client.command("rSeT") == 250
    assert client.command("qUiT") == 221
    assert sink.wait(1)[0].recipients == ["B@b.test"]


@pytest.mark.parametrize("before", [[], ["MAIL FROM:<a@a.test>"], ["MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>"]])
def test_quit_closes(client, sink, door, before):
    for line in before:
        assert client.command(line) == 250
    assert client.command("QUIT") == "221 2.0.0"
    assert client.at_end()
    assert sink.messages == []


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_the_stream_is_a_quit(door, sink, way):
    """What was complete is sent; what was not is not."""
    for end in ("", "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n", "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\r\n",
                "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 5\r\nabc\r\n", "MAIL"):
        with door.connect(way) as client:
            client.message("done@a.test", "done@b.test", BODY)
            client.send(end)
    assert {m.sender for m in sink.wait(5)} == {"done@a.test"}
    wait_until(lambda: door.server.metric("sessions") == 0, 5, "no session")
    door.server.wait_queue_empty()


# --- replies (RFC 5321 4.2, RFC 2034) -------------------------------------------------------------------------------

CATALOGUE = [
    ("XYZZY", ["500 5.5.2"]), ("MAILFROM:<a@a.test>", ["500 5.5.2"]), ("", ["500 5.5.2"]),
    ("EXPN x", ["502 5.5.1"]), ("TURN", ["500 5.5.2", "502 5.5.1"]),
    ("DATA now", ["501 5.5.4", "503 5.5.1"]), ("RSET now", ["501 5.5.4"]), ("QUIT now", ["501 5.5.4"]), ("EHLO", ["501 5.5.4"]),
    ("MAIL", ["501 5.5.4", "501 5.5.2"]), ("MAIL a@a.test", ["501 5.5.4", "501 5.5.2"]), ("MAIL FROM:a@a.test", ["501 5.1.7"]),
    ("MAIL FROM:<a@a.test", ["501 5.1.7"]), ("MAIL FROM:<a@>", ["501 5.1.7"]), ("MAIL FROM:<@a.test>", ["501 5.1.7"]),
    ("MAIL FROM:<a>", ["501 5.1.7"]), ("MAIL FROM:<a@a..test>", ["501 5.1.7"]), ("MAIL FROM:<a.@a.test>", ["501 5.1.7"]),
    ("MAIL FROM:<a@a.test> COLOUR=red", ["555 5.5.4"]), ("MAIL FROM:<a@a.test> =", ["501 5.5.4", "555 5.5.4"]),
    ("MAIL FROM:<a@a.test> BODY=9BIT", ["501 5.5.4"]), ("MAIL FROM:<a@a.test> SIZE=x", ["501 5.5.4"]),
    ("MAIL FROM:<a@a.test> SIZE=1 SIZE=1", ["501 5.5.4"]), ("MAIL FROM:<a@a.test> RET=ALL", ["501 5.5.4"]),
    ("MAIL FROM:<a@a.test> ENVID=+zz", ["501 5.5.4"]), ("MAIL FROM:<a@a.test> SIZE=99999999999", ["552 5.3.4"]),
    ("MAIL FROM:<a@a.test> SIZE=99999999999999999999999", ["501 5.5.4", "552 5.3.4"]),
    ("MAIL FROM:<a@a.test> MT-PRIORITY=10", ["501 5.5.4"]), ("MAIL FROM:<a@a.test> MT-PRIORITY=-10", ["501 5.5.4"]),
    ("MAIL FROM:<a@a.test> BY=0;R", ["501 5.5.4"]), ("MAIL FROM:<a@a.test> BY=-1;R", ["501 5.5.4"]),
    ("MAIL FROM:<a@a.test> BY=5;X", ["501 5.5.4"]), ("MAIL FROM:<a@a.test> BY=;N", ["501 5.5.4"]),
    ("MAIL FROM:<a@a.test> HOLDFOR=60", ["555 5.5.4"]),
    ("RCPT TO:<b@b.test>", ["503 5.5.1"]), ("DATA", ["503 5.5.1", "554 5.5.1"]), ("BDAT 0 LAST", ["503 5.5.1"]),
    ("AUTH PLAIN AGEAYg==", ["502 5.5.1", "503 5.5.1"]), ("NOOP x y", ["250 2.0.0"]),
    ("VRFY b@b.test", ["252 2.0.0", "252 2.1.5", "252 2.5.0"]),
]


def judge(cases, ask):
    """All cases that got another reply than one of theirs, at once."""
    wrong = []
    for case, replies in cases:
        reply = ask(case)
        if not any(reply == expected for expected in replies):
            wrong.append((case, replies, reply))
    assert not wrong, wrong


def test_each_command_has_one_reply_of_its_class(client):
    def ask(line):
        client.send(line + "\r\n" + "NOOP\r\n")
        reply = client.reply()
        assert client.reply() == "250 2.0.0", f"one reply, and the session goes on: {line}"
        assert_empty(client)
        return reply
    judge(CATALOGUE, ask)


RECIPIENTS = [
    ("b", ["501 5.1.3", "550 5.1.1"]), ("b@", ["501 5.1.3"]), ("@b.test", ["501 5.1.3"]), ("", ["501 5.1.3"]),
    ("b@b..test", ["501 5.1.3"]), (".b@b.test", ["501 5.1.3"]), ("b b@b.test", ["501 5.1.3"]), ("b@b_.test>x", ["501 5.1.3", "501 5.5.4"]),
    ("b@[1.2.3.4", ["501 5.1.3"]), ("b@[1.2.3.400]", ["501 5.1.3"]), ("b@[IPv6:zz::]", ["501 5.1.3"]), ("b@-b.test", ["501 5.1.3"]),
    ("l" * 65 + "@b.test", ["501 5.1.3"]), ("b@" + ".".join(["d" * 63] * 4), ["501 5.1.3"]), ("b@" + "d" * 64 + ".test", ["501 5.1.3"]),
    ("a@b@c.test", ["501 5.1.3"]), ('"b@b.test', ["501 5.1.3"]), ('"b"c@b.test', ["501 5.1.3"]), ("b@b.test\t", ["501 5.1.3", "501 5.5.4"]),
]


def test_recipient_syntax(client, sink):
    in_transaction(client)
    judge(RECIPIENTS, lambda address: client.command(f"RCPT TO:<{address}>"))
    finish(client)
    assert sink.wait(1)[0].recipients == ["b@b.test"]


PARAMETERS = [
    ("NOTIFY=NEVER,FAILURE", ["501 5.5.4"]), ("NOTIFY=SUCCESS,SUCCESS", ["501 5.5.4"]), ("NOTIFY=", ["501 5.5.4"]),
    ("NOTIFY=SOMETIMES", ["501 5.5.4"]), ("NOTIFY=NEVER NOTIFY=NEVER", ["501 5.5.4"]), ("ORCPT=b@b.test", ["501 5.5.4"]),
    ("ORCPT=rfc822;", ["501 5.5.4"]), ("ORCPT=;b", ["501 5.5.4"]), ("ORCPT=rfc822;b+4", ["501 5.5.4"]),
    ("COLOUR=red", ["555 5.5.4"]), ("SIZE=1", ["555 5.5.4"])]


def test_recipient_parameters(client):
    in_transaction(client)
    judge(PARAMETERS, lambda parameter: client.command(f"RCPT TO:<c@b.test> {parameter}"))
    finish(client)


def test_replies_of_own_domains(door):
    with door.connect_mx() as client:
        assert client.command("MAIL FROM:<a@a.test>") == "250 2.1.0"
        assert client.command("RCPT TO:<nobody@own.test>") == "550 5.1.1"
        assert client.command("RCPT TO:<b@b.test>") in ("550 5.7.1", "554 5.7.1")
        for name in ("Postmaster", "postmaster", "POSTMASTER@own.test", "anna@own.test", "@x.test,@y.test:ben@own.test"):
            assert client.command(f"RCPT TO:<{name}>") == "250 2.1.5", name
        finish(client)
    assert len(door.maildirs.wait("anna")) == 1


def test_replies_of_submission(door):
    with door.connect_submission() as client:
        assert client.command("MAIL FROM:<ann@a.test>") == "530 5.7.0"
        assert client.command("AUTH NONESUCH") == "504 5.5.4"
        assert client.command("AUTH") == "501 5.5.4"
        assert client.command("AUTH PLAIN") == 334
        assert client.command("*") == "501 5.7.0"
        assert client.command("AUTH PLAIN !").code == 501
        assert client.command("AUTH PLAIN AGFubkBhLnRlc3QAd3Jvbmc=") == "535 5.7.8"
        assert client.command("AUTH PLAIN AGFubkBhLnRlc3QAc2VjcmV0") == "235 2.7.0", PASSWORD
        assert client.command("AUTH PLAIN AGFubkBhLnRlc3QAc2VjcmV0") == "503 5.5.1"
        assert client.command("MAIL FROM:<other@a.test>") == "550 5.7.1"
        assert client.command("MAIL FROM:<ann@a.test> HOLDFOR=60 HOLDUNTIL=2030-01-01T00:00:00Z") == "501 5.5.4"
        assert client.command("MAIL FROM:<ann@a.test> HOLDFOR=99999999") == "501 5.5.4"
        assert client.command("MAIL FROM:<ann@a.test>") == 250
        assert client.command("AUTH PLAIN AGFubkBhLnRlc3QAc2VjcmV0") == "503 5.5.1"


def test_reply_lines_are_short_printable_and_of_one_code(client):
    """The harness itself requires CRLF, ASCII and one code on all lines of each reply; here the rest."""
    long = "x" * 400
    lines = [f"XYZZY{long}", f"MAIL FROM:<{long}@a.test>", f"MAIL FROM:<a@a.test> {long}=1", f"VRFY {long}", f"EHLO {long}",
             "EHLO client.test", f"NOOP {long}", f"AUTH {long}", f"BDAT 1{long}"]
    for line in lines:
        for text in client.command(line).lines:
            assert len(text) + 2 <= 512 and text.isprintable(), line


# --- addresses (RFC 5321 2.4, 3.3, 4.1.2, 4.5.3.1) ------------------------------------------------------------------

def test_local_parts_keep_their_case_and_quotes(client, sink):
    local = ["Bob.Smith+Tag", '"Bob Smith"', '"a\\"b"', '"a\\\\b"', '"@"', "!#$%&'*/=?^_`{|}~-", "l" * 64, '"' + "q" * 62 + '"']
    assert client.command("MAIL FROM:<Sender.X@A.Test>") == 250
    for part in local:
        assert client.command(f"RCPT TO:<{part}@b.test>") == 250, part
    assert client.command("RCPT TO:<@one.test,@two.test:routed@b.test>") == 250
    finish(client)
    message = sink.wait(1)[0]
    assert message.sender.partition("@")[0] == "Sender.X"
    assert sorted(r.rpartition("@")[0] for r in message.recipients) == sorted([*local, "routed"])


@pytest.mark.parametrize("way", WAYS)
def test_every_octet_in_an_address(door, sink, way):
    """RFC 5321 4.1.2: atext bare; printable ASCII in quotes; the rest never, and 8 bits only for who said SMTPUTF8."""
    atext = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~.")
    good = []
    with door.connect(way) as client:
        assert client.command("MAIL FROM:<a@a.test>") == 250
        for octet in range(256):
            if octet in b"\r\n":
                continue
            bare = b"x" + bytes([octet]) + b"y@b.test"
            quoted = b'"x' + bytes([octet]) + b'y"@b.test'
            pair = b'"x\\' + bytes([octet]) + b'y"@b.test'
            for address, valid in ((bare, octet in atext), (quoted, 32 <= octet < 127 and octet not in b'"\\'),
                                   (pair, 32 <= octet < 127)):
                if octet == ord("\\") and address is quoted:
                    valid = True  # the pair \y
                client.send(b"RCPT TO:<" + address + b">\r\n")
                reply = client.reply()
                if octet == 0:
                    assert reply.code in (500, 501), (address, reply)
                elif octet >= 128:
                    assert reply.code in (501, 553, 550), (address, reply)
                elif valid:
                    assert reply == 250, (address, reply)
                    good.append(address.decode())
                else:
                    assert reply.code in (501, 555), (address, reply)
        finish(client)
    wait_until(lambda: len(sink.recipients()) >= len(good), 20, "all recipients")
    assert sorted(set(sink.recipients())) == sorted(set(good))


def test_eight_bit_addresses_need_smtputf8(client):
    client.send("MAIL FROM:<\u00fc@a.test>\r\n".encode())
    assert client.reply() in ("553 5.6.7", "550 5.6.7")
    assert client.command("MAIL FROM:<a@a.test>") == 250
    client.send("RCPT TO:<\u00fc@b.test>\r\n".encode())
    assert client.reply() in ("553 5.6.7", "550 5.6.7")
    assert client.command("RSET") == 250
    client.send("MAIL FROM:<\u00fc@\u00fc.test> SMTPUTF8\r\n".encode())
    assert client.reply() == 250
    client.send("RCPT TO:<\u03b4@b.test>\r\n".encode())
    assert client.reply() == 250


@pytest.mark.parametrize("way", WAYS)
def test_recipients_beyond_the_limit(make_door, sink, way):
    """RFC 5321 4.5.3.1.10: 452 for the excess, the others stay; 4.5.3.1.8: never below a hundred."""
    door = make_door(listeners={"recipients_max": 100})
    with door.connect(way) as client:
        assert client.command("MAIL FROM:<a@a.test>") == 250
        replies = [client.command(f"RCPT TO:<b{n}@b.test>") for n in range(110)]
        assert all(reply == "250 2.1.5" for reply in replies[:100])
        assert all(reply == "452 4.5.3" for reply in replies[100:]), replies[100:]
        finish(client)
        assert_empty(client)
    wait_until(lambda: len(sink.recipients()) >= 100, 20, "all recipients")
    assert len(sink.recipients()) == 100


@pytest.mark.parametrize("way", WAYS)
def test_the_same_recipient_twice(make_door, sink, way):
    """Both are accepted and counted, one is delivered; domains have no case, local parts do."""
    door = make_door(listeners={"recipients_max": 100})
    with door.connect(way) as client:
        assert client.command("MAIL FROM:<a@a.test>") == 250
        for recipient in ("b@b.test", "b@B.Test", "B@b.test", "b@b.test", "c@b.test"):
            assert client.command(f"RCPT TO:<{recipient}>") == "250 2.1.5"
        replies = [client.command("RCPT TO:<b@b.test>") for _ in range(100)]
        assert all(reply == "250 2.1.5" for reply in replies[:95])
        assert all(reply == "452 4.5.3" for reply in replies[95:])
        finish(client)
        assert_empty(client)
        client.message("a@a.test", "b@b.test", BODY)  # the next transaction knows nothing of it
    wait_until(lambda: len(sink.recipients()) >= 4, 20, "all recipients")
    door.server.wait_queue_empty()
    assert sorted(sink.recipients()) == ["B@b.test", "b@b.test", "b@b.test", "c@b.test"]


def test_line_lengths(client, sink):
    """RFC 5321 4.5.3.1.4-6, RFC 3461 5: what must be taken, and 1000 octets of text with CRLF, not more."""
    assert client.command("NOOP " + "x" * 505) == 250  # 512
    envelope_id = "e" * 100
    line = f"MAIL FROM:<{'l' * 64}@{'.'.join(['d' * 60] * 3)}.test> RET=HDRS ENVID={envelope_id} BODY=8BITMIME SIZE=100 MT-PRIORITY=-3"
    assert client.command(line) == 250
    orcpt = "rfc822;" + "o" * 493
    assert client.command(f"RCPT TO:<b@b.test> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT={orcpt}") == 250
    assert client.command(f"RCPT TO:<{'r' * 64}@{'.'.join(['d' * 60] * 3)}.test> NOTIFY=NEVER") == 250
    assert client.command("DATA") == 354
    text = "y" * 998 + "\r\n"
    client.send("Subject: x\r\n\r\n" + text + "." + "." + "y" * 997 + "\r\n.\r\n")
    assert client.reply() == 250, "the stuffed dot is not counted"
    assert client.command("MAIL FROM:<a@a.test>") == 250
    assert client.command("RCPT TO:<b@b.test>") == 250
    assert client.command("DATA") == 354
    client.send("Subject: x\r\n\r\n" + "y" * 999 + "\r\n.\r\n")
    assert client.reply() in ("550 5.6.0", "554 5.6.0", "550 5.6.11", "500 5.6.0")
    assert_empty(client)
    sink.wait(1)


# --- the end of a message (RFC 5321 4.1.1.4; rows 5, 6, 8, 9) ----------------------------------------

BAD_TEXTS = {"LF": b"a\nb\r\n", "CR": b"a\rb\r\n", "NUL": b"a\0b\r\n", "long": b"y" * 999 + b"\r\n"}


@pytest.mark.parametrize("bad", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_refused_at_the_dot_leaves_nothing(client, sink, bad):
    """Row 6: a second message without MAIL, after a refusal at the end of the first."""
    in_transaction(client)
    assert client.command("DATA") == 354
    client.send(b"Subject: x\r\n\r\n" + bad + b".\r\n")
    assert client.reply().code in (550, 554)
    assert_empty(client)
    client.message("c@c.test", "d@d.test", BODY)
    message = sink.wait(1)[0]
    assert (message.sender, message.recipients) == ("c@c.test", ["d@d.test"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["too big", "loop"])
def test_refused_whole_leaves_nothing(make_door, sink, way, how):
    door = make_door(listeners={"message_bytes_max": "64K"})
    text = "Received: x\r\n" * 100 + BODY if how == "loop" else BODY + "x\r\n" * 30000
    for verb in ("DATA", "BDAT"):
        with door.connect(way) as client:
            in_transaction(client)
            if verb == "DATA":
                assert client.command("DATA") == 354
                client.send(stuffed(text))
            else:
                client.send(f"BDAT {len(text)} LAST\r\n{text}")
            assert client.reply() == ("554 5.4.6" if how == "loop" else "552 5.3.4")
            assert_empty(client)
            client.message("c@c.test", "d@d.test", BODY)
    assert {m.sender for m in sink.wait(2)} == {"c@c.test"}


CHUNKS = {
    "bare LF, then more": ["BDAT 3\r\na\nb", "BDAT 3\r\nab\n", "BDAT 2 LAST\r\n\r\n"],
    "NUL, then the rest pipelined": ["BDAT 3\r\na\0b", "BDAT 10\r\n0123456789", "BDAT 0 LAST\r\n"],
    "the colon is missing, then an error": ["BDAT 19\r\nno header \r\n\r\r\n\r\n\r\n", "BDAT 5 LAST\r\nabcde"],
    "a long line in two": ["BDAT 600\r\n" + "y" * 600, "BDAT 600\r\n" + "y" * 600, "BDAT 2 LAST\r\n\r\n"],
    "CR at the end of a chunk and no LF": ["BDAT 2\r\na\r", "BDAT 3 LAST\r\nb\r\n"],
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_refused_chunks_are_read_and_forgotten(client, sink, chunks):
    """RFC 3030 2, rows 5 and 8: every chunk is read, answered, and nothing remains."""
    in_transaction(client)
    client.send("".join(chunks))
    codes = [client.reply().code for _ in chunks]
    assert codes[-1] >= 500, codes
    assert client.command("NOOP") == 250, "the octets of the chunks were not taken for commands"
    assert_empty(client)
    in_transaction(client)
    finish(client)
    assert len(sink.wait(1)) == 1
    assert sink.messages[0].content.endswith(b"Subject: x\r\n\r\nHello.\r\n")


@pytest.mark.parametrize("content", [".", ".\r\n", "\r\n.\r\n", "a\r\n.\r\nMAIL FROM:<evil@a.test>\r\n", "..\r\n", "\r\n..\r\n.", ""])
def test_a_dot_in_a_chunk_is_text(client, sink, content):
    """Row 9."""
    header = "Subject: x\r\n\r\n"
    for pieces in ([header + content], [header, content], [header, *content]):
        in_transaction(client)
        client.send("".join(f"BDAT {len(piece)}\r\n{piece}" for piece in pieces) + "BDAT 0 LAST\r\n")
        assert [client.reply().code for _ in range(len(pieces) + 1)] == [250] * (len(pieces) + 1)
        assert_empty(client)
    for message in sink.wait(3):
        expected = header + content + ("" if content.endswith("\r\n") or not content else "\r\n")
        assert received_field(message.content)[1] == expected.encode()


def test_order_of_chunks(client, sink):
    """RFC 3030 2: DATA, MAIL and RCPT within chunks, chunks after the last, RSET, and a message of no octet."""
    in_transaction(client)
    assert client.command("BDAT 3\r\nx") == 250
    for line in ("DATA", "MAIL FROM:<c@c.test>", "RCPT TO:<c@c.test>"):
        assert client.command(line) == "503 5.5.1", line
    assert client.command("RSET") == 250
    assert_empty(client)
    in_transaction(client)
    assert client.command("BDAT 14\r\nSubject: x\r\n") == 250
    assert client.command("NOOP") == 250
    client.send("BDAT 0 LAST\r\n")
    assert client.reply() == 250
    assert client.command("BDAT 3\r\nx") == "503 5.5.1"
    in_transaction(client)
    client.send("BDAT 0 LAST\r\n")
    assert client.reply() == 250
    assert client.command("BDAT 3 LAST\r\nx") == "503 5.5.1"
    assert client.command("MAIL FROM:<a@a.test> BODY=BINARYMIME") == 250
    assert client.command("RCPT TO:<b@b.test>") == 250
    assert client.command("DATA") == "503 5.5.1"
    sink.wait(2)


@pytest.mark.parametrize("way", WAYS)
def test_chunk_sizes_that_are_none(door, sink, way):
    """501, and where the next command begins nobody knows then: the session may end, the transaction must."""
    for size in ("", "-1", "+1", "0x10", "1.5", "1e3", "4294967296000000000000", "18446744073709551616", "LAST", "1 LAST LAST",
                 "1 FIRST", "1LAST", "\t1"):
        with door.connect(way) as client:
            in_transaction(client)
            reply = client.command(f"BDAT {size}")
            assert reply.code in (500, 501, 552), (size, reply)
            try:
                assert client.command("NOOP") == 250, size
            except OSError:  # Closed among them
                pass
    assert sink.messages == []


def test_pipelined_group_with_refused_recipients(client, sink):
    """RFC 2920 3.1: replies in order; DATA only with a recipient."""
    client.send("MAIL FROM:<a@a.test>\r\nRCPT TO:<bad>\r\nRCPT TO:<worse@>\r\nDATA\r\nRSET\r\n"
                "MAIL FROM:<a@a.test>\r\nRCPT TO:<bad>\r\nRCPT TO:<b@b.test>\r\nNOOP\r\nDATA\r\n")
    codes = [client.reply().code for _ in range(10)]
    assert codes[:3] == [250, 501, 501] and codes[3] in (503, 554) and codes[4:] == [250, 250, 501, 250, 250, 354], codes
    client.send(stuffed(BODY) + b"MAIL FROM:<n@a.test>\r\nRCPT TO:<n@b.test>\r\nRSET\r\nQUIT\r\n")
    assert [client.reply().code for _ in range(5)] == [250, 250, 250, 250, 221]
    assert sink.wait(1)[0].recipients == ["b@b.test"]


# --- what passes, and how (RFC 5321 4.4, 4.5.2, 4.5.5, 6.3) ---------------------------------------------------------

def test_null_sender_and_header_stay_as_they_are(client, sink):
    content = ("X-One: 1\r\nSubject:folded\r\n\tonce\r\nReturn-Path: <forged@x.test>\r\nBcc: hidden@b.test\r\nX-One: 2\r\n\r\n"
               ".dot\r\n..\r\n.\r\ntrailing \t\r\n\r\n\r\n")
    client.message("", "b@b.test", content)
    message = sink.wait(1)[0]
    assert message.sender == ""
    field, rest = received_field(message.content)
    assert rest == content.encode()
    assert field["recipient"] == b"b@b.test" and field["helo"] == b"client.test"


def test_for_is_there_with_one_recipient_only(client, sink):
    client.message("a@a.test", ["b@b.test", "c@b.test"], BODY)
    assert received_field(sink.wait(1)[0].content)[0]["recipient"] is None


def test_hops_below_a_hundred_are_no_loop(client, sink):
    client.message("a@a.test", "b@b.test", "Received: x\r\n" * 98 + BODY)
    sink.wait(1)


# --- the property: complete or empty (row 5) ------------------------------------------------------------------------

class Model:
    """What a client may believe of its session, by RFC 5321 alone, reply by reply."""

    def __init__(self):
        self.sender, self.recipients, self.chunks, self.accepted = None, [], None, []

    def clear(self):
        self.sender, self.recipients, self.chunks = None, [], None

    def replied(self, kind, value, code):
        positive = code < 400
        if kind in ("EHLO", "RSET"):
            assert code == 250, (kind, code)
            self.clear()
        elif kind == "MAIL":
            assert positive == (self.sender is None), (kind, value, code)
            self.sender = self.sender or value
        elif kind == "RCPT":
            assert positive == (self.sender is not None and self.chunks is None), (kind, value, code)
            if positive:
                self.recipients.append(value)
        elif kind == "BAD":
            assert 500 <= code, (value, code)
        elif kind == "DATA":
            assert (code == 354) == bool(self.recipients and self.chunks is None), (kind, code)
        elif kind in ("BDAT", "LAST"):
            assert positive == bool(self.recipients and b"\n\n" not in value), (kind, value, code)
            self.chunks = (self.chunks or b"") + value if positive else None
            if kind == "LAST":
                self.ended(self.chunks, code)
            elif not positive:
                self.clear()  # RFC 3030 2: the message has failed; what is left of it must not be half of it
        elif kind == "SAME":
            assert code in (214, 250, 252, 502), (value, code)

    def ended(self, content, code):
        if code == 250:
            self.accepted.append((self.sender, sorted(self.recipients), content))
        self.clear()


def random_step(random_source, count):
    kind = random_source.choice(["EHLO", "RSET", "MAIL", "MAIL", "RCPT", "RCPT", "RCPT", "BAD", "BDAT", "BDAT", "LAST", "SAME"])
    unique = f"u{count}"
    if kind == "MAIL":
        value, line = f"{unique}@a.test", f"MAIL FROM:<{unique}@a.test>"
    elif kind == "RCPT":
        value, line = f"{unique}@b.test", f"RCPT TO:<{unique}@b.test>"
    elif kind == "BAD":
        value = random_source.choice(["XYZZY", "MAIL FROM:<", "RCPT TO:<x>", "RSET x", "EHLO", "MAIL FROM:<a@a.test> X=1", "DATA x",
                                      "RCPT TO:<a\x01@b.test>", "NO\0OP", "NOOP\nRSET", "z" * 3000])
        line = value
    elif kind in ("BDAT", "LAST"):
        value = b"".join(random_source.choice([b"abc\r\n", b".\r\n", b"\r\n", b"\r\n.\r\n"]) for _ in range(random_source.randrange(4)))
        if random_source.random() < 0.2:
            value += b"\n\n"
        return kind, value, f"BDAT {len(value)}{' LAST' if kind == 'LAST' else ''}\r\n".encode() + value
    elif kind == "SAME":
        value = line = random_source.choice(["NOOP", "VRFY x", "HELP", "EXPN x"])
    else:
        value, line = None, {"EHLO": "EHLO x.test", "RSET": "RSET"}[kind]
    return kind, value, line.encode() + b"\r\n"


def random_session(client, model, random_source, steps):
    """Groups of commands in pieces cut anywhere; DATA ends a group; returns at a disconnection of our own."""
    count = 0
    while count < steps:
        group = [random_step(random_source, f"{id(client) % 997}.{count + n}") for n in range(random_source.randrange(1, 12))]
        count += len(group)
        if random_source.random() < 0.4:
            group.append(("DATA", None, b"DATA\r\n"))
        wire = b"".join(step[2] for step in group)
        cuts = sorted(random_source.sample(range(1, len(wire)), min(len(wire) - 1, random_source.randrange(4))))
        for begin, end in zip([0, *cuts], [*cuts, len(wire)]):
            client.send(wire[begin:end])
        for kind, value, _ in group:
            code = client.reply().code
            model.replied(kind, value, code)
        if code == 354:
            content = b"x\r\n" * random_source.randrange(3) + random_source.choice([b"", b"", b"a\nb\r\n", b"a\0\r\n", b"\r\r\n"])
            if random_source.random() < 0.1:
                client.send(content)
                return
            client.send(content + b".\r\n")
            code = client.reply().code
            assert (code == 250) == (b"a\n" not in content and b"\0" not in content and b"\r\r" not in content), content
            model.ended(content, code)


@pytest.mark.parametrize("way", WAYS)
def test_the_envelope_is_complete_or_empty(door, sink, way):
    """Random commands, faults and disconnections: every reply is the one that follows from those before, and what arrives
    is what was accepted, each message with its own envelope."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    random_source = random.Random(seed)
    accepted = []
    for _ in range(25):
        model = Model()
        client = door.connect(way)
        random_session(client, model, random_source, 60)
        accepted += model.accepted
        if random_source.random() < 0.5:
            client.reset()
        else:
            client.close()
    door.server.wait_queue_empty()
    got = sorted((m.sender, sorted(m.recipients), received_field(m.content)[1]) for m in sink.messages)
    expected = sorted((sender, recipients, content if content.endswith(b"\r\n") or not content else content + b"\r\n")
                      for sender, recipients, content in accepted)
    assert accepted and got == expected
