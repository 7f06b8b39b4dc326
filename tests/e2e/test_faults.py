"""A remote host that misbehaves at every phase: each message and recipient meets its fate, and the sender hears of it.

Mail to b@b.test goes wrong; notifications, which go to a@a.test, go to a sink of their own.
"""
import smtplib
import time

import pytest
from harness import config
from harness.check import assert_relayed, received_field
from harness.client import send
from harness.report import Report
from harness.server import wait_until
from harness.sink import Close, Raw, Stall

BODY = "Subject: hello\r\nX-Original: yes\r\n\r\nbody\r\n"
QUICK = {phase: "1s" for phase in ("greeting", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit")}
GROUPED = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")


@pytest.fixture
def home(make_sink):
    """Where notifications arrive."""
    return make_sink()


@pytest.fixture
def serve(make_server, sink, home):
    """A server that sends a.test to `home` and all else to `sink`, with short timeouts towards both."""
    def start(**changes):
        routes = {"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": sink.endpoint}
        return make_server(**config.merged({"routes": routes, "delivery": {"timeouts": QUICK}}, changes))
    return start


def fates(server, recipient="b@b.test"):
    return [e["event"] for e in server.events() if e["event"] != "reception" and e.get("recipient") == recipient]


def assert_fates(server, *allowed, recipient="b@b.test"):
    """The recipient's events are one of the `allowed` lists; the log may lag behind the mail."""
    wait_until(lambda: fates(server, recipient) in allowed, 5,
               lambda: f"one of {allowed} for {recipient}; the events are {fates(server, recipient)}")


@pytest.mark.parametrize("extensions", [("PIPELINING", "8BITMIME"), ()], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("phase", GROUPED)
def test_refused_for_now(serve, sink, home, phase, extensions):
    sink.extensions = list(extensions)
    server = serve()
    code = "421 4.3.2 not now" if phase == "CONNECT" else "451 4.3.0 not now"
    sink.on(phase, Close(code) if phase == "CONNECT" else code, times=1)
    if phase == "EHLO":
        sink.on("HELO", code, times=1)
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    assert_relayed(sink.wait(1)[0], "a@a.test", ["b@b.test"], BODY)
    server.wait_queue_empty()
    assert_fates(server, ["deferral", "delivery"])
    deferral = server.wait_events(lambda e: e["event"] == "deferral")[0]
    assert "not now" in deferral["reply"] and deferral["code"] in (421, 451) and deferral["status"][0] == "4"
    assert deferral["attempts"] == 1 and deferral["sender"] == "a@a.test" and "sink.test" not in deferral["recipient"]
    assert home.messages == [] and len(sink.messages) == 1


@pytest.mark.parametrize("extensions", [("PIPELINING", "8BITMIME"), ()], ids=["pipelining", "one by one"])
@pytest.mark.parametrize("phase", ["MAIL", "RCPT", "DATA", "."])
def test_refused_for_good(serve, sink, home, phase, extensions):
    sink.extensions = list(extensions)
    server = serve()
    sink.on(phase, "554 5.7.7 never")
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    report = Report(home.wait(1)[0])
    report.check("a@a.test", "mx.ringpost.test")
    assert set(report.failed) == {"b@b.test"}
    fields = report.failed["b@b.test"]
    assert fields["Action"] == "failed" and fields["Status"] == "5.7.7"
    assert fields["Diagnostic-Code"] == "smtp; 554 5.7.7 never"
    assert "127.0.0.1" in fields["Remote-MTA"]
    assert "X-Original: yes" in report.quoted and "b@b.test" in report.text and "never" in report.text
    server.wait_queue_empty()
    assert_fates(server, ["bounce"])
    bounce = server.wait_events(lambda e: e["event"] == "bounce")[0]
    assert (bounce["code"], bounce["status"], bounce["reply"]) == (554, "5.7.7", "5.7.7 never")
    assert bounce["notice"] in [e["id"] for e in server.events()] and bounce["notice"]
    assert sink.messages == [] and len(home.messages) == 1
    assert server.metric("bounces_generated_total") == 1


@pytest.mark.parametrize("phase", GROUPED)
@pytest.mark.parametrize("fault", [Close(), Close(reset=True), Close("421 4.3.2 going down")],
                         ids=["closes", "resets", "says 421"])
def test_connection_ends(serve, sink, home, phase, fault):
    """The message that suffered it is retried; those behind it are not even deferred twice."""
    server = serve()
    sink.on(phase, fault, times=1)
    for number in range(5):
        send(server.port, "a@a.test", [f"b{number}@b.test"], BODY)
    wait_until(lambda: len(set(sink.recipients())) == 5, 20, "5 recipients")
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == [f"b{number}@b.test" for number in range(5)]
    for number in range(5):
        assert_fates(server, ["delivery"], ["deferral", "delivery"], recipient=f"b{number}@b.test")
    assert home.messages == []


@pytest.mark.parametrize("phase", (*GROUPED, "RSET", "QUIT"))
def test_stall(serve, sink, home, phase):
    server = serve(delivery={"idle_timeout": "1s"})
    sink.on(phase, Stall(30), times=1)
    if phase == "RSET":
        sink.on("DATA", "451 4.3.0 no", times=1)
    started = time.monotonic()
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    server.wait_queue_empty()
    assert time.monotonic() - started < 15
    assert len(sink.messages) == 1 and home.messages == []
    if phase not in ("RSET", "QUIT"):
        deferral = server.wait_events(lambda e: e["event"] == "deferral")[0]
        assert "timed out" in deferral["reply"] and deferral["code"] == 0 and deferral["status"] == "4.4.2"
    wait_until(lambda: server.metric("outbound_connections_open") == 0, 10, "the connections to end")


@pytest.mark.parametrize("fault", [Close(), Close("421 4.3.2 enough"), Close("552 5.2.2 full"), Stall(30)],
                         ids=["closes", "says 421", "says 552", "stalls"])
def test_in_the_middle_of_a_body(serve, sink, home, fault):
    server = serve()
    body = BODY + ("x" * 76 + "\r\n") * 100000
    sink.on("BODY", fault, after=100000, times=1)
    send(server.port, "a@a.test", ["b@b.test"], body)
    if isinstance(fault, Close) and fault.reply and fault.reply.startswith("5"):
        # Whether the reply is read before the connection breaks is the network's affair; the fate must be one of two.
        wait_until(lambda: sink.messages or home.messages, 20, "a fate")
        assert len(sink.messages) + len(home.messages) == 1
    else:
        assert_relayed(sink.wait(1, 30)[0], "a@a.test", ["b@b.test"], body)
        assert_fates(server, ["deferral", "delivery"])
    server.wait_queue_empty()


def test_some_recipients_refused(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 unknown", match="<bad")
    sink.on("RCPT", "452 4.2.2 full", match="<full", times=2)
    recipients = ["good1@b.test", "bad1@b.test", "full1@b.test", "good2@b.test", "bad2@b.test", "full2@b.test"]
    send(server.port, "a@a.test", recipients, BODY)
    server.wait_queue_empty()
    wait_until(lambda: len(sink.recipients()) == 4, 10, "four recipients")
    assert sorted(sink.recipients()) == ["full1@b.test", "full2@b.test", "good1@b.test", "good2@b.test"]
    assert sorted(sink.messages[0].recipients) == ["good1@b.test", "good2@b.test"]
    failed = {}
    for message in home.messages:
        report = Report(message)
        report.check("a@a.test", "mx.ringpost.test")
        failed.update(report.failed)
    assert set(failed) == {"bad1@b.test", "bad2@b.test"}
    assert {fields["Status"] for fields in failed.values()} == {"5.1.1"}
    assert_fates(server, ["deferral", "delivery"], recipient="full1@b.test")
    assert_fates(server, ["delivery"], recipient="good1@b.test")
    assert_fates(server, ["bounce"], recipient="bad1@b.test")


def test_all_recipients_refused_then_the_next_message(serve, sink, home):
    """The peer keeps an envelope that went nowhere: the next message on the same connection must not inherit it."""
    server = serve(delivery={"connections_per_destination_max": 1}, shards={"count": 1})
    sink.on("RCPT", "550 5.1.1 unknown", match="<bad")
    for number in range(5):
        send(server.port, "a@a.test", [f"bad{number}@b.test"], BODY)
        send(server.port, f"s{number}@a.test", [f"good{number}@b.test"], BODY)
    server.wait_queue_empty()
    assert sorted(m.recipients for m in sink.messages) == [[f"good{number}@b.test"] for number in range(5)]
    assert sorted(m.sender for m in sink.messages) == [f"s{number}@a.test" for number in range(5)]
    assert len(home.wait(5)) == 5


def test_excess_recipients_come_again(serve, sink, home):
    """452 to the recipients over the peer's own limit is no failure of theirs."""
    server = serve()
    recipients = [f"u{number:02}@b.test" for number in range(30)]

    class Limit:
        """Refuses what is over ten in a transaction."""
        phase, after, times, action = "RCPT", 0, None, "452 4.5.3 too many"

        @property
        def match(self):
            current = [s.message for s in sink.sessions if s.message is not None]
            return "" if any(len(m.recipients) >= 10 for m in current) else "\0"

    sink.faults.append(Limit())
    send(server.port, "a@a.test", recipients, BODY)
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == recipients
    assert home.messages == []


def test_null_sender_never_bounces(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 unknown")
    send(server.port, "", ["b@b.test"], BODY)
    server.wait_queue_empty()
    assert_fates(server, ["bounce"])
    assert server.metric("bounces_suppressed_total") == 1 and server.metric("bounces_generated_total") == 0
    time.sleep(0.3)
    assert home.messages == [] and sink.messages == []


def test_refused_notification_makes_no_other(serve, sink, home):
    server = serve()
    sink.on("RCPT", "550 5.1.1 unknown")
    home.on("RCPT", "550 5.1.1 no sender here")
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    assert_fates(server, ["bounce"], recipient="a@a.test")
    server.wait_queue_empty()
    assert server.metric("bounces_generated_total") == 1 and server.metric("bounces_suppressed_total") == 1


def test_bounces_can_be_turned_off(serve, sink, home):
    server = serve(bounce={"enabled": False})
    sink.on("RCPT", "550 5.1.1 unknown")
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    server.wait_queue_empty()
    assert server.wait_events(lambda e: e["event"] == "bounce")[0]["notice"] == ""
    time.sleep(0.3)
    assert home.messages == []


def test_expiry(serve, sink, home):
    server = serve(retry={"schedule": ("1s",), "expire": "3s"})
    sink.on("RCPT", "451 4.2.1 greylisted")
    sent = time.monotonic()
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    report = Report(home.wait(1)[0])
    assert 1.5 < time.monotonic() - sent < 8
    report.check("a@a.test", "mx.ringpost.test")
    fields = report.failed["b@b.test"]
    assert fields["Status"] == "5.4.7" and fields["Action"] == "failed"
    assert "greylisted" in fields["Diagnostic-Code"], "what the last attempt met"
    server.wait_queue_empty()
    server.wait_events(lambda e: e["event"] == "expiry")
    history = fates(server)
    assert sorted(set(history)) == ["deferral", "expiry"] and history.count("expiry") == 1 and len(history) >= 3
    assert server.metric("recipients_expired_total") == 1
    assert sink.messages == []


def test_expiry_of_mail_to_a_host_that_is_down(serve, sink, home):
    server = serve(retry={"schedule": ("1s",), "expire": "3s"})
    sink.close()
    for number in range(3):
        send(server.port, "a@a.test", [f"b{number}@b.test"], BODY)
    reports = [Report(message) for message in home.wait(3)]
    assert {r for report in reports for r in report.failed} == {f"b{number}@b.test" for number in range(3)}
    assert {fields["Status"] for report in reports for fields in report.failed.values()} == {"5.4.7"}
    server.wait_queue_empty()


def test_retry_schedule(serve, sink):
    server = serve(retry={"schedule": ("1s", "2s", "3s"), "jitter_percent": 0})
    sink.on("RCPT", "451 4.2.1 later", times=3)
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    started = time.monotonic()
    sink.wait(1)
    assert 5.0 < time.monotonic() - started < 10.0
    deferrals = server.wait_events(lambda e: e["event"] == "deferral", 3)
    assert [e["attempts"] for e in deferrals] == [1, 2, 3]
    server.wait_queue_empty()


def test_host_comes_back(serve, sink):
    server = serve()
    sink.close()
    for number in range(10):
        send(server.port, "a@a.test", [f"b{number}@b.test"], BODY)
    wait_until(lambda: server.metric("outbound_connect_failures_total") > 0, 10, "an attempt")
    sink.open()
    wait_until(lambda: len(sink.recipients()) == 10, 20, "the mail")
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == sorted(f"b{number}@b.test" for number in range(10))


@pytest.mark.parametrize("noise", [
    b"250-\r\n250-\r\n250 \r\n", b"250\r\n", b"250 no status\r\n", b"250 \xff\xfe\x80\r\n", b"250 x\n",
    b"250-a\r\n" * 150 + b"250 end\r\n",
], ids=["empty lines", "no text", "no status", "8 bits", "bare LF", "150 lines"])
def test_odd_replies_are_understood(serve, sink, noise):
    server = serve()
    sink.on("RCPT", Raw(noise), times=1)
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    server.wait_queue_empty()
    assert len(sink.messages) == 1


@pytest.mark.parametrize("noise", [
    b"hello\r\n", b"999 what\r\n", b"\r\n", b"25 x\r\n", b"x" * 100000 + b"\r\n", b"250-more\r\n" * 50000, b"\0\0\0\0\r\n",
    b"354 go\r\n",
], ids=["words", "999", "empty", "two digits", "endless line", "endless reply", "NUL", "354"])
@pytest.mark.parametrize("phase", ["CONNECT", "RCPT", "."])
def test_garbage_defers(serve, sink, home, phase, noise):
    """Never a crash, never a loss; garbage for a final reply may cost a second copy, as RFC 5321 accepts."""
    server = serve()
    sink.on(phase, Raw(noise), times=1)
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    server.wait_queue_empty()
    assert len(sink.messages) == 1 and home.messages == []


def test_hostile_reply_stays_inside_the_notification(serve, sink, home):
    server = serve()
    sink.on("RCPT", Raw(b"550-5.1.1 one\r\n550-\x1b[31m\xff\0two\r\n550 5.1.1 <script> --boundary " + b"y" * 2000 + b"\r\n"))
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    report = Report(home.wait(1)[0])
    report.check("a@a.test", "mx.ringpost.test")
    assert all(octet in b"\t\r\n" or 32 <= octet < 127 for octet in report.wire)
    assert report.failed["b@b.test"]["Status"] == "5.1.1"
    bounce = server.wait_events(lambda e: e["event"] == "bounce")[0]
    assert len(bounce["reply"]) <= 512


@pytest.mark.parametrize("body, header", [
    ("caf\xe9\r\n".encode("latin-1"), "Content-Type: text/plain; charset=iso-8859-1\r\n"),
    ("grüße\r\n".encode(), "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                           "Content-Transfer-Encoding: 8bit\r\n"),
    (bytes(range(128, 256)) * 3 + b"\r\n.\r\n..x\r\n", "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
                                                      "Content-Transfer-Encoding: 8bit\r\n"),
], ids=["latin-1", "utf-8", "octets"])
def test_peer_without_8bitmime_gets_the_same_content(serve, sink, body, header):
    import email
    sink.extensions = ["PIPELINING", "SIZE 0"]
    server = serve()
    original = ("Subject: eight\r\n" + header + "\r\n").encode() + body
    send(server.port, "a@a.test", ["b@b.test"], original, parameters=" BODY=8BITMIME")
    message = sink.wait(1)[0]
    assert "8BITMIME" not in message.mail_parameters
    assert all(octet < 128 for octet in message.wire)
    assert all(len(line) <= 78 for line in message.content.split(b"\r\n")[10:])
    assert b".\r\n.\r\n" not in message.content
    mail = email.message_from_bytes(received_field(message.content)[1])
    assert mail["Subject"] == "eight"
    wanted = body if "octet-stream" in header else body.replace(b"\r\n", b"\n")
    got = mail.get_payload(decode=True)
    assert got.replace(b"\r\n", b"\n") == wanted.replace(b"\r\n", b"\n")


def test_multipart_keeps_its_structure_for_a_peer_without_8bitmime(serve, sink):
    import email
    import email.policy
    sink.extensions = []
    server = serve()
    parts = ("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\npreamble\r\n--b1\r\n"
             "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nschön\r\n--b1\r\n"
             "Content-Type: text/plain\r\n\r\nplain\r\n--b1--\r\n").encode()
    send(server.port, "a@a.test", ["b@b.test"], parts, parameters=" BODY=8BITMIME")
    message = sink.wait(1)[0]
    assert all(octet < 128 for octet in message.wire)
    mail = email.message_from_bytes(received_field(message.content)[1], policy=email.policy.default)
    contents = [part.get_content().strip() for part in mail.iter_parts()]
    assert contents == ["schön", "plain"]


def test_8_bit_header_bounces_at_a_peer_without_8bitmime(serve, sink, home):
    """It cannot be converted without guessing its meaning: never raw, never silently changed."""
    sink.extensions = ["PIPELINING"]
    server = serve()
    send(server.port, "a@a.test", ["b@b.test"], "Subject: grüße\r\n\r\nplain\r\n".encode(), parameters=" BODY=8BITMIME")
    wait_until(lambda: sink.messages or home.messages, 10, "a fate")
    server.wait_queue_empty()
    for message in sink.messages:
        assert all(octet < 128 for octet in message.wire)
    if home.messages:
        assert Report(home.messages[0]).failed["b@b.test"]["Status"] == "5.6.3"


def test_peer_with_8bitmime_gets_the_bytes(serve, sink):
    server = serve()
    body = "Subject: x\r\n\r\ngrüße\r\n".encode()
    send(server.port, "a@a.test", ["b@b.test"], body, parameters=" BODY=8BITMIME")
    message = sink.wait(1)[0]
    assert_relayed(message, "a@a.test", ["b@b.test"], body)
    assert "BODY=8BITMIME" in message.mail_parameters.upper()


def test_size_limit_of_the_peer(serve, sink, home):
    """Refused before a byte of the body goes out."""
    sink.extensions = ["PIPELINING", "8BITMIME", "SIZE 10000"]
    server = serve()
    send(server.port, "a@a.test", ["b@b.test"], BODY + ("x" * 70 + "\r\n") * 1000)
    report = Report(home.wait(1)[0])
    assert report.failed["b@b.test"]["Status"] == "5.3.4"
    assert not any(command.startswith(("MAIL", "DATA")) for session in sink.sessions for command in session.commands)
    send(server.port, "a@a.test", ["c@b.test"], BODY)
    message = sink.wait(1)[0]
    assert "SIZE=" in message.mail_parameters.upper()


def test_only_helo(serve, sink):
    sink.on("EHLO", "500 5.5.1 what")
    server = serve()
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    message = sink.wait(1)[0]
    assert_relayed(message, "a@a.test", ["b@b.test"], BODY)
    assert message.mail_parameters == ""
    assert [command.split()[0] for command in message.session.commands[:2]] == ["EHLO", "HELO"]
    assert message.session.commands[0] == "EHLO mx.ringpost.test"


def test_421_after_some_messages(serve, sink):
    """A peer that closes after every third message costs nobody a retry that was not due."""
    server = serve()

    class Tired:
        phase, match, after, times = "MAIL", None, 0, None

        @property
        def action(self):
            return None

    send_count = 20
    original = sink.find_fault

    def find_fault(phase, text, size=0):
        if phase == "MAIL":
            session = next((s for s in sink.sessions if not s.closed and s.commands and s.commands[-1] == text
                            and sum(c.startswith("MAIL") for c in s.commands) > 3), None)
            if session is not None:
                return Close("421 4.7.0 enough for now")
        return original(phase, text, size)

    sink.find_fault = find_fault
    for number in range(send_count):
        send(server.port, f"a{number}@a.test", [f"b{number}@b.test"], BODY)
    wait_until(lambda: len(sink.recipients()) >= send_count, 30, "the mail")
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == sorted(f"b{number}@b.test" for number in range(send_count))


def test_connections_per_destination(serve, sink):
    server = serve(delivery={"connections_per_destination_max": 3})
    sink.on(".", Stall(0.5))
    for number in range(30):
        send(server.port, "a@a.test", [f"b{number}@b.test"], BODY)
    highest = 0

    def done():
        nonlocal highest
        highest = max(highest, sum(not session.closed for session in sink.sessions))
        return len(sink.messages) >= 30

    wait_until(done, 30, "30 messages")
    assert highest == 3
    server.wait_queue_empty()


def test_messages_per_connection(serve, sink):
    server = serve(delivery={"connections_per_destination_max": 1, "messages_per_connection_max": 5})
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        for number in range(20):
            client.sendmail("a@a.test", [f"b{number}@b.test"], BODY)
    sink.wait(20)
    server.wait_queue_empty()
    wait_until(lambda: all(session.closed for session in sink.sessions[:-1]), 5, "the sessions to end")
    counts = [sum(command.startswith("MAIL") for command in session.commands) for session in sink.sessions]
    assert max(counts) <= 5 and sum(counts) == 20


@pytest.mark.parametrize("option, fate", [
    (("-r", "MAIL"), "deferral"), (("-r", "RCPT"), "deferral"), (("-r", "DATA"), "deferral"), (("-r", "."), "deferral"),
    (("-f", "MAIL"), "bounce"), (("-f", "RCPT"), "bounce"), (("-f", "."), "bounce"),
    (("-q", "MAIL"), "deferral"), (("-q", "DATA"), "deferral"), (("-q", "."), "deferral"), (("-q", "EHLO"), "deferral"),
    (("-Q", "RCPT"), "deferral"), (("-Q", "."), "deferral"), (("-r", "CONNECT"), "deferral"), (("-A", "0"), "deferral"),
    (("-W", "DATA:30"), "deferral"),
], ids=lambda value: "".join(value) if isinstance(value, tuple) else value)
def test_smtp_sink_faults(serve, sink, home, option, fate):
    """The same at the hands of a program that is not ours."""
    from harness.foreign import SmtpSink
    with SmtpSink(*option) as bad:
        server = serve(routes=({"domain": "a.test", "next_hop": home.endpoint},
                               {"domain": "b.test", "next_hop": bad.endpoint}, {"domain": "*", "next_hop": sink.endpoint}))
        send(server.port, "a@a.test", ["b@b.test", "ok@c.test"], BODY)
        event = server.wait_events(lambda e: e["event"] in ("bounce", "deferral") and e["recipient"] == "b@b.test")[0]
        assert event["event"] == fate
        assert sink.wait(1)[0].recipients == ["ok@c.test"]
        if fate == "bounce":
            assert set(Report(home.wait(1)[0]).failed) == {"b@b.test"}
            server.wait_queue_empty()
        else:
            assert home.messages == []
            assert server.metric("queued_recipients") == 1
