"""LMTP (RFC 2033) as a server, by TCP and by a unix socket."""
import os
import stat
import subprocess

import pytest
from harness.check import received_field
from harness.client import Client, stuffed
from harness.load import program
from harness.server import free_port

BODY = "Subject: lmtp\r\n\r\nHello.\r\n"


@pytest.fixture
def lmtp(make_server, sink):
    server = make_server(sink, start=False)
    server.lmtp_port = free_port()
    server.lmtp_path = os.path.join(server.directory, "lmtp.sock")
    server.write_config(listeners=(
        {"name": "smtp", "address": f"127.0.0.1:{server.port}"},
        {"name": "tcp", "address": f"127.0.0.1:{server.lmtp_port}", "protocol": "lmtp"},
        {"name": "local", "address": f"unix:{server.lmtp_path}", "protocol": "lmtp", "socket_mode": "0600"},
    ))
    server.start()
    return server


def hello(client):
    reply = client.command("LHLO client.test")
    assert reply.code == 250
    return reply


def where(server, kind):
    return server.lmtp_port if kind == "tcp" else server.lmtp_path


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_one_reply_for_each_accepted_recipient(lmtp, sink, kind):
    with Client(where(lmtp, kind)) as client:
        assert client.command("EHLO client.test") == 500
        assert client.command("HELO client.test") == 500
        hello(client)
        assert client.command("MAIL FROM:<a@a.test>") == 250
        replies = [client.command(f"RCPT TO:<{name}>").code for name in ("b@b.test", "bad(@b.test", "c@b.test", "d@b.test")]
        assert replies == [250, 501, 250, 250], "whoever may open the socket may relay"
        assert client.command("DATA") == 354
        client.send(stuffed(BODY))
        ends = [client.reply() for _ in range(3)]
        assert [end.code for end in ends] == [250] * 3
        assert client.command("NOOP") == 250, "and no reply more"
    message = sink.wait(1)[0]
    assert sorted(message.recipients) == ["b@b.test", "c@b.test", "d@b.test"]
    field = received_field(message.content)[0]
    assert (field["protocol"], field["peer"]) == (b"LMTP", b"127.0.0.1" if kind == "tcp" else None)
    assert lmtp.wait_events(lambda e: e["event"] == "reception")[0]["client"] == ("127.0.0.1" if kind == "tcp" else "")


def test_one_reply_for_each_of_the_same(lmtp, sink):
    """RFC 2033 4.2 counts RCPT commands, not recipients."""
    with Client(lmtp.lmtp_port) as client:
        hello(client)
        client.send("MAIL FROM:<a@a.test>\r\n" + "RCPT TO:<b@b.test>\r\n" * 3 + "DATA\r\n")
        assert [client.reply().code for _ in range(5)] == [250, 250, 250, 250, 354]
        client.send(stuffed(BODY) + b"NOOP\r\nVRFY x\r\n")
        assert [client.reply().code for _ in range(5)] == [250, 250, 250, 250, 252]
    assert sink.wait(1)[0].recipients == ["b@b.test"]
    lmtp.wait_queue_empty()
    assert len(sink.messages) == 1


def test_no_recipient_no_data(lmtp):
    with Client(lmtp.lmtp_port) as client:
        hello(client)
        client.command("MAIL FROM:<a@a.test>")
        assert client.command("DATA") == 503


def test_refusal_at_the_dot_is_said_for_each(lmtp, sink):
    with Client(lmtp.lmtp_port) as client:
        hello(client)
        client.command("MAIL FROM:<a@a.test>")
        for name in "bcd":
            assert client.command(f"RCPT TO:<{name}@b.test>") == 250
        assert client.command("DATA") == 354
        client.send(b"Subject: x\r\n\r\nbare\nline feed\r\n.\r\n")
        assert [client.reply().code for _ in range(3)] == [550] * 3
        assert client.command("RCPT TO:<b@b.test>") == 503
    assert not sink.messages


def test_socket_file(lmtp):
    mode = os.stat(lmtp.lmtp_path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    lmtp.restart()
    with Client(lmtp.lmtp_path) as client:
        hello(client)
    lmtp.kill()
    assert os.path.exists(lmtp.lmtp_path)
    lmtp.start()  # what a crash left is no obstacle
    with Client(lmtp.lmtp_path) as client:
        hello(client)
        client.command("QUIT")
    lmtp.stop()
    assert not os.path.exists(lmtp.lmtp_path)


def test_swaks(lmtp, sink):
    words = [program("swaks"), "--protocol", "LMTP", "--server", "127.0.0.1", "--port", str(lmtp.lmtp_port),
             "--from", "a@a.test", "--to", "b@b.test,c@b.test", "--body", "by swaks"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout
    assert sorted(sink.wait(1)[0].recipients) == ["b@b.test", "c@b.test"]
