"""Delivery status notifications: who is told what, and that nobody is told what he did not want (RFC 3461)."""
import pytest
from harness.client import Client, stuffed
from harness.maildir import Maildirs
from harness.report import Report
from harness.server import wait_until

BODY = "Subject: hello\r\nX-Original: yes\r\n\r\nthe body\r\n.dot\r\n"
PLAIN = ("PIPELINING", "8BITMIME", "SIZE 0")


@pytest.fixture
def home(make_sink):
    """Where notifications arrive, for a.test."""
    return make_sink(extensions=(*PLAIN, "SMTPUTF8"))


@pytest.fixture
def serve(make_server, sink, home):
    def start(**changes):
        routes = {"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": sink.endpoint}
        return make_server(**{"routes": routes, **changes})
    return start


def submit(server, recipients, mail="", sender="a@a.test", body=BODY):
    """`recipients`: {address: parameters of RCPT}."""
    with Client(server.port) as client:
        client.hello()
        reply = client.command(f"MAIL FROM:<{sender}>{mail}") if sender.isascii() else raw(client, f"MAIL FROM:<{sender}>{mail}")
        assert reply.code == 250, reply
        for address, parameters in recipients.items():
            reply = raw(client, f"RCPT TO:<{address}>{parameters}")
            assert reply.code == 250, reply
        assert client.command("DATA").code == 354
        client.send(stuffed(body))
        assert client.reply().code == 250


def raw(client, line):
    client.send(line.encode() + b"\r\n")
    return client.reply()


def report(home, count=1):
    found = [Report(message) for message in home.wait(count)]
    assert len(found) == count
    for one in found:
        one.check("a@a.test", "mx.ringpost.test")
    return found[0] if count == 1 else found


NOTIFY = ("", " NOTIFY=NEVER", " NOTIFY=SUCCESS", " NOTIFY=FAILURE", " NOTIFY=DELAY", " NOTIFY=SUCCESS,FAILURE,DELAY")


def test_failures_are_told_to_whom_they_concern(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 no such user")
    submit(server, {f"u{i}@b.test": parameters for i, parameters in enumerate(NOTIFY)})
    server.wait_queue_empty()
    wanted = {f"u{i}@b.test" for i, notify in enumerate(NOTIFY) if notify == "" or "FAILURE" in notify}
    told = {address: fields for one in report(home, len(wanted)) for address, fields in one.failed.items()}
    assert set(told) == wanted
    assert all(fields["Action"] == "failed" and fields["Status"] == "5.1.1" for fields in told.values())
    assert len(server.wait_events(lambda e: e["event"] == "bounce", len(NOTIFY))) == len(NOTIFY)


def test_successes_are_told_where_nobody_else_will(serve, sink, home):
    server = serve()
    submit(server, {f"u{i}@b.test": parameters for i, parameters in enumerate(NOTIFY)})
    server.wait_queue_empty()
    told = report(home)
    assert set(told.failed) == {f"u{i}@b.test" for i, notify in enumerate(NOTIFY) if "SUCCESS" in notify}
    assert all(fields["Action"] == "relayed" and fields["Status"] == "2.0.0" for fields in told.failed.values())
    assert "host that does not tell" in told.text
    assert len(home.messages) == 1


def test_a_host_with_dsn_tells_itself(serve, make_sink, home):
    able = make_sink(extensions=(*PLAIN, "DSN"))
    server = serve(routes=({"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": able.endpoint}))
    submit(server, {"b@b.test": " NOTIFY=SUCCESS ORCPT=rfc822;o+2B@b.test"}, " RET=HDRS ENVID=QQ+2B")
    server.wait_queue_empty()
    assert able.wait(1)[0].recipients == ["b@b.test"]
    commands = " ".join(able.sessions[-1].commands)
    assert "NOTIFY=SUCCESS" in commands and "ORCPT=rfc822;o+2B@b.test" in commands
    assert "RET=HDRS" in commands and "ENVID=QQ+2B" in commands
    assert home.messages == []


def test_a_mailbox_is_the_end_of_the_way(serve, home, tmp_path):
    maildirs = Maildirs(tmp_path)
    server = serve(domains=(maildirs.settings,))
    submit(server, {"anna@own.test": " NOTIFY=SUCCESS", "ben@own.test": " NOTIFY=FAILURE"}, " ENVID=id")
    told = report(home)
    assert list(told.failed) == ["anna@own.test"]
    assert told.failed["anna@own.test"]["Action"] == "delivered" and told.failed["anna@own.test"]["Status"] == "2.1.5"
    server.wait_queue_empty()
    assert len(home.messages) == 1


def test_what_identifies_the_original(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 no such user")
    submit(server, {"b@b.test": " ORCPT=rfc822;first+2B+3Dx@c.test"}, " ENVID=Q+2BQ+20x")
    told = report(home)
    assert told.failed["b@b.test"]["Original-Recipient"].replace(" ", "") == "rfc822;first+=x@c.test"
    assert told.per_message["Original-Envelope-Id"] == "Q+Q x"


@pytest.mark.parametrize("mail,whole", [("", False), (" RET=HDRS", False), (" RET=FULL", True)])
def test_how_much_is_returned(serve, sink, home, mail, whole):
    server = serve()
    sink.on("RCPT", "550 5.1.1 no such user")
    submit(server, {"b@b.test": ""}, mail)
    told = report(home)
    assert told.quoted_type == ("message/rfc822" if whole else "text/rfc822-headers")
    assert "X-Original: yes" in told.quoted
    assert (b"the body\r\n.dot\r\n" in told.wire) == whole


def test_a_large_original_is_not_returned(serve, sink, home):
    server = serve(bounce={"quote_bytes_max": "100K"})
    sink.on("RCPT", "550 5.1.1 no such user")
    submit(server, {"b@b.test": ""}, " RET=FULL", body=BODY + "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 2000)
    assert report(home).quoted_type == "text/rfc822-headers"


def test_eight_bits_are_returned_as_they_are(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 no such user")
    body = b"Subject: x\r\n\r\n" + bytes(range(128, 256)) + b"\r\n"
    submit(server, {"b@b.test": ""}, " RET=FULL BODY=8BITMIME", body=body)
    assert body in report(home).wire
    assert "BODY=8BITMIME" in home.messages[0].mail_parameters


def test_nothing_is_told_of_a_notice(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 no such user", match="bad")
    submit(server, {"bad@b.test": " NOTIFY=SUCCESS,FAILURE", "good@b.test": " NOTIFY=SUCCESS"}, sender="")
    server.wait_queue_empty()
    assert home.messages == [] and server.metric("bounces_suppressed_total") == 2


def test_delay_is_told_once(serve, sink, home):
    server = serve(bounce={"delay_warning": "2s"}, retry={"schedule": ("1s",)})
    sink.on("RCPT", "450 4.2.1 busy")
    submit(server, {f"u{i}@b.test": parameters for i, parameters in enumerate(NOTIFY)})
    told = [Report(message) for message in home.wait(2)]
    assert {address for one in told for address in one.failed} == {"u4@b.test", "u5@b.test"}
    for one in told:
        one.check("a@a.test", "mx.ringpost.test")
        fields = next(iter(one.failed.values()))
        assert fields["Action"] == "delayed" and fields["Status"] == "4.2.1" and "busy" in fields["Diagnostic-Code"]
        assert "Will-Retry-Until" in fields
    server.restart()
    attempts = len(server.events())
    wait_until(lambda: len(server.events()) > attempts + 12)
    assert len(home.messages) == 2
    sink.heal()
    server.wait_queue_empty()
    # One for each transaction: the host may recover between two recipients of one.
    relayed = [address for message in home.messages[2:] for address in Report(message).failed]
    assert sorted(relayed) == ["u2@b.test", "u5@b.test"]


def test_international(serve, make_sink, home):
    able = make_sink(extensions=(*PLAIN, "SMTPUTF8"))
    able.on("RCPT", "550 5.1.1 unbekannt", match="j")
    server = serve(routes=({"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": able.endpoint}))
    submit(server, {"jörg@b.test": ""}, " SMTPUTF8 BODY=8BITMIME", body="Subject: grüße\r\n\r\nä\r\n".encode())
    told = report(home)
    assert told.is_global and told.failed["jörg@b.test"]["Final-Recipient"].startswith("utf-8")
    assert "Subject: grüße".encode() in told.wire
    assert "SMTPUTF8" in home.messages[0].mail_parameters


def test_hostile_replies_and_parameters_stay_text(serve, sink, home):
    server = serve()
    every = "".join(f"+{i:02X}" for i in range(1, 256))
    sink.on("RCPT", "550 5.1.1 --x\t\x7f -- " + "".join(map(chr, range(33, 127))))
    with Client(server.port) as client:
        client.hello()
        accepted = client.command(f"MAIL FROM:<a@a.test> ENVID={every[:90]}").code == 250
        if not accepted:
            client.command("MAIL FROM:<a@a.test> ENVID=+22+3C+3E--x")
        client.command(f"RCPT TO:<b@b.test> ORCPT=rfc822;{every[:480]}")
        client.command("RCPT TO:<c@b.test> ORCPT=rfc822;+22+3C+3E--x")
        assert client.command("DATA").code == 354
        client.send(stuffed("Subject: --x\r\n--x\r\n--x--\r\n.\r\n\tx\r\n\r\n"))
        assert client.reply().code == 250
    told = report(home)
    assert "c@b.test" in told.failed
    assert told.failed["c@b.test"]["Original-Recipient"].replace(" ", "") == 'rfc822;"<>--x'


def test_bounces_survive_a_crash_once(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 no such user")
    for i in range(30):
        submit(server, {f"u{i}@b.test": " NOTIFY=FAILURE"})
        if i % 10 == 9:
            server.kill()
            server.start()
    server.wait_queue_empty()
    told = [address for message in home.messages for address in Report(message).failed]
    assert set(told) == {f"u{i}@b.test" for i in range(30)}
    assert len(told) <= 30 + 3 * 2  # what a crash took away between the notice and the record behind it
