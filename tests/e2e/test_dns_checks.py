"""What DNS says about the domains of MAIL and RCPT, asked while the client waits, against a name server of ours."""
import signal
import time

import pytest
from harness import accounts
from harness.client import Client, pipelined
from harness.server import free_port, wait_until

BODY = "Subject: x\r\n\r\nbody\r\n"
NAMES = {
    "null.test": {"MX": [(0, ".")], "A": ["127.0.0.11"]},
    "alias.test": {"CNAME": "null.test"},
    "half.test": {"MX": [(0, "."), (10, "one.test")]},
    "open.test": {"MX": [(10, "one.test")]},
    "one.test": {"A": ["127.0.0.11"]},
    "implicit.test": {"A": ["127.0.0.11"]},
    "fails.test": "SERVFAIL",
    "refuses.test": "REFUSED",
    "silent.test": "SILENT",
}
GOOD = ["half.test", "open.test", "implicit.test", "fails.test", "refuses.test", "silent.test"]


@pytest.fixture
def door(make_server, name_server, sink):
    """`door(role, **listener)`: a server with one listener of that role, which routes by MX, on a port where nobody is, and
    asks a name server that knows NAMES. home.test and own.test go to a sink."""
    def make(role, routes=(), dns=None, **listener):
        names = name_server(dict(NAMES))
        server = make_server(start=False)
        changes = {"role": role, "error_delay": 0, **listener}
        if role == "submission":
            passwords = f"{server.directory}/passwords"
            accounts.write(passwords, accounts.line("all", "secret", "sender=*"))
            changes["auth_without_tls"] = True
            server.write_config(auth={"passwords": passwords})
        server.write_config(
            listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", **changes},), domains=({"name": "own.test"},),
            routes=(*routes, {"domain": "own.test", "next_hop": sink.endpoint},
                    {"domain": "home.test", "next_hop": sink.endpoint}, {"domain": "*", "port": free_port()}),
            dns={"servers": (names.endpoint,), "timeout": "200ms", "tries": 1, **(dns or {})})
        server.start()
        server.names = names
        return server

    return make


def reload(server):
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in server.log(), what="the reload")


def connected(server):
    client = Client(server.port)
    client.hello()
    if server.settings["listeners"][0]["role"] == "submission":
        assert client.command("AUTH PLAIN " + accounts.plain("all", "secret")) == 235
    return client


def mail(client, domain):
    reply = client.command(f"MAIL FROM:<a@{domain}>")
    assert client.command("RSET") == 250
    return reply


def rcpt(client, domain):
    assert client.command("MAIL FROM:<>") == 250
    reply = client.command(f"RCPT TO:<a@{domain}>")
    assert client.command("RSET") == 250
    return reply


@pytest.mark.parametrize("role", ["mx", "submission"])
def test_sender_with_null_mx(door, role):
    """RFC 7505 4.2. Whatever else DNS says, or fails to say, refuses nobody."""
    server = door(role)
    with connected(server) as client:
        for domain in ("null.test", "NULL.Test", "alias.test"):
            assert mail(client, domain) == "550 5.7.27", domain
        for domain in (*GOOD, "gone.test", "own.test", "[192.0.2.1]"):
            assert mail(client, domain) == 250, domain
        assert client.command("MAIL FROM:<>") == 250
    asked = [name for name, _ in server.names.questions]
    assert "own.test" not in asked and "null.test" in asked
    event = server.wait_events(lambda e: e["event"] == "rejection" and e["status"] == "5.7.27", 3)[0]
    assert (event["phase"], event["sender"], event["code"]) == ("mail", "a@null.test", 550)


def test_recipient_with_null_mx(door):
    """RFC 7505 4.1: for those who may relay; nothing is queued, nothing bounces."""
    server = door("submission")
    with connected(server) as client:
        for domain in ("null.test", "NULL.Test", "alias.test"):
            assert rcpt(client, domain) == "556 5.1.10", domain
        for domain in (*GOOD, "gone.test", "own.test", "home.test", "[192.0.2.1]"):
            assert rcpt(client, domain) == 250, domain
    asked = [name for name, _ in server.names.questions]
    assert "own.test" not in asked and "home.test" not in asked
    event = server.wait_events(lambda e: e["event"] == "rejection" and e["status"] == "5.1.10", 3)[0]
    assert (event["phase"], event["recipient"], event["code"]) == ("rcpt", "a@null.test", 556)


def test_strangers_are_not_worth_a_question(door):
    server = door("mx")
    with connected(server) as client:
        assert rcpt(client, "null.test") == "550 5.7.1"
        assert rcpt(client, "own.test") == 250
    assert server.names.questions == []


def test_relay_does_not_ask(door, sink):
    """What an operator's own programs send never waits for DNS, unless that is configured."""
    server = door("relay")
    with connected(server) as client:
        client.message("a@null.test", "b@home.test", BODY)
        assert rcpt(client, "silent.test") == 250
    sink.wait(1)
    assert server.names.questions == []
    server.write_config(listeners=({**server.settings["listeners"][0], "dns_checks": {"null_mx": "refuse"}},))
    reload(server)
    with connected(server) as client:
        assert mail(client, "null.test") == "550 5.7.27"
        assert rcpt(client, "null.test") == "556 5.1.10"


def test_domains_that_do_not_exist(door):
    """5.1.8 and 5.1.2 where that is asked for, and only when DNS has said so."""
    server = door("submission", dns_checks={"null_mx": "accept", "unknown_senders": "refuse",
                                            "unknown_recipients": "refuse"})
    with connected(server) as client:
        assert mail(client, "gone.test") == "550 5.1.8"
        assert rcpt(client, "gone.test") == "550 5.1.2"
        for domain in (*GOOD, "null.test", "own.test", "[192.0.2.1]"):
            assert mail(client, domain) == 250, domain
            assert rcpt(client, domain) == 250, domain


@pytest.mark.parametrize("check, sender, recipient", [("unknown_senders", "550 5.1.8", 250),
                                                      ("unknown_recipients", 250, "550 5.1.2")])
def test_each_check_alone(door, check, sender, recipient):
    server = door("submission", dns_checks={check: "refuse"})
    with connected(server) as client:
        assert (mail(client, "gone.test"), rcpt(client, "gone.test")) == (sender, recipient)


def test_routes_know_better_than_dns(door):
    """A recipient whose mail goes to a named host is that host's affair; with "mx:" another domain's MX counts."""
    server = door("submission", routes=({"domain": "inner.test", "next_hop": "127.0.0.1:9"},
                                        {"domain": "null.test", "next_hop": "127.0.0.1:9"},
                                        {"domain": "via.test", "next_hop": "mx:alias.test"}),
                  dns_checks={"unknown_senders": "refuse", "unknown_recipients": "refuse"})
    with connected(server) as client:
        for domain in ("inner.test", "null.test"):
            assert mail(client, domain) == 250
            assert rcpt(client, domain) == 250
        assert rcpt(client, "via.test") == "556 5.1.10"


def test_silence_is_waited_for_no_longer_than_configured(door):
    server = door("mx", dns={"timeout": "10s"}, dns_checks={"timeout": "500ms"})
    with connected(server) as client:
        began = time.monotonic()
        assert mail(client, "silent.test") == 250
        assert 0.4 < time.monotonic() - began < 9


def test_answers_are_remembered(door):
    server = door("mx")
    with connected(server) as client:
        for _ in range(20):
            assert mail(client, "null.test") == "550 5.7.27"
            assert mail(client, "open.test") == 250
    assert len([q for q in server.names.questions if q[0] in ("null.test", "open.test")]) <= 4  # once a shard


def test_pipelined_groups_wait_in_order(door, sink):
    """A whole session in one write, and then octet by octet: each MAIL waits for its own answer, and nothing is mixed up."""
    server = door("mx")
    parts = []
    for number, domain in enumerate(("open.test", "null.test", "silent.test", "alias.test", "implicit.test")):
        head, body = pipelined(f"a{number}@{domain}", [f"b{number}@own.test"], BODY)
        parts.append(head + (b"RSET\r\n" if domain in ("null.test", "alias.test") else body))
    expected = [250, 250, 354, 250] + [550, 503, 503, 250] + [250, 250, 354, 250] + [550, 503, 503, 250] + [250, 250, 354, 250]
    for whole in (True, False):
        with connected(server) as client:
            if whole:
                client.send(b"".join(parts))
            else:
                for octet in b"".join(parts):
                    client.send(bytes([octet]))
            assert [client.reply().code for _ in expected] == expected
    sink.wait(6)
    assert sorted(m.sender for m in sink.messages) == sorted(2 * ["a0@open.test", "a2@silent.test", "a4@implicit.test"])
    assert all(m.recipients == [f"b{m.sender[1]}@own.test"] for m in sink.messages)


def test_sessions_do_not_wait_for_each_other(door):
    server = door("mx", dns={"timeout": "6s"}, dns_checks={"timeout": "6s"})
    slow = [connected(server) for _ in range(20)]
    for number, client in enumerate(slow):
        server.names.names[f"silent{number}.test"] = "SILENT"
        client.send(f"MAIL FROM:<a@silent{number}.test>\r\n")
    with connected(server) as client:
        began = time.monotonic()
        assert mail(client, "null.test") == "550 5.7.27"
        assert mail(client, "open.test") == 250
        assert time.monotonic() - began < 5
    for client in slow:
        assert client.reply() == 250
        client.close()


def test_gone_and_stopped_while_it_waits(door):
    """The client goes in each way, then the server, while DNS is silent; the log must be clean."""
    server = door("mx", dns={"timeout": "30s"}, dns_checks={"timeout": "30s"})
    for end in (Client.close, Client.reset):
        client = connected(server)
        client.send("MAIL FROM:<a@silent.test>\r\nRCPT TO:<b@own.test>\r\n")
        wait_until(lambda: any(q[0] == "silent.test" for q in server.names.questions), what="the question")
        end(client)
    with connected(server) as client:
        assert mail(client, "null.test") == "550 5.7.27"
    client = connected(server)
    client.send("MAIL FROM:<a@silent.test>\r\n")
    time.sleep(0.2)
    began = time.monotonic()
    server.write_config(stop_timeout="1s")
    reload(server)
    server.stop()
    assert time.monotonic() - began < 10
    assert client.at_end()
    client.close()
