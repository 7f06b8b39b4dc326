"""Mail for domains of ours ends in Maildirs: complete, once, and durable before the queue forgets it."""
import os
import stat

import pytest
from harness.client import Client, send
from harness.maildir import Maildirs
from harness.server import wait_until

HEADER = "Subject: test\r\nFrom: <a@a.test>\r\n\r\n"

BODIES = {
    "plain": HEADER + "Hello.\r\n",
    "nothing at all": "",
    "no body": "Subject: x\r\n",
    "dots": HEADER + ".\r\n..\r\n...\r\n.a\r\na.\r\n",
    "one dot": ".\r\n",
    "every octet but NUL, CR and LF": HEADER.encode() + bytes(b for b in range(1, 256) if b not in (10, 13)) + b"\r\n",
    "longest line": HEADER + "x" * 998 + "\r\n" + "." + "y" * 997 + "\r\n",
    "several chunks of dots": HEADER + ".\r\n" * 60000,
    "several extents": HEADER + ("." + "z" * 75 + "\r\n") * 14000,
}


@pytest.fixture
def maildirs(tmp_path):
    return Maildirs(tmp_path)


@pytest.fixture
def own(make_server, sink, maildirs):
    return make_server(sink, domains=(maildirs.settings,))


def split(content):
    """(the two lines above, our Received field, the rest) of a delivered message."""
    return_path, delivered_to, rest = content.split(b"\n", 2)
    lines = rest.split(b"\n")
    end = next(i for i in range(1, len(lines)) if not lines[i].startswith((b" ", b"\t")))
    return (return_path, delivered_to), b"\n".join(lines[:end]), b"\n".join(lines[end:])


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bytes_are_kept(own, maildirs, body):
    send(own.port, "Sender@A.test", ["anna@own.test"], body, parameters=" BODY=8BITMIME")
    content = maildirs.wait("anna")[0]
    above, received, rest = split(content)
    assert above == (b"Return-Path: <Sender@a.test>", b"Delivered-To: anna@own.test")
    assert received.startswith(b"Received: from ")
    data = body.encode() if isinstance(body, str) else body
    assert rest == data.replace(b"\r\n", b"\n")
    assert b"\r" not in received
    own.wait_queue_empty()
    assert maildirs.files("anna", "tmp") == []


def test_a_reader_of_maildirs_reads_it(own, maildirs):
    send(own.port, "", ["anna@own.test"], BODIES["plain"])
    maildirs.wait("anna")
    message = next(iter(maildirs.box("anna")))
    assert message["Subject"] == "test" and message["Return-Path"] == "<>" and message.get_payload() == "Hello.\n"


def test_directories_are_for_their_owner(own, maildirs):
    send(own.port, "a@a.test", ["anna@own.test"], BODIES["plain"])
    path = maildirs.path("anna")
    maildirs.wait("anna")
    for name in (maildirs.root, os.path.dirname(path), path, path + "/tmp", path + "/new", path + "/cur"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o700, name
    assert stat.S_IMODE(os.stat(maildirs.files("anna")[0]).st_mode) == 0o600


def test_case_and_subaddress(own, maildirs):
    users = ["ANNA@own.test", "Anna+Lists@OWN.TEST", '"anna"@own.test', '"an\\na"@own.test']
    with Client(own.port) as client:
        client.hello()
        client.message("a@a.test", users, BODIES["plain"])
    contents = maildirs.wait("anna", 4)
    seen = sorted(split(content)[0][1] for content in contents)
    assert seen == sorted(f"Delivered-To: {user.replace('OWN.TEST', 'own.test')}".encode() for user in users)
    own.wait_queue_empty()


def test_own_and_foreign_recipients_of_one_message(own, maildirs, sink):
    with Client(own.port) as client:
        client.hello()
        client.message("a@a.test", ["anna@own.test", "b@b.test", "ben@own.test"], BODIES["plain"])
    assert sink.wait(1)[0].recipients == ["b@b.test"]
    assert len(maildirs.wait("anna") + maildirs.wait("ben")) == 2
    own.wait_queue_empty()
    events = own.wait_events(lambda e: e["event"] == "delivery", 3)
    assert {event["recipient"] for event in events} == {"anna@own.test", "b@b.test", "ben@own.test"}


def test_many(own, maildirs):
    with Client(own.port) as client:
        client.hello()
        for i in range(200):
            client.message("a@a.test", ["anna@own.test", "ben@own.test"], HEADER + f"{i}\r\n")
    assert sorted(int(c.split()[-1]) for c in maildirs.wait("anna", 200)) == list(range(200))
    maildirs.wait("ben", 200)
    own.wait_queue_empty()


@pytest.mark.parametrize("local", ['"../../../etc/x"', '"a/b"', '".hidden"', '".."', '"."', '"x y"', "a%b", '"%2F"',
                                   '"a\\/b"', "{|}`$"])
def test_no_local_part_leaves_its_directory(make_server, sink, tmp_path, local):
    name = local.strip('"').replace("\\", "").lower()
    maildirs = Maildirs(tmp_path, mailboxes=("postmaster", local))
    server = make_server(sink, domains=(maildirs.settings,))
    send(server.port, "a@a.test", [f"{local}@own.test"], BODIES["plain"])
    server.wait_queue_empty()
    users = os.listdir(os.path.join(maildirs.root, "own.test"))
    assert len(users) == 1 and os.listdir(maildirs.root) == ["own.test"]
    assert users[0][0] != "." and not set(users[0]) & set("/\\ \t|`${}")
    escaped = bytes(users[0], "ascii").replace(b"%", b"\\x").decode("unicode_escape")
    assert escaped == name
    maildirs.wait(users[0])


def test_it_stays_in_the_queue_until_the_mailbox_can_be_written(own, maildirs):
    if os.geteuid() == 0:
        os.makedirs(maildirs.root, exist_ok=True)
        with open(os.path.join(maildirs.root, "own.test"), "w", encoding="ascii"):
            pass  # a file where a directory must be
    send(own.port, "a@a.test", ["anna@own.test"], BODIES["plain"])
    event = own.wait_events(lambda e: e["event"] == "deferral")[0]
    assert event["status"] == "4.3.0" and "mailbox" in event["reply"]
    assert os.geteuid() != 0 or event["reply"] == "the mailbox cannot be written: Not a directory"
    os.remove(os.path.join(maildirs.root, "own.test"))
    maildirs.wait("anna")
    own.wait_queue_empty()


def test_what_was_written_but_not_journaled_is_not_there_twice(make_server, sink, maildirs):
    server = make_server(sink, domains=(maildirs.settings,))
    for i in range(50):
        send(server.port, "a@a.test", ["anna@own.test"], HEADER + f"{i}\r\n")
        if i % 10 == 9:
            server.kill()
            server.start()
    server.wait_queue_empty()
    assert sorted(int(c.split()[-1]) for c in maildirs.wait("anna", 50)) == list(range(50))


def test_a_domain_may_become_ours_and_cease_to_be(make_server, sink, maildirs):
    server = make_server(sink, domains=({**maildirs.settings, "name": "other.test"},))  # the sandbox lets us there
    send(server.port, "a@a.test", ["anna@own.test"], BODIES["plain"])
    sink.wait(1)
    server.write_config(domains=(maildirs.settings,))
    server.send_signal(1)
    wait_until(lambda: "configuration reloaded" in server.log())
    send(server.port, "a@a.test", ["anna@own.test"], BODIES["plain"])
    maildirs.wait("anna")
    server.write_config(domains=())
    server.send_signal(1)
    wait_until(lambda: server.log().count("configuration reloaded") == 2)
    send(server.port, "a@a.test", ["anna@own.test"], BODIES["plain"])
    sink.wait(2)
    server.wait_queue_empty()
