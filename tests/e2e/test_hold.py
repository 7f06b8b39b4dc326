"""Mail for later, mail with a deadline, and what goes first (RFC 4865, 2852, 6710)."""
import os
import time

import pytest
from harness import accounts
from harness.client import Client, stuffed
from harness.report import Report
from harness.server import wait_until

BODY = "Subject: hello\r\n\r\nbody\r\n"
EXTENSIONS = ("pipelining", "size", "8bitmime", "enhancedstatuscodes", "dsn", "futurerelease", "deliverby", "mt-priority")


@pytest.fixture
def sink(make_sink):
    return make_sink(extensions=("PIPELINING", "8BITMIME", "SIZE 0", "DELIVERBY"))


@pytest.fixture
def home(make_sink):
    return make_sink()


@pytest.fixture
def serve(make_server, sink, home):
    """A server that takes mail for submission: only there may it be held."""
    def start(**changes):
        routes = {"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": sink.endpoint}
        server = make_server(start=False, **{"routes": routes, **changes})
        passwords = os.path.join(server.directory, "passwords")
        accounts.write(passwords, accounts.line("a@a.test", "secret"))
        server.settings["listeners"][0].update(role="submission", auth_without_tls=True, extensions=EXTENSIONS)
        return server.start(auth={"passwords": passwords})
    return start


def submit(server, parameters, recipient="b@b.test", rcpt="", body=BODY):
    with Client(server.port) as client:
        client.hello()
        assert client.command("AUTH PLAIN " + accounts.plain("a@a.test", "secret")) == 235
        for line in (f"MAIL FROM:<a@a.test>{parameters}", f"RCPT TO:<{recipient}>{rcpt}"):
            reply = client.command(line)
            assert reply.code == 250, reply
        assert client.command("DATA").code == 354
        client.send(stuffed(body))
        assert client.reply().code == 250
    return time.monotonic()


def test_held_until_its_time(serve, sink):
    server = serve()
    begin = submit(server, " HOLDFOR=4")
    submit(server, "", "now@b.test")
    assert sink.wait(1)[0].recipients == ["now@b.test"]
    message = sink.wait(2)[1]
    assert message.recipients == ["b@b.test"] and 3.9 <= message.time - begin <= 7
    server.wait_queue_empty()


def test_held_over_a_restart(serve, sink):
    server = serve()
    begin = submit(server, " HOLDFOR=8")
    server.restart()
    server.kill()
    server.start()
    message = sink.wait(1)[0]
    assert 7.9 <= message.time - begin <= 12
    assert len(sink.messages) == 1
    server.wait_queue_empty()


def test_the_expiry_counts_from_the_hold(serve, sink):
    server = serve(retry={"schedule": ("1s",), "expire": "3s"})
    submit(server, " HOLDFOR=6")
    sink.wait(1)
    server.wait_queue_empty()
    assert not [e for e in server.events() if e["event"] == "expiry"]


def test_the_operator_can_let_it_go_and_it_stays_so(serve, sink):
    server = serve()
    submit(server, " HOLDFOR=3600")
    time.sleep(0.5)
    assert sink.messages == []
    server.cli("retry", "--all")
    sink.wait(1)
    server.wait_queue_empty()


@pytest.mark.parametrize("fault", ["unreachable", "deferred"])
def test_a_deadline_ends_it_wherever_it_waits(serve, sink, home, fault):
    server = serve(retry={"schedule": ("1h",)})
    if fault == "unreachable":
        sink.close()
    else:
        sink.on("RCPT", "450 4.2.1 busy")
    begin = time.monotonic()
    submit(server, " BY=4;R")
    told = Report(home.wait(1)[0])
    assert 2 <= time.monotonic() - begin <= 12
    told.check("a@a.test", "mx.ringpost.test")
    assert told.failed["b@b.test"]["Action"] == "failed" and told.failed["b@b.test"]["Status"] == "5.4.7"
    assert "by the time you had set" in told.text
    server.wait_queue_empty()
    assert len(server.wait_events(lambda e: e["event"] == "expiry")) == 1


@pytest.mark.parametrize("mode,taken", [("R", False), ("N", True)])
def test_a_deadline_is_not_passed_to_who_does_not_know_of_it(serve, make_sink, home, mode, taken):
    unable = make_sink()
    server = serve(routes=({"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": unable.endpoint}))
    submit(server, f" BY=600;{mode}")
    server.wait_queue_empty()
    assert len(unable.messages) == taken
    assert [list(Report(message).failed) for message in home.messages] == ([] if taken else [["b@b.test"]])


def test_a_deadline_with_a_notice(serve, sink, home):
    server = serve(retry={"schedule": ("1s",)})
    sink.on("RCPT", "450 4.2.1 busy")
    submit(server, " BY=3;N")
    submit(server, " BY=3;N", "never@b.test", " NOTIFY=FAILURE")
    told = Report(home.wait(1)[0])
    told.check("a@a.test", "mx.ringpost.test")
    assert told.failed["b@b.test"]["Action"] == "delayed" and told.failed["b@b.test"]["Status"][0] == "4"
    server.wait_metric("queued_messages", 2)  # that the notice was delivered is written down
    server.kill()
    server.start()
    time.sleep(3)
    assert len(home.messages) == 1
    sink.heal()
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == ["b@b.test", "never@b.test"]
    assert len(home.messages) == 1


def test_deadline_of_a_held_message(serve, sink, home):
    server = serve()
    submit(server, " HOLDFOR=3600 BY=4;R")
    told = Report(home.wait(1)[0])
    assert told.failed["b@b.test"]["Status"] == "5.4.7"
    server.wait_queue_empty()
    assert sink.messages == []


def test_priority_goes_first(serve, sink):
    server = serve(delivery={"connections_per_destination_max": 1}, retry={"schedule": ("1h",)},
                   routes=({"domain": "*", "next_hop": sink.endpoint, "messages_per_connection_max": 1},))
    sink.on("CONNECT", "421 4.3.2 later")
    for number, priority in enumerate((0, -5, 0, -1, 0)):
        submit(server, f" MT-PRIORITY={priority}", f"u{number}.p{priority}@b.test")
    sink.heal()
    server.cli("retry", "--all")
    sink.wait(5)
    order = [m.recipients[0].partition(".p")[2].partition("@")[0] for m in sink.messages]
    wait_until(lambda: server.queued() == (0, 0))
    assert order.index("-5") >= 2 and order.index("-1") >= 2, order
