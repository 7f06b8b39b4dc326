"""Exim and OpenSMTPD on both sides of us, each in an overlay over the system's root, as the benchmark has them. As root."""
import os
import shutil
import sys
import tempfile

import pytest
from harness.check import received_field
from harness.client import Client
from harness.server import DIRECTORY, wait_until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
import lab  # noqa: E402
import peers  # noqa: E402

TEXT = "Subject: peers\r\nFrom: a@a.test\r\nTo: b@b.test\r\n\r\n.\r\n..\r\n.dots\r\n" + "x" * 900 + "\r\nlast\r\n"


class Room:
    """What bench/lab's Lab is to the benchmark."""

    def __init__(self, directory):
        self.directory, self.processes = directory, []

    def path(self, name):
        return os.path.join(self.directory, name)


@pytest.fixture(params=[peers.Exim, peers.OpenSmtpd], ids=["exim", "opensmtpd"])
def peer(request):
    if os.geteuid() != 0:
        pytest.skip("a root of its own needs root")
    peer = request.param()
    try:
        peer.prepare()
    except (lab.Failed, OSError) as error:
        pytest.skip(f"{peer.name} cannot be had here: {str(error)[-200:]}")
    peer.room = Room(tempfile.mkdtemp(prefix="peer-", dir=DIRECTORY))
    yield peer
    if peer.process is not None:
        peer.stop()
    shutil.rmtree(peer.room.directory, ignore_errors=True)


def start(peer, port):
    peer.start(peer.room, port)
    return peer.port


def say(port, recipients, content=TEXT):
    with Client(port, timeout=60) as client:
        client.hello()
        client.message("a@a.test", recipients, content)


def test_it_sends_to_us(peer, make_server, sink):
    """Exim by BDAT, in one connection or several; what it queued arrives whole."""
    server = make_server(sink)
    port = start(peer, server.port)
    for number in range(3):
        say(port, [f"b{number}@b.test", f"c{number}@b.test"])
    wait_until(lambda: server.metric("recipients_accepted_total") == 6, 60, "its mail")
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == sorted(f"{letter}{number}@b.test" for number in range(3) for letter in "bc")
    for message in sink.messages:
        fields, content = received_field(message.content)
        assert fields["protocol"] == b"ESMTP" and content.endswith(TEXT.split("\r\n\r\n", 1)[1].encode())


def test_it_takes_from_us(peer, make_server, make_sink):
    last = make_sink()
    port = start(peer, last.port)
    server = make_server(None, routes=({"domain": "*", "next_hop": f"127.0.0.1:{port}"},))
    for number in range(3):
        say(server.port, [f"b{number}@b.test"])
    server.wait_queue_empty(60)
    assert server.metric("recipients_delivered_total") == 3
    for message in last.wait(3, 60):
        assert message.content.endswith(TEXT.split("\r\n\r\n", 1)[1].encode())
