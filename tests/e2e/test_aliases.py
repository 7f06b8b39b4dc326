"""Domains of ours at RCPT: who exists, who is an alias, and what a reload of the files changes."""
import pytest
from harness.client import Client, send
from harness.maildir import Maildirs
from harness.server import SANITIZED, wait_until

BODY = "Subject: hello\r\n\r\nbody\r\n"
ALIASES = """
info: anna, ben@other.test
all: info, anna, BEN      # once each
away: carl@home.test
lists+dev: ben
postmaster: anna
"""


@pytest.fixture
def maildirs(tmp_path):
    return Maildirs(tmp_path, mailboxes=("anna", "ben"), aliases=ALIASES)


@pytest.fixture
def own(make_server, sink, maildirs):
    """A server for the world: nobody may relay."""
    return make_server(sink, domains=(maildirs.settings,), listeners={"role": "mx"})


def rcpt(server, *recipients):
    with Client(server.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@a.test>")
        return [client.command(f"RCPT TO:<{recipient}>") for recipient in recipients]


def test_who_exists(own):
    replies = rcpt(own, "anna@own.test", "ANNA@OWN.TEST", "anna+x@own.test", "info@own.test", "Info+x@own.test",
                   "lists+dev@own.test", "Postmaster", "postmaster@own.test")
    assert replies == ["250 2.1.5"] * len(replies), replies
    replies = rcpt(own, "carl@own.test", "lists@own.test", "lists+x@own.test", "anna.x@own.test", "+anna@own.test")
    assert replies == ["550 5.1.1"] * len(replies), replies
    replies = rcpt(own, "anna@sub.own.test", "anna@other.test", "anna@[127.0.0.1]", "carl@home.test")
    assert replies == ["550 5.7.1"] * len(replies), replies


def test_aliases_are_expanded(own, maildirs, sink):
    send(own.port, "a@a.test", ["all@own.test"], BODY)
    maildirs.wait("anna")
    maildirs.wait("ben")
    assert sink.wait(1)[0].recipients == ["ben@other.test"]
    own.wait_queue_empty()
    assert len(sink.messages) == 1


def test_who_is_reached_twice_gets_one(own, maildirs, sink):
    """By his own address, by two aliases, and by one of them again."""
    send(own.port, "a@a.test", ["anna@own.test", "all@own.test", "info@own.test", "all@own.test"], BODY)
    assert sink.wait(1)[0].recipients == ["ben@other.test"]
    own.wait_queue_empty()
    assert len(sink.messages) == 1
    assert [len(maildirs.files(user)) for user in ("anna", "ben")] == [1, 1]


def test_a_forward_is_no_relay_for_strangers(own, sink):
    send(own.port, "a@a.test", ["away@own.test"], BODY)
    message = sink.wait(1)[0]
    assert message.sender == "a@a.test" and message.recipients == ["carl@home.test"]
    assert rcpt(own, "carl@home.test") == ["550 5.7.1"]


def test_postmaster_without_a_domain(own, maildirs):
    send(own.port, "", ["Postmaster"], BODY)
    maildirs.wait("anna")
    own.wait_queue_empty()


def test_many_targets_count_as_what_they_are(make_server, sink, tmp_path):
    targets = ", ".join(f"u{i}@other.test" for i in range(1000))
    maildirs = Maildirs(tmp_path, aliases=f"big: {targets}\n")
    server = make_server(sink, domains=(maildirs.settings,))
    send(server.port, "a@a.test", ["big@own.test"], BODY)
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == sorted(f"u{i}@other.test" for i in range(1000))


def reload(server, text):
    before = server.log().count(text)
    server.send_signal(1)
    wait_until(lambda: server.log().count(text) > before, 10, lambda: f"{text!r} in\n{server.log_tail()}")


def test_reload(own, maildirs):
    with Client(own.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@a.test>")
        assert client.command("RCPT TO:<dora@own.test>") == "550 5.1.1"
        maildirs.write(mailboxes=("anna", "dora"), aliases="postmaster: dora\n")
        reload(own, 'configuration reloaded" path=')
        assert client.command("RCPT TO:<dora@own.test>") == "250 2.1.5"
        assert client.command("RCPT TO:<ben@own.test>") == "550 5.1.1"
        assert client.command("RCPT TO:<info@own.test>") == "550 5.1.1"
    assert "domains=1 mailboxes=2 aliases=1" in own.log()


@pytest.mark.parametrize("aliases,line", [
    ("postmaster: anna\na: b\nb: a\n", "expected aliases without a loop"),
    ("postmaster: anna\nx: nobody\n", ":2: nobody@own.test does not exist"),
    ("postmaster: anna\nx: |/bin/sh\n", ":2: |/bin/sh@own.test does not exist"),
    ("postmaster: anna\nx: /etc/passwd\n", ":2: /etc/passwd@own.test does not exist"),
    ('postmaster: anna\nx: ":include:/etc/passwd"\n', "does not exist"),
    ("postmaster anna\n", ":1: not an alias"),
    ("x: anna\n", "nobody is postmaster@own.test"),
])
def test_an_error_changes_nothing(own, maildirs, aliases, line):
    maildirs.write(aliases=aliases)
    reload(own, "configuration not reloaded")
    assert line in own.log()
    assert rcpt(own, "info@own.test", "anna@own.test") == ["250 2.1.5", "250 2.1.5"]


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what was freed")
def test_memory_of_reloads(own, maildirs):
    """The old table goes when the new one is in place."""
    maildirs.write(mailboxes=("anna", "ben", *(f"user{i}" for i in range(50000))))
    for _ in range(3):
        reload(own, 'configuration reloaded" path=')
    before = own.rss()
    for _ in range(10):
        reload(own, 'configuration reloaded" path=')
    assert own.rss() - before < 20_000_000


def test_every_own_name_is_taken_where_lmtp_decides(make_server, sink):
    server = make_server(sink, domains=({"name": "own.test"},), listeners={"role": "mx"})
    assert rcpt(server, "whoever@own.test", "x@other.test") == ["250 2.1.5", "550 5.7.1"]
    send(server.port, "a@a.test", ["whoever@own.test"], BODY)
    assert sink.wait(1)[0].recipients == ["whoever@own.test"]
