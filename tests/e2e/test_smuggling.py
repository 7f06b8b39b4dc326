"""Bare CR, bare LF and NUL never end a message, never pass, and never let a second message in behind the first.

A sender that believes in another end of data than the server can smuggle a message with an envelope of its choice. So each
odd form around the dot is sent twice over: with a smuggled transaction behind it and the true end after that. The server
must answer with exactly one refusal, and must still be in step with the client afterwards.
"""
import pytest
from harness.client import Client, send
from harness.server import wait_until

FORMS = {
    "LF . LF": b"\n.\n", "LF . CRLF": b"\n.\r\n", "CRLF . LF": b"\r\n.\n", "CR . CR": b"\r.\r", "CR . CRLF": b"\r.\r\n",
    "CRLF . CR": b"\r\n.\r", "LF . CR": b"\n.\r", "CR . LF": b"\r.\n", "LF CR . CRLF": b"\n\r.\r\n",
    "CRLF . CR CR LF": b"\r\n.\r\r\n", "CR LF CR . CRLF": b"\r\n\r.\r\n", "CRLF NUL . CRLF": b"\r\n\0.\r\n",
    "CRLF . NUL CRLF": b"\r\n.\0\r\n", "CRLF LF . CRLF": b"\r\n\n.\r\n", "LF LF . LF LF": b"\n\n.\n\n",
    "CRLF . LF CRLF": b"\r\n.\n\r\n", "CR CR . CR CR": b"\r\r.\r\r", "CR NUL LF . CRLF": b"\r\0\n.\r\n",
}
SMUGGLED = b"MAIL FROM:<evil@evil.test>\r\nRCPT TO:<victim@b.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\n"


@pytest.fixture
def server(make_server, sink):
    return make_server(sink, listeners={"errors_max": 1000})


def smuggle(client, wire):
    """Sends `wire` as a message. The reply to its true end; afterwards the session is in step."""
    client.envelope("a@a.test", ["b@b.test"])
    client.send(wire)
    reply = client.reply()
    assert client.command("NOOP") == 250, "one reply for one message"
    assert client.command("RCPT TO:<c@b.test>") == 503, "the envelope is empty"
    return reply


@pytest.mark.parametrize("split", [False, True], ids=["whole", "cut at the form"])
def test_no_form_ends_a_message(server, sink, split):
    with Client(server.port) as client:
        client.hello()
        for name, form in FORMS.items():
            # The inner transaction's own final dot is the true end: all of it is one message's text.
            wire = b"Subject: outer\r\n\r\ntext" + form + SMUGGLED
            if split:
                client.envelope("a@a.test", ["b@b.test"])
                at = wire.index(form)
                for start, end in ((0, at + 1), (at + 1, at + len(form)), (at + len(form), len(wire))):
                    client.send(wire[start:end])
                reply = client.reply()
                assert client.command("NOOP") == 250, name
            else:
                reply = smuggle(client, wire)
            assert reply.code // 100 == 5 and reply.status in ("5.6.11", "5.6.0"), (name, reply)
        client.message("a@a.test", "good@b.test", "Subject: good\r\n\r\ngood\r\n")
    server.wait_queue_empty()
    assert [message.recipients for message in sink.messages] == [["good@b.test"]]
    assert server.metric("messages_rejected_total") == len(FORMS)
    assert server.metric("messages_accepted_total") == 1


@pytest.mark.parametrize("octets", [b"a\nb", b"a\rb", b"a\0b", b"\n", b"\r", b"\0", b"a\r\r\nb", b"\ra", b"\na"])
def test_octets_that_never_pass(server, sink, octets):
    """In the header, in the body, in the first line, in the last, with and without dots around."""
    with Client(server.port) as client:
        client.hello()
        for wire in (octets + b"\r\n.\r\n", b"Subject: x" + octets + b"\r\n\r\nbody\r\n.\r\n",
                     b"Subject: x\r\n\r\n" + octets + b"\r\n.\r\n", b"x\r\n..\r\n" + octets + b"..\r\n..\r\n.\r\n"):
            reply = smuggle(client, wire)
            assert reply.code // 100 == 5, (wire, reply)
    assert sink.messages == []


def test_too_big_message_does_not_open_the_door(make_server, sink):
    """What is skipped because the message is too long already is skipped to its true end."""
    server = make_server(sink, listeners={"message_bytes_max": "64K", "errors_max": 1000})
    with Client(server.port) as client:
        client.hello()
        for form in FORMS.values():
            reply = smuggle(client, b"Subject: big\r\n\r\n" + (b"x" * 70 + b"\r\n") * 1000 + b"text" + form + SMUGGLED)
            assert reply.code // 100 == 5
    assert sink.messages == []


def test_long_lines_are_refused(server, sink):
    with Client(server.port) as client:
        client.hello()
        assert smuggle(client, b"x" * 999 + b"\r\n.\r\n").code == 554
        assert smuggle(client, b"x" * 1000000 + b"\r\n.\r\n").code == 554
        client.message("a@a.test", "b@b.test", "x" * 998)
    assert len(sink.wait(1)) == 1


@pytest.mark.parametrize("line", [
    b"NOOP\n", b"NOOP\r", b"MAIL FROM:<a@a.test>\nRCPT TO:<b@b.test>\r\n", b"NOOP\0\r\n", b"NO\rOP\r\n", b"\nNOOP\r\n",
])
def test_commands_end_in_crlf_only(server, sink, line):
    with Client(server.port) as client:
        client.hello()
        client.send(line if line.endswith(b"\r\n") else line + b"\r\n")
        assert client.reply() == "500 5.5.2"
        assert client.command("RCPT TO:<b@b.test>") == 503, "nothing behind a bare LF was executed"


@pytest.mark.parametrize("address", ["a\\@b.test", "a@b.test\r", "a@b .test", "a b@b.test", "a@b.test\0", "\x07@b.test", "é@b.test"])
def test_addresses_that_could_become_something_else(server, sink, address):
    with Client(server.port) as client:
        client.hello()
        for command in f"MAIL FROM:<{address}>", f"RCPT TO:<{address}>":
            if command.startswith("RCPT"):
                assert client.command("MAIL FROM:<a@a.test>") == 250
            assert client.command(command).code // 100 == 5, command
    assert sink.sessions == []


def test_what_a_relay_sends_is_strict(server, sink):
    """Of all that was accepted, every line of every conversation with the next hop ends in CRLF and has no odd octet."""
    bodies = ["", ".\r\n", "x\r\n.\r\n..\r\n", "last line without its end", "\r\n\r\n"]
    for body in bodies:
        send(server.port, "a@a.test", ["b@b.test"], body)
    for message in sink.wait(len(bodies)):
        assert message.wire.endswith(b"\r\n.\r\n")
        assert b"\0" not in message.wire
        assert message.wire.replace(b"\r\n", b"").count(b"\r") == message.wire.replace(b"\r\n", b"").count(b"\n") == 0
    wait_until(lambda: server.metric("queued_recipients") == 0, 10, "an empty queue")
