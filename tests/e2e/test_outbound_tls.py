"""TLS towards remote hosts: what a route allows, what it forbids, and what is remembered."""
import signal
import socket
import threading
import time

import pytest
from harness.certificates import Authority
from harness.check import received_field
from harness.client import send
from harness.server import free_port, wait_until
from harness.sink import Close, Raw, Stall

BODY = "Subject: secret\r\n\r\nbody\r\n"
QUICK = {"timeouts": {"tls": "1s", "ehlo": "2s"}}
SOON = {"schedule": ("1s",), "jitter_percent": 0}


@pytest.fixture
def authority(tmp_path):
    return Authority(str(tmp_path))


@pytest.fixture
def secure(make_sink, authority):
    """A sink with a good certificate for sink.test."""
    return make_sink(tls=authority.issue("sink.test"), extensions=["PIPELINING", "SIZE 0"], secret=["8BITMIME", "DSN"])


def route(sink, **settings):
    return ({"domain": "*", "next_hop": sink.endpoint, **settings},)


def strict(sink, tls, authority):
    return route(sink, tls=tls, **({"tls_name": "sink.test", "tls_ca": authority.file} if tls == "verify" else {}))


def mail(server, sender="a@a.test", recipient="b@b.test"):
    send(server.port, sender, [recipient], BODY)


def delivery(server, recipient="b@b.test"):
    return server.wait_events(lambda e: e["event"] == "delivery" and e["recipient"] == recipient)[0]


def deferral(server):
    return server.wait_events(lambda e: e["event"] == "deferral")[0]


def test_tls_is_used_where_it_is_offered(make_server, secure):
    server = make_server(routes=route(secure))
    mail(server)
    message = secure.wait(1)[0]
    assert message.session.cipher and received_field(message.content)[1] == BODY.encode()
    assert [line.split()[0] for line in message.session.commands] == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA"]
    assert delivery(server)["tls"].split()[0] in ("TLSv1.3", "TLSv1.2") and delivery(server)["tls"].endswith(" unverified")
    metrics = server.metrics()
    assert metrics["outbound_tls_total"] == 1 and metrics["outbound_tls_verified_total"] == 0


def test_what_was_said_in_the_clear_is_forgotten(make_server, secure):
    """SIZE 10 holds only until TLS begins, where nothing is said of it."""
    secure.on("EHLO", "250-sink.test\r\n250-SIZE 10\r\n250 STARTTLS", times=1)
    server = make_server(routes=route(secure))
    mail(server)
    assert "SIZE=" in secure.wait(1)[0].mail_parameters and secure.messages[0].session.cipher


def test_the_host_is_told_its_name(make_server, authority, make_sink):
    """SNI: from the route, else the next hop's name, none for an address."""
    sink = make_sink(tls=authority.issue("sink.test"))
    asked = []
    sink.tls.sni_callback = lambda connection, name, context: asked.append(name)
    server = make_server(shards={"count": 1}, routes=(
        {"domain": "a.test", "next_hop": sink.endpoint, "tls_name": "named.test"},
        {"domain": "b.test", "next_hop": f"localhost:{sink.port}"}, {"domain": "c.test", "next_hop": sink.endpoint}))
    for number, domain in enumerate(("a.test", "b.test", "c.test")):
        mail(server, recipient="x@" + domain)
        sink.wait(number + 1)
    assert asked == ["named.test", "localhost", None]


def test_many_messages_share_a_secure_connection(make_server, secure):
    server = make_server(shards={"count": 1}, routes=route(secure, tls="require", connections_max=1))
    for number in range(200):
        mail(server, recipient=f"b{number}@b.test")
    secure.wait(200)
    assert len(secure.sessions) == 1
    assert server.metric("outbound_tls_total") == 1


def test_a_large_body_through_tls(make_server, secure):
    body = "Subject: large\r\n\r\n" + ("x" * 900 + "\r\n..dot\r\n") * 3000
    server = make_server(routes=route(secure, tls="require"))
    send(server.port, "a@a.test", ["b@b.test"], body)
    assert received_field(secure.wait(1)[0].content)[1] == body.encode().replace(b"\r\n..dot", b"\r\n..dot")


def test_off_is_off(make_server, secure):
    server = make_server(routes=route(secure, tls="off"))
    mail(server)
    assert secure.wait(1)[0].session.cipher is None
    assert delivery(server)["tls"] == ""


# --- where it does not work ---------------------------------------------------------------------------------------------

TROUBLE = {
    "refused": ("STARTTLS", "454 4.7.0 TLS not available"),
    "refused for good": ("STARTTLS", "502 5.5.1 no"),
    "closed instead of 220": ("STARTTLS", Close()),
    "closed instead of a handshake": ("TLS", Close()),
    "reset instead of a handshake": ("TLS", Close(reset=True)),
    "silence": ("TLS", Stall(3, Close())),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_may_goes_on_in_the_clear(make_server, secure, trouble):
    """On a new connection; and the next message does not try again."""
    secure.on(*TROUBLE[trouble])
    server = make_server(shards={"count": 1}, routes=route(secure, messages_per_connection_max=1), delivery=QUICK)
    mail(server)
    first = secure.wait(1)[0]
    assert first.session.cipher is None and "STARTTLS" not in first.session.commands
    assert len(secure.sessions) == 2
    mail(server, recipient="c@b.test")
    assert secure.wait(2)[1].session.cipher is None
    assert len(secure.sessions) == 3, "the host's TLS is known to be broken"
    assert not [event for event in server.events() if event["event"] == "deferral"]
    assert server.metric("outbound_tls_failures_total") == 1


def test_may_goes_on_after_a_handshake_that_is_none(make_server, secure):
    """An answer that is no TLS at all."""
    secure.on("TLS", Raw(b""))
    secure.tls = Chatter()
    server = make_server(routes=route(secure), delivery=QUICK)
    mail(server)
    assert secure.wait(1)[0].session.cipher is None


class Chatter:
    """Stands in for an SSLContext: speaks plain text where a handshake should be."""

    def wrap_socket(self, connection, server_side):
        connection.sendall(b"250-sink.test\r\n250 8BITMIME\r\n" * 10)
        raise OSError


@pytest.mark.parametrize("tls", ["require", "verify"])
@pytest.mark.parametrize("trouble", ["refused", "closed instead of a handshake", "silence"])
def test_strict_routes_never_go_on_in_the_clear(make_server, secure, authority, tls, trouble):
    secure.on(*TROUBLE[trouble])
    server = make_server(routes=strict(secure, tls, authority), delivery=QUICK, retry=SOON)
    mail(server)
    event = deferral(server)
    assert event["status"] == ("4.7.0" if trouble == "refused" else "4.7.5" if event["code"] else event["status"])
    assert secure.messages == [] and not any(line.startswith("MAIL") for s in secure.sessions for line in s.commands)
    secure.heal()
    assert secure.wait(1)[0].session.cipher


@pytest.mark.parametrize("tls", ["require", "verify"])
def test_strict_routes_want_it_offered(make_server, make_sink, authority, tls):
    plain = make_sink()
    server = make_server(routes=strict(plain, tls, authority), retry=SOON)
    mail(server)
    event = deferral(server)
    assert (event["code"], event["status"]) == (0, "4.7.4") and "TLS is required" in event["reply"]
    assert plain.messages == [] and not any(line.startswith("MAIL") for s in plain.sessions for line in s.commands)


@pytest.mark.parametrize("case", ["other name", "other authority", "system store"])
def test_verify_wants_the_right_certificate(make_server, make_sink, tmp_path, authority, case):
    os_ca = {"tls_ca": authority.file}
    name = "sink.test"
    if case == "other name":
        name = "evil.test"
    elif case == "other authority":
        os_ca = {"tls_ca": Authority(str(tmp_path / "other")).file}
    else:
        os_ca = {}
    sink = make_sink(tls=authority.issue(name))
    server = make_server(routes=route(sink, tls="verify", tls_name="sink.test", **os_ca), retry=SOON, start=False)
    if case == "system store":
        try:
            server.start()
        except AssertionError:
            pytest.skip("this system has no store of authorities")
    else:
        server.start()
    mail(server)
    event = deferral(server)
    assert event["status"] == "4.7.5" and "TLS with the remote host failed" in event["reply"]
    assert sink.seen == [] and not any(line.startswith("MAIL") for s in sink.sessions for line in s.commands)


def test_verify_takes_the_right_certificate(make_server, secure, authority):
    server = make_server(routes=route(secure, tls="verify", tls_name="sink.test", tls_ca=authority.file))
    mail(server)
    secure.wait(1)
    assert delivery(server)["tls"].endswith(" verified")


def test_verify_by_the_name_of_the_next_hop(make_server, make_sink, authority):
    sink = make_sink(tls=authority.issue("localhost"))
    server = make_server(routes=({"domain": "*", "next_hop": f"localhost:{sink.port}", "tls": "verify",
                                  "tls_ca": authority.file},))
    mail(server)
    sink.wait(1)
    assert delivery(server)["tls"].endswith(" verified")


def test_a_missing_file_of_authorities_is_an_error(make_server, make_sink, tmp_path):
    server = make_server(routes=route(make_sink(), tls="verify", tls_name="sink.test",
                                                                        tls_ca=str(tmp_path / "none.pem")), start=False)
    with pytest.raises(AssertionError):
        server.start()


# --- hostile hosts --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tail", [b"2", b"250-evil\r\n250 SIZE 1\r\n", b"250 " + b"x" * 3000 + b"\r\n" * 500])
@pytest.mark.parametrize("tls", ["may", "require"])
def test_octets_behind_the_220_end_the_connection(make_server, secure, tail, tls):
    """CVE-2021-38371: what was injected in the clear must not be read as if it came inside TLS."""
    secure.on("STARTTLS", Raw(b"220 go\r\n" + tail))
    server = make_server(routes=route(secure, tls=tls), delivery=QUICK, retry={"schedule": ("30s",)})
    mail(server)
    if tls == "may":
        assert secure.wait(1)[0].session.cipher is None
    else:
        deferral(server)
        assert secure.seen == []


def test_routes_with_different_policies_do_not_share_connections(make_server, secure):
    server = make_server(shards={"count": 1}, routes=({"domain": "clear.test", "next_hop": secure.endpoint, "tls": "off"},
                                                      {"domain": "*", "next_hop": secure.endpoint, "tls": "require"}))
    for number in range(10):
        mail(server, recipient=f"b{number}@clear.test")
        mail(server, recipient=f"b{number}@secret.test")
    for message in secure.wait(20):
        assert bool(message.session.cipher) == message.recipients[0].endswith("@secret.test")


def test_reload_of_the_policy(make_server, secure):
    server = make_server(routes=route(secure, tls="off"))
    mail(server)
    assert secure.wait(1)[0].session.cipher is None
    server.write_config(routes=route(secure, tls="require"))
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in server.log())
    mail(server, recipient="c@b.test")
    assert secure.wait(2)[1].session.cipher


def test_a_host_that_nobody_answers_at(make_server):
    """No TLS about it: the words are those of the connection."""
    server = make_server(routes=({"domain": "*", "next_hop": f"127.0.0.1:{free_port()}", "tls": "require"},), retry=SOON)
    mail(server)
    assert deferral(server)["status"] == "4.4.1"


def test_a_dripping_host_does_not_put_the_deadline_off(make_server):
    """Octets are no progress of a reply; only its end is."""
    drips = Dripper()
    server = make_server(routes=({"domain": "*", "next_hop": f"127.0.0.1:{drips.port}"},), delivery={"timeouts": {"ehlo": "2s"}},
                         retry={"schedule": ("60s",)})
    mail(server)
    event = server.wait_events(lambda e: e["event"] == "deferral", seconds=8)[0]
    assert "timed out waiting for the reply to EHLO" in event["reply"]
    drips.close()


class Dripper:
    """Greets, and then lets its reply to EHLO drip."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            connection, _ = self.socket.accept()
            connection.sendall(b"220 drip\r\n")
            for octet in b"250-" + b"x" * 100:
                time.sleep(0.3)
                connection.sendall(bytes([octet]))
        except OSError:
            pass

    def close(self):
        self.socket.close()
