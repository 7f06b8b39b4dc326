"""STARTTLS and implicit TLS, and what must not get through between clear text and TLS."""
import os
import socket
import ssl
import struct
import subprocess
import time

import pytest
from harness.certificates import Authority
from harness.check import received_field
from harness.client import Client, Closed, stuffed
from harness.load import program
from harness.server import free_port, wait_until

BODY = "Subject: tls\r\n\r\nHello.\r\n"
HOST = "mx.ringpost.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture(scope="module")
def leaf(authority):
    return authority.issue(HOST)


@pytest.fixture
def secure(make_server, sink, leaf):
    """A server with a STARTTLS and an implicit listener (server.implicit_port)."""
    def make(tls=None, more=None, **changes):
        server = make_server(sink, start=False)
        server.implicit_port = free_port()
        server.write_config(
            tls={"certificates": (leaf.item(),), **(tls or {})}, **(more or {}),
            listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", **changes},
                       {"name": "implicit", "address": f"127.0.0.1:{server.implicit_port}", "tls": "implicit", **changes}))
        return server.start()
    return make


# --- the good ways ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("way", ["starttls", "implicit"])
def test_message(secure, sink, authority, way, version):
    server = secure()
    context = authority.context(version=version)
    with Client(server.port if way == "starttls" else server.implicit_port,
                tls=context if way == "implicit" else None) as client:
        extensions = client.extensions()
        assert ("STARTTLS" in extensions) == (way == "starttls")
        if way == "starttls":
            client.start_tls(context)
            assert "STARTTLS" not in client.extensions()
        assert client.command("STARTTLS").code in (502, 503), "never inside TLS"
        client.message("a@a.test", "b@b.test", BODY)
        client.message("a@a.test", "c@b.test", BODY + "x" * 76 + "\r\n" * 100000)
        assert client.command("QUIT") == 221
    fields = [received_field(m.content)[0] for m in sink.wait(2)]
    assert {field["protocol"] for field in fields} == {b"ESMTPS"}
    assert {field["tls"].decode() for field in fields} == {version.name.replace("_", ".")}
    assert {e["tls"] for e in server.wait_events(lambda e: e["event"] == "reception", 2)} == \
        {version.name.replace("_", ".")}
    assert server.metric("starttls_total") == (way == "starttls")


def test_session_begins_again(secure, authority):
    """RFC 3207 4.2: what was said before is forgotten."""
    server = secure()
    with Client(server.port) as client:
        client.hello("before.test")
        assert client.command("STARTTLS now") == 501
        assert client.command("STARTTLS") == 220
        client.secure(authority.context())
        assert client.command("MAIL FROM:<a@a.test>") == 503
        client.hello("after.test")
        client.message("a@a.test", "b@b.test", BODY)


def test_not_inside_a_transaction(secure, authority):
    server = secure()
    with Client(server.port) as client:
        client.hello()
        client.command("MAIL FROM:<a@a.test>")
        assert client.command("STARTTLS") == 503
        client.command("RSET")
        client.start_tls(authority.context())


def test_required(secure, authority):
    server = secure(tls_required=True)
    with Client(server.port) as client:
        client.hello()
        assert client.command("NOOP") == 250
        for command in ("MAIL FROM:<a@a.test>", "VRFY x", "HELP"):
            assert client.command(command) == "530 5.7.0"
        client.start_tls(authority.context())
        client.message("a@a.test", "b@b.test", BODY)


def test_requiretls_only_inside(secure, authority):
    server = secure()
    with Client(server.port) as client:
        assert "REQUIRETLS" not in client.extensions()
        assert client.command("MAIL FROM:<a@a.test> REQUIRETLS") == 555
        client.start_tls(authority.context())
        assert "REQUIRETLS" in client.extensions()
        assert client.command("MAIL FROM:<a@a.test> REQUIRETLS") == 250


def test_pipelined_inside(secure, authority, sink):
    server = secure()
    with Client(server.implicit_port, tls=authority.context()) as client:
        client.hello()
        group = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n"
        client.send(group)
        assert [client.reply().code for _ in range(3)] == [250, 250, 354]
        client.send((stuffed(BODY) + group) * 20 + stuffed(BODY) + b"QUIT\r\n")
        codes = [client.reply().code for _ in range(20 * 4 + 2)]
        assert codes == [250, 250, 250, 354] * 20 + [250, 221]
        assert client.at_end()
    sink.wait(21)


def test_the_end_is_said(secure, authority):
    """close_notify comes behind the last reply, at once after QUIT and two seconds after a 421."""
    server = secure(errors_max=2)
    for commands, code in ((["QUIT"], 221), (["NONSENSE", "NONSENSE"], 421)):
        client = Client(server.implicit_port, greeting=False)
        client.socket = authority.context().wrap_socket(client.socket, server_hostname=HOST, suppress_ragged_eofs=False)
        assert client.reply() == 220
        begin = time.monotonic()
        replies = [client.command(command) for command in commands]
        if code == 421 and replies[-1] != 421:
            replies.append(client.reply())
        assert replies[-1] == code
        assert client.socket.recv(1) == b""
        assert time.monotonic() - begin < (1.9 if code == 221 else 20)


# --- what comes in the clear stays in the clear -----------------------------------------------------------------------

INJECTED = b"EHLO evil\r\nMAIL FROM:<evil@evil.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: evil\r\n\r\n.\r\n"


def assert_nothing_got_in(server, sink, client, authority):
    """Either STARTTLS was refused, and the rest answered in the clear or not at all; or the handshake cannot succeed."""
    try:
        reply = client.reply()
        if reply == 220:
            client.socket.settimeout(5)
            with pytest.raises((ssl.SSLError, OSError, Closed)):
                client.secure(authority.context())
                client.command("NOOP")
    except Closed:
        pass
    client.close()
    assert not [m for m in sink.messages if m.sender == "evil@evil.test"]
    assert not [e for e in server.events() if e["event"] == "reception" and e["tls"]]


@pytest.mark.parametrize("tail", [b"NOOP\r\n", INJECTED, INJECTED + b"x" * 16384, b"\r\n", b"x", b" "],
                         ids=["noop", "message", "16 kB", "line end", "octet", "blank"])
def test_plaintext_behind_starttls_in_one_write(secure, sink, authority, tail):
    server = secure()
    with Client(server.port) as client:
        client.hello()
        client.send(b"STARTTLS\r\n" + tail)
        reply = client.reply()
        assert reply.code in (501, 503, 554), reply
    # What was behind is dropped with the session or answered in the clear; the server goes on.
    with Client(server.port) as client:
        client.hello()
        client.start_tls(authority.context())
    assert not [m for m in sink.messages if m.sender == "evil@evil.test"]


def test_plaintext_behind_starttls_split_at_every_octet(secure, sink, authority):
    server = secure()
    text = b"STARTTLS\r\nMAIL FROM:<evil@evil.test>\r\n"
    for cut in range(1, len(text)):
        client = Client(server.port)
        client.hello()
        client.send(text[:cut])
        time.sleep(0.002)
        client.send(text[cut:])
        assert_nothing_got_in(server, sink, client, authority)
    wait_until(lambda: server.metric("sessions") == 0)


def test_plaintext_after_the_220_fails_the_handshake(secure, sink, authority):
    server = secure()
    for size in (1, 5, 100, 16384, 40000):
        with Client(server.port) as client:
            client.hello()
            assert client.command("STARTTLS") == 220
            try:
                client.send((INJECTED * (1 + size // len(INJECTED)))[:size])
                client.socket.shutdown(socket.SHUT_WR)
                client.socket.settimeout(5)
                left = b""
                while data := client.socket.recv(65536):
                    left += data
            except OSError:
                left = b""
            assert b"250" not in left and b"354" not in left
    assert not sink.messages
    wait_until(lambda: server.metric("sessions") == 0)
    assert server.wait_events(lambda e: e["event"] == "rejection" and e["phase"] == "starttls")


# --- ends in the middle -----------------------------------------------------------------------------------------------

class Tap:
    """A client's TLS by memory buffers, so that its records can be cut."""

    def __init__(self, context, name=HOST):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def flush(self, client):
        data = self.outgoing.read()
        if data:
            client.send(data)
        return len(data)

    def handshake(self, client):
        while True:
            try:
                self.tls.do_handshake()
                self.flush(client)
                return
            except ssl.SSLWantReadError:
                self.flush(client)
                self.feed(client)

    def feed(self, client):
        data = client.socket.recv(65536)
        if not data:
            raise Closed("in TLS")
        self.incoming.write(data)

    def read(self, client):
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.feed(client)


def records(data):
    """The octets at which TLS records begin and end."""
    at, ends = 0, [0]
    while at + 5 <= len(data):
        at += 5 + struct.unpack("!H", data[at + 3:at + 5])[0]
        ends.append(at)
    return ends


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_cut_at_every_record_boundary(secure, authority, sink, end):
    """Within the handshake and within a message, on the boundary and around it: nothing leaks, nothing is delivered."""
    server = secure()
    with Client(server.implicit_port, greeting=False) as client:
        tap = Tap(authority.context())
        with pytest.raises(ssl.SSLWantReadError):
            tap.tls.do_handshake()
        hello = tap.outgoing.read()
    cuts = sorted({max(0, edge + by) for edge in records(hello) for by in (-1, 0, 1)} | {1, 4, 5, 6})
    for cut in cuts:
        client = Client(server.implicit_port, greeting=False)
        client.send(hello[:cut])
        client.reset() if end == "reset" else client.close()
    words = [b"EHLO c\r\n", b"MAIL FROM:<a@a.test>\r\n", b"RCPT TO:<b@b.test>\r\n", b"DATA\r\n",
             b"Subject: cut\r\n\r\n" + b"x" * 900 + b"\r\n", b".\r"]
    for count in range(1, len(words) + 1):
        for by in (-1, 0, 1):
            client = Client(server.implicit_port, greeting=False)
            tap = Tap(authority.context())
            tap.handshake(client)
            assert tap.read(client).startswith(b"220")
            for word in words[:count]:
                tap.tls.write(word)
            data = tap.outgoing.read()
            edges = records(data)
            client.send(data[:max(0, edges[-1] + by)] if by <= 0 else data + b"\x17")
            client.reset() if end == "reset" else client.close()
    wait_until(lambda: server.metric("sessions") == 0)
    assert not sink.messages
    with Client(server.implicit_port, tls=authority.context()) as client:
        client.hello()
        client.message("a@a.test", "b@b.test", BODY)


def test_close_notify_amid_pipelined_replies(secure, authority):
    server = secure()
    for _ in range(20):
        client = Client(server.implicit_port, greeting=False)
        tap = Tap(authority.context())
        tap.handshake(client)
        tap.tls.write(b"EHLO c\r\n" + b"NOOP\r\n" * 500)
        try:
            tap.tls.unwrap()
        except ssl.SSLError:
            pass
        tap.flush(client)
        client.close()
    wait_until(lambda: server.metric("sessions") == 0)


def test_octet_by_octet(secure, authority, sink):
    server = secure()
    client = Client(server.implicit_port, greeting=False)
    tap = Tap(authority.context())
    real, client.send = client.send, lambda data: [real(data[i:i + 1]) for i in range(len(data))]
    tap.handshake(client)
    assert tap.read(client).startswith(b"220")
    tap.tls.write(b"EHLO c\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n")
    tap.flush(client)
    tap.tls.write(stuffed(BODY) + b"QUIT\r\n")
    tap.flush(client)
    sink.wait(1)
    client.close()


def test_handshake_meets_a_deadline(secure):
    server = secure(tls={"handshake_timeout": "1s"})
    slow = Client(server.implicit_port, greeting=False)
    slow.send(b"\x16\x03\x01")
    asked = Client(server.port)
    asked.hello()
    assert asked.command("STARTTLS") == 220
    for client in (slow, asked):
        assert client.at_end(5)
    assert server.metric("sessions") == 0


def test_what_is_no_tls(secure):
    server = secure()
    for data in (b"EHLO client.test\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70000,
                 b"\x80\x2e\x01\x00\x02"):
        with Client(server.implicit_port, greeting=False) as client:
            try:
                client.send(data)
                client.socket.shutdown(socket.SHUT_WR)
                client.socket.settimeout(5)
                while client.socket.recv(65536):
                    pass
            except OSError:
                pass
    wait_until(lambda: server.metric("sessions") == 0)


def test_sessions_max(secure, authority):
    server = secure(tls={"sessions_max": 2})
    kept = [Client(server.implicit_port, tls=authority.context()) for _ in range(2)]
    with Client(server.port) as client:
        client.hello()
        assert client.command("STARTTLS") == "454 4.7.0"
        client.message("a@a.test", "b@b.test", BODY)
    kept[0].close()

    def again():
        with Client(server.port) as other:
            other.hello()
            return other.command("STARTTLS") == 220
    wait_until(again)


# --- certificates -----------------------------------------------------------------------------------------------------

def served(port, context, name=HOST):
    """The certificate that is given for a name, DER."""
    with Client(port, tls=context, name=name) as client:
        return client.socket.getpeercert(True)


def test_by_name_and_by_kind(make_server, sink, authority, leaf):
    rsa, other = authority.issue(HOST, "rsa"), authority.issue("mail.other.test")
    server = make_server(sink, start=False)
    server.write_config(tls={"certificates": (leaf.item(), rsa.item(), other.item(server_names="mail.other.test"))},
                        listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", "tls": "implicit"},))
    server.start()
    subject = lambda der: ssl.DER_cert_to_PEM_cert(der)
    pem = lambda certificate: open(certificate.certificate, encoding="ascii").read()
    assert subject(served(server.port, authority.context())) == pem(leaf)
    assert subject(served(server.port, authority.context(), "mail.other.test")) == pem(other)
    only_rsa = authority.context(version=ssl.TLSVersion.TLSv1_2)
    only_rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    assert subject(served(server.port, only_rsa)) == pem(rsa)


@pytest.mark.parametrize("name", ["a" * 63 + ".test", "mx\\ringpost.test", "x" * 63 + "." + "y" * 63 + "." + "z" * 60])
def test_strange_names(secure, authority, name):
    server = secure()
    context = authority.context()
    context.check_hostname = False
    words = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{server.implicit_port}", "-servername", name, "-quiet",
             "-no_ign_eof"]
    run = subprocess.run(words, input=b"QUIT\r\n", capture_output=True, timeout=20)
    assert run.returncode in (0, 1)
    assert Client(server.implicit_port, tls=context).greeting == 220


def replace(new, old):
    for file in ("certificate", "key"):
        os.replace(getattr(new, file), getattr(old, file))


def test_renewal_without_dropping_sessions(make_server, sink, authority):
    leaf = authority.issue(HOST, file="renewed")
    server = make_server(sink, start=False)
    server.write_config(tls={"certificates": (leaf.item(),)},
                        listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", "tls": "implicit"},))
    server.start()
    before = served(server.port, authority.context())
    assert 29 * 86400 < server.metric("tls_certificate_expires_seconds") - time.time() <= 30 * 86400
    with Client(server.port, tls=authority.context()) as client:
        client.hello()
        replace(authority.issue(HOST, file="new"), leaf)
        server.send_signal(1)
        wait_until(lambda: served(server.port, authority.context()) != before)
        client.message("a@a.test", "b@b.test", BODY)
        # And by itself, when the files change; one without the other is no reason to stop serving.
        second = served(server.port, authority.context())
        new = authority.issue(HOST, file="newer")
        os.replace(new.certificate, leaf.certificate)
        wait_until(lambda: "TLS is not set up" in server.log(), 25)
        assert served(server.port, authority.context()) == second
        os.replace(new.key, leaf.key)
        wait_until(lambda: served(server.port, authority.context()) != second, 25)
        client.message("a@a.test", "b@b.test", BODY)
    sink.wait(2)


@pytest.mark.parametrize("what", ["no file", "not PEM", "another key"])
def test_bad_files_stop_the_start_and_not_the_server(make_server, sink, authority, what, tmp_path):
    leaf = authority.issue(HOST, file="bad")
    other = authority.issue(HOST, file="other")
    server = make_server(sink, start=False)
    server.write_config(tls={"certificates": (leaf.item(),)},
                        listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", "tls": "implicit"},))
    server.start()
    if what == "no file":
        os.remove(leaf.certificate)
    elif what == "not PEM":
        with open(leaf.key, "w", encoding="ascii") as file:
            file.write("nonsense\n")
    else:
        os.replace(other.key, leaf.key)
    server.send_signal(1)
    wait_until(lambda: "configuration not reloaded" in server.log())
    assert "bad.pem" in server.log() or "bad.key" in server.log()
    assert Client(server.port, tls=authority.context()).greeting == 220


def test_client_certificates(make_server, sink, authority, leaf, tmp_path):
    strangers = Authority(str(tmp_path / "strangers"), "strangers")
    server = make_server(sink, start=False)
    ask = free_port()
    common = {"tls": "implicit", "client_authorities": authority.file}
    server.write_config(tls={"certificates": (leaf.item(),)}, listeners=(
        {"name": "in", "address": f"127.0.0.1:{server.port}", "client_certificates": "require", **common},
        {"name": "ask", "address": f"127.0.0.1:{ask}", "client_certificates": "ask", **common}))
    server.start()
    good = authority.context(authority.issue("client.test"))
    bad = authority.context(strangers.issue("client.test"))
    assert Client(server.port, tls=good).greeting == 220
    assert Client(ask, tls=good).greeting == 220
    assert Client(ask, tls=authority.context()).greeting == 220
    for context in (bad, authority.context()):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Client(server.port, tls=context)


# --- programs of others -----------------------------------------------------------------------------------------------

def test_openssl(secure, authority):
    server = secure()
    for words in (["-starttls", "smtp", "-connect", f"127.0.0.1:{server.port}"],
                  ["-connect", f"127.0.0.1:{server.implicit_port}"]):
        run = subprocess.run([program("openssl"), "s_client", *words, "-servername", HOST, "-CAfile", authority.file,
                              "-verify_return_error", "-crlf"], input=b"QUIT\n", capture_output=True, timeout=30)
        text = run.stdout.decode(errors="replace")
        assert "Verify return code: 0" in text, text + run.stderr.decode()
        assert "X25519" in text, "X25519 first"


def test_swaks_and_curl(secure, sink, tmp_path):
    server = secure()
    (tmp_path / "mail").write_text(BODY)
    both = ["--from", "a@a.test", "--to"]
    runs = [
        [program("swaks"), "--server", f"127.0.0.1:{server.port}", *both, "swaks@b.test", "-tls"],
        [program("swaks"), "--server", f"127.0.0.1:{server.implicit_port}", *both, "swaks2@b.test", "--tls-on-connect"],
        [program("curl"), "-sSk", "--ssl-reqd", f"smtp://127.0.0.1:{server.port}", "--mail-from", "a@a.test", "--mail-rcpt",
         "curl@b.test", "-T", str(tmp_path / "mail")],
        [program("curl"), "-sSk", f"smtps://127.0.0.1:{server.implicit_port}", "--mail-from", "a@a.test", "--mail-rcpt",
         "curl2@b.test", "-T", str(tmp_path / "mail")],
    ]
    for words in runs:
        run = subprocess.run(words, capture_output=True, text=True, timeout=30)
        assert run.returncode == 0, run.stdout + run.stderr
    assert {received_field(m.content)[0]["protocol"] for m in sink.wait(4)} == {b"ESMTPS"}
