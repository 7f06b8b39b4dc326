"""A remote host that misbehaves at every phase: each message and recipient meets its fate, and the sender hears of it.

Mail to b@b.test goes wrong; notifications, which go to a@a.test, go to a sink of their own.
"""
import contextlib
import smtplib
import time

import pytest
from harness import config
from harness.check import assert_relayed, received_field
from harness.client import send
from harness.foreign import SmtpSink
from harness.report import Report
from harness.server import wait_until
from harness.sink import Close, Raw, Stall

BODY = "Subject: hello\r\nX-Original: yes\r\n\r\nbody\r\n"
QUICK = {phase: "1s" for phase in ("greeting", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit")}
PHASES = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")


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


class Crowd:
    """One server, and for each case a sink at a domain of its own, so that cases wait side by side and not in a row.

    send() mails user@cN.test for each case; each() runs a check per case and names those that failed."""

    def __init__(self, make_server, home, sinks, **changes):
        self.home, self.sinks = home, sinks
        self.domains = {name: f"c{number}.test" for number, name in enumerate(sinks)}
        routes = [{"domain": self.domains[name], "next_hop": sink.endpoint} for name, sink in sinks.items()]
        routes.append({"domain": "*", "next_hop": home.endpoint})
        self.server = make_server(**config.merged({"routes": routes, "delivery": {"timeouts": QUICK}}, changes))

    def address(self, name, user="user"):
        return f"{user}@{self.domains[name]}"

    def send(self, body=BODY):
        for name in self.sinks:
            send(self.server.port, "a@a.test", [self.address(name)], body)

    def each(self, check):
        failures = []
        for name, sink in self.sinks.items():
            try:
                check(name, sink)
            except AssertionError as error:
                failures.append(f"{name}: {error}")
        assert not failures, "\n".join(failures)

    def reports(self):
        """{recipient: (report, fields)} of all that came home."""
        found = {}
        for message in self.home.messages:
            report = Report(message)
            report.check("a@a.test", "mx.ringpost.test")
            for address, fields in report.failed.items():
                assert address not in found, f"two notifications about {address}"
                found[address] = report, fields
        return found


@pytest.fixture
def crowd(make_server, make_sink, home):
    def make(names, extensions=None, **changes):
        sinks = {name: make_sink(**({"extensions": extensions} if extensions is not None else {})) for name in names}
        return Crowd(make_server, home, sinks, **changes)
    return make


def fates(server, recipient="b@b.test"):
    return [e["event"] for e in server.events() if e["event"] != "reception" and e.get("recipient") == recipient]


def assert_fates(server, *allowed, recipient="b@b.test"):
    """The recipient's events are one of the `allowed` lists; the log may lag behind the mail."""
    wait_until(lambda: sorted(fates(server, recipient)) in [sorted(x) for x in allowed], 5,
               lambda: f"one of {allowed} for {recipient}; the events are {fates(server, recipient)}")


BOTH_WAYS = pytest.mark.parametrize("extensions", [("PIPELINING", "8BITMIME"), ()], ids=["pipelining", "one by one"])


@BOTH_WAYS
def test_refused_for_now(crowd, home, extensions):
    c = crowd(PHASES, extensions)
    for phase, sink in c.sinks.items():
        code = "421 4.3.2 not now" if phase == "CONNECT" else "451 4.3.0 not now"
        sink.on(phase, Close(code) if phase == "CONNECT" else code, times=1)
        if phase == "EHLO":
            sink.on("HELO", code, times=1)
    c.send()

    def check(phase, sink):
        address = c.address(phase)
        assert_relayed(sink.wait(1)[0], "a@a.test", [address], BODY)
        assert_fates(c.server, ["deferral", "delivery"], recipient=address)
        deferral = c.server.wait_events(lambda e: e["event"] == "deferral" and e["recipient"] == address)[0]
        assert "not now" in deferral["reply"] and deferral["code"] in (421, 451) and deferral["status"][0] == "4"
        assert deferral["attempts"] == 1 and deferral["sender"] == "a@a.test"

    c.each(check)
    c.server.wait_queue_empty()
    assert home.messages == [] and all(len(sink.messages) == 1 for sink in c.sinks.values())


@BOTH_WAYS
def test_refused_for_good(crowd, home, extensions):
    c = crowd(["MAIL", "RCPT", "DATA", "."], extensions)
    for phase, sink in c.sinks.items():
        sink.on(phase, "554 5.7.7 never")
    c.send()
    home.wait(4)
    reports = c.reports()

    def check(phase, sink):
        address = c.address(phase)
        report, fields = reports[address]
        assert fields["Action"] == "failed" and fields["Status"] == "5.7.7"
        assert fields["Diagnostic-Code"] == "smtp; 554 5.7.7 never"
        assert "127.0.0.1" in fields["Remote-MTA"]
        assert "X-Original: yes" in report.quoted and address in report.text and "never" in report.text
        assert_fates(c.server, ["bounce"], recipient=address)
        bounce = c.server.wait_events(lambda e: e["event"] == "bounce" and e["recipient"] == address)[0]
        assert (bounce["code"], bounce["status"], bounce["reply"]) == (554, "5.7.7", "5.7.7 never")
        assert c.server.wait_events(lambda e: e["id"] == bounce["notice"] and e["event"] == "delivery")
        assert sink.messages == []

    c.each(check)
    c.server.wait_queue_empty()
    assert len(home.messages) == 4 and c.server.metric("bounces_generated_total") == 4


def test_connection_ends(crowd, home):
    """The message that suffered it is retried, others are not lost with it, and none is sent twice."""
    faults = {"closes": Close(), "resets": Close(reset=True), "says 421": Close("421 4.3.2 going down")}
    c = crowd([f"{phase} {how}" for phase in PHASES for how in faults])
    for name, sink in c.sinks.items():
        phase, how = name.split(" ", 1)
        sink.on(phase, faults[how], times=1)
    for number in range(4):
        for name in c.sinks:
            send(c.server.port, "a@a.test", [c.address(name, f"u{number}")], BODY)

    def check(name, sink):
        wanted = [c.address(name, f"u{number}") for number in range(4)]
        wait_until(lambda: len(sink.recipients()) >= 4, 20, lambda: f"4 messages; there are {sink.recipients()}")
        assert sorted(sink.recipients()) == wanted
        for address in wanted:
            assert_fates(c.server, ["delivery"], ["deferral", "delivery"], recipient=address)

    c.each(check)
    c.server.wait_queue_empty()
    assert home.messages == []


def test_stall(crowd, home):
    c = crowd([*PHASES, "RSET", "QUIT"], delivery={"idle_timeout": "1s"})
    for phase, sink in c.sinks.items():
        sink.on(phase, Stall(60), times=1)
    c.sinks["RSET"].on("DATA", "451 4.3.0 no", times=1)
    started = time.monotonic()
    c.send()

    def check(phase, sink):
        sink.wait(1, 30)
        if phase not in ("RSET", "QUIT"):
            deferral = c.server.wait_events(lambda e: e["event"] == "deferral" and e["recipient"] == c.address(phase))[0]
            assert "timed out" in deferral["reply"] and deferral["code"] == 0 and deferral["status"] == "4.4.2"

    c.each(check)
    c.server.wait_queue_empty()
    assert time.monotonic() - started < 40
    assert home.messages == [] and all(len(sink.messages) == 1 for sink in c.sinks.values())
    wait_until(lambda: c.server.metric("outbound_connections_open") == 0, 20, "the connections to end")


def test_in_the_middle_of_a_body(crowd, home):
    faults = {"closes": Close(), "says 421": Close("421 4.3.2 enough"), "says 552": Close("552 5.2.2 full"), "stalls": Stall(60)}
    c = crowd(faults)
    body = BODY + ("x" * 76 + "\r\n") * 100000
    for name, sink in c.sinks.items():
        sink.on("BODY", faults[name], after=100000, times=1)
    c.send(body)

    def check(name, sink):
        if name == "says 552":
            # Whether the reply is read before the connection breaks is the network's affair; it is one of two fates.
            wait_until(lambda: sink.messages or home.messages, 30, "a fate")
            assert len(sink.messages) + len(home.messages) == 1
        else:
            assert_relayed(sink.wait(1, 30)[0], "a@a.test", [c.address(name)], body)
            assert_fates(c.server, ["deferral", "delivery"], recipient=c.address(name))

    c.each(check)
    c.server.wait_queue_empty()


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
    assert 1.5 < time.monotonic() - sent < 20
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
    started = time.monotonic()
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    assert 5.0 < time.monotonic() - started < 20
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


def test_a_retry_does_not_wait_for_the_pause_of_a_host(serve, sink):
    """What is ready waits as well, when its host was not there; to retry it means to ask the host now."""
    server = serve(retry={"schedule": ("1h",)})
    sink.close()
    send(server.port, "a@a.test", ["b@first.test"], BODY)
    server.wait_metric("recipients_deferred_total", 1)
    send(server.port, "a@a.test", ["b@second.test"], BODY)
    wait_until(lambda: "ready" in server.cli("list", "--domain", "second.test"), 5, "mail behind the one that was tried")
    sink.open()
    begin = time.monotonic()
    assert server.cli("retry", "--domain", "second.test").startswith("1 ")
    sink.wait(1)
    assert time.monotonic() - begin < 3, "the pause is five seconds"
    assert sink.recipients() == ["b@second.test"]


def test_odd_replies_are_understood(crowd, home):
    odd = {"empty lines": b"250-\r\n250-\r\n250 \r\n", "no text": b"250\r\n", "no status": b"250 no status\r\n",
           "8 bits": b"250 \xff\xfe\x80\r\n", "bare LF": b"250 x\n", "150 lines": b"250-a\r\n" * 150 + b"250 end\r\n"}
    c = crowd(odd)
    for name, sink in c.sinks.items():
        sink.on("RCPT", Raw(odd[name]), times=1)
    c.send()
    c.each(lambda name, sink: sink.wait(1))
    c.server.wait_queue_empty()
    assert home.messages == [] and all(len(sink.messages) == 1 for sink in c.sinks.values())


@pytest.mark.parametrize("phase", ["CONNECT", "RCPT", "."])
def test_garbage_defers(crowd, home, phase):
    """Never a crash, never a loss; garbage for a final reply may cost a second copy, as RFC 5321 accepts."""
    garbage = {"words": b"hello\r\n", "999": b"999 what\r\n", "empty": b"\r\n", "two digits": b"25 x\r\n",
               "endless line": b"x" * 100000 + b"\r\n", "endless reply": b"250-more\r\n" * 50000, "NUL": b"\0\0\0\0\r\n",
               "354": b"354 go\r\n"}
    c = crowd(garbage)
    for name, sink in c.sinks.items():
        sink.on(phase, Raw(garbage[name]), times=1)
    c.send()
    c.each(lambda name, sink: sink.wait(1))
    c.server.wait_queue_empty()
    assert home.messages == [] and all(len(sink.messages) == 1 for sink in c.sinks.values())


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


def test_smtp_sink_faults(make_server, sink, home):
    """The same at the hands of a program that is not ours."""
    deferred = [("-r", what) for what in ("CONNECT", "MAIL", "RCPT", "DATA", ".")]
    deferred += [("-q", what) for what in ("EHLO", "MAIL", "DATA", ".")]
    deferred += [("-Q", "RCPT"), ("-Q", "."), ("-W", "DATA:30")]
    bounced = [("-f", what) for what in ("MAIL", "RCPT", ".")]
    either = [("-A", "0")]  # 354, then at once 550: a reply to a body that is on its way, or not yet
    with contextlib.ExitStack() as stack:
        c = Crowd(make_server, home, {options: stack.enter_context(SmtpSink(*options)) 
                                      for options in deferred + bounced + either})
        c.send()

        def check(options, _):
            want = ["bounce"] * (options not in deferred) + ["deferral"] * (options not in bounced)
            events = c.server.wait_events(lambda e: e["event"] in want and e["recipient"] == c.address(options))
            assert events[0]["attempts"] == 1
            if options in bounced:
                wait_until(lambda: c.address(options) in c.reports(), 5, "the notification")
            elif options in deferred:
                assert c.address(options) not in c.reports()

        c.each(check)
        assert c.server.metric("queued_recipients") >= len(deferred)
        c.server.kill()  # it would go on trying
