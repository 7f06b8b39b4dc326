"""What strangers send: too much of everything, every octet everywhere, and ends at every moment. Each in clear text and inside
TLS where that can make a difference; every load is bounded in count and time."""
import json
import os
import re
import socket
import ssl
import threading

import pytest
from harness import accounts
from harness.certificates import Authority
from harness.check import received_field
from harness.client import Client, Closed, send, stuffed
from harness.door import HOST, PASSWORD, WAYS, Door
from harness.maildir import Maildirs
from harness.server import SANITIZED, wait_until

BODY = "Subject: x\r\n\r\nHello.\r\n"
FLAT = (64 if SANITIZED else 6) << 20
# The pool is touched sooner or later, whatever is sent: 2 MiB of it for each of two shards.
FEW_BUFFERS = {"receive_buffers": 256, "receive_buffer_bytes": 8192}
MANY = 100_000 if SANITIZED else 1_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture(scope="module")
def leaf(authority):
    return authority.issue(HOST)


@pytest.fixture
def make_door(make_server, sink, authority, leaf):
    return lambda **changes: Door(make_server, sink, authority, leaf, **changes)


@pytest.fixture
def door(make_door):
    return make_door()


# --- too much (rows 8-10, 13, 19 of docs/conformance.md) --------------------------------------------------------------------

def flood(client, block, count):
    """Sends the block so many times while all replies are read; {code: lines}, until the server has said goodbye."""
    def write():
        try:
            for _ in range(count):
                client.send(block)
            client.send("QUIT\r\n")
        except OSError:
            pass
    client.socket.settimeout(60)
    writer = threading.Thread(target=write)
    if isinstance(client.socket, ssl.SSLSocket):
        return flood_in_turns(client, block, count)
    writer.start()
    codes, rest = {}, b""
    while True:
        try:
            data = client.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            break
        *lines, rest = (rest + data).split(b"\r\n")
        for line in lines:
            codes[line[:3]] = codes.get(line[:3], 0) + 1
    writer.join(60)
    assert not writer.is_alive()
    return codes


def flood_in_turns(client, block, count):
    """An SSL socket is for one thread: one block, then its replies."""
    codes = {}
    commands = None
    for _ in range(count):
        client.send(block + b"NOOP mark\r\n")
        client.send("VRFY mark\r\n")
        while True:
            code = client.line().encode()[:3]
            if code == b"252":
                break
            codes[code] = codes.get(code, 0) + 1
        commands = commands or sum(codes.values())
        codes[b"250"] -= 1
    client.send("QUIT\r\n")
    codes[b"221"] = client.reply().code == 221
    return codes


LINE = b"x" * 98 + b"\r\n"
ONE_OCTET = b"".join(b"BDAT 1\r\n" + LINE[n:n + 1] for n in range(100)) * 10


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["BDAT", "RSET", "NOOP"])
def test_a_million_small_commands(make_door, way, what):
    door = make_door(limits=FEW_BUFFERS)
    block = {"BDAT": ONE_OCTET, "RSET": b"RSET\r\n" * 1000, "NOOP": b"NOOP\r\n" * 1000}[what]
    with door.connect(way) as client:
        if what == "BDAT":
            assert client.command("MAIL FROM:<a@a.test>") == 250
            assert client.command("RCPT TO:<b@b.test>") == 250
            client.send(ONE_OCTET)
            assert {client.reply().code for _ in range(1000)} == {250}
        before = door.server.rss()
        codes = flood(client, block, MANY // 1000)
        assert codes == {b"250": MANY, b"221": 1}
        assert door.server.rss() - before < FLAT
    door.server.wait_queue_empty()


def test_a_million_recipients(make_door):
    """Row 13: 452 for the excess, 421 when there are too many of these; the next session begins anew."""
    door = make_door(limits=FEW_BUFFERS)
    before, said = None, {}
    while sum(said.values()) < MANY:
        with door.connect() as client:
            client.send("MAIL FROM:<a@a.test>\r\n")
            for code, lines in flood(client, b"".join(b"RCPT TO:<b%d@b.test>\r\n" % n for n in range(2000)), 6).items():
                said[code] = said.get(code, 0) + lines
        before = before or door.server.rss()
    assert set(said) <= {b"250", b"452", b"421", b"221"} and said[b"250"] and said[b"452"], said
    assert door.server.rss() - before < FLAT


@pytest.mark.parametrize("way", WAYS)
def test_a_line_of_a_megabyte(make_door, sink, way):
    door = make_door(limits=FEW_BUFFERS)
    with door.connect(way) as client:
        before = door.server.rss()
        for begin in ("", "NOOP ", "EHLO ", "MAIL FROM:<", "MAIL FROM:<a@a.test> ENVID=", "VRFY ", "x\0", "STARTTLS"):
            reply = client.command(begin + "x" * (1 << 20))
            assert reply.code in (500, 501), (begin, reply)
        for header in ("", "Subject: ", "x\r\n "):
            client.envelope("a@a.test", ["b@b.test"])
            client.send(header + "x" * (1 << 20) + "\r\n\r\n.\r\n")
            assert client.reply().code in (500, 550, 554)
            assert client.command("DATA").code in (503, 554)
        assert door.server.rss() - before < FLAT
        client.message("a@a.test", "after@b.test", BODY)
    assert sink.wait(1)[0].recipients == ["after@b.test"]


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_thousand_header_fields(door, sink, way):
    fields = "".join(f"X-Field-{n}: {n}\r\n" for n in range(100_000))
    folded = "X-One:\r\n" + " a folded line that belongs to the field above\r\n" * 20_000
    with door.connect(way) as client:
        client.message("a@a.test", "b@b.test", fields + "\r\nbody\r\n")
        client.message("a@a.test", "b@b.test", folded + "\r\nbody\r\n")
    received = sorted(len(received_field(m.content)[1]) for m in sink.wait(2))
    assert received == sorted(len(text) + len("\r\nbody\r\n") for text in (fields, folded))


@pytest.mark.parametrize("way", WAYS)
def test_ehlo_of_every_size(door, sink, way):
    """Row 19. RFC 5321 4.5.3.1.2: a domain has at most 255 octets."""
    with door.connect(way) as client:
        for size in [*range(250, 260), 503, 504, 505, 507, 511, 512, 513, 1023, 1024, 2040, 2048, 2049, 4096, 8192, 8193, 16384,
                     16385, 32768, 65536]:
            for name in ("x" * size, ".".join(["x" * 63] * (size // 64 + 1))[:size], "[" + "1" * size + "]", "%n%s" * (size // 4)):
                reply = client.command("EHLO " + name)
                valid = size <= 255 and re.fullmatch(r"(x{1,63}\.)*x{1,63}", name)
                assert reply.code in ((250,) if valid else (500, 501)), (size, name[:20], reply)
        client.hello("after.test")
        client.message("a@a.test", "b@b.test", BODY)
    assert received_field(sink.wait(1)[0].content)[0]["helo"] == b"after.test"


# --- every octet (rows 11, 12, 20, 21) ------------------------------------------------------------------------------

XCHARS = [chr(octet) for octet in range(33, 127) if chr(octet) not in "+="]


def octets_of(form):
    """(text, must it be taken; None when the RFC leaves it open) for every octet."""
    for octet in range(256):
        if form == "raw":
            if octet not in b"\r\n":
                yield bytes([octet]), chr(octet) in XCHARS
        else:
            yield b"+%02X" % octet, True if 33 <= octet < 127 else None


@pytest.mark.parametrize("form", ["raw", "hexadecimal"])
def test_every_octet_in_xtext_survives_a_restart(make_server, make_sink, form):
    """RFC 3461 4.2, 4.4, 5.2.1; row 11: what is in ENVID and ORCPT reaches the next hop as it came, whatever it is."""
    down = make_sink(extensions=("PIPELINING", "8BITMIME", "DSN"))
    down.close()
    server = make_server(down, listeners={"errors_max": 10000, "error_delay": 0, "messages_max": 0})
    sent = {}
    with Client(server.port) as client:
        client.hello()
        for number, (text, valid) in enumerate(octets_of(form)):
            recipient = f"r{number}@b.test"
            client.send(b"MAIL FROM:<a@a.test> ENVID=q" + text + b"z\r\n")
            reply = client.reply()
            took_envid = reply.code == 250
            assert took_envid == valid or valid is None, (text, reply)
            if not took_envid:
                assert reply.code in (500, 501, 555), (text, reply)
                assert client.command("MAIL FROM:<a@a.test>") == 250
            client.send(f"RCPT TO:<{recipient}> ORCPT=rfc822;q".encode() + text + b"z\r\n")
            reply = client.reply()
            took_orcpt = reply.code == 250
            assert took_orcpt == valid or valid is None, (text, reply)
            if not took_orcpt:
                assert reply.code in (500, 501, 553, 555), (text, reply)
                assert client.command(f"RCPT TO:<{recipient}>") == 250
            assert client.command("DATA") == 354
            client.send(stuffed(BODY))
            assert client.reply() == 250
            sent[recipient] = (took_envid and text.decode(), took_orcpt and text.decode())
    server.kill()
    server.start()
    down.open()
    wait_until(lambda: len(set(down.recipients())) == len(sent), 40, "all messages")
    for message in down.messages:
        envid, orcpt = sent[message.recipients[0]]
        assert (f"ENVID=q{envid}z" in message.mail_parameters.split()) == bool(envid)
        parameters = message.rcpt_parameters[message.recipients[0]].split()
        assert (f"ORCPT=rfc822;q{orcpt}z" in parameters) == bool(orcpt), (orcpt, parameters)
        assert len(parameters) <= 2 and "\n" not in message.mail_parameters


def test_every_octet_in_the_auth_parameter(door):
    """RFC 4954 5: xtext of a mailbox, or <>; anything else is refused and nothing is left of it."""
    with door.connect_submission() as client:
        assert client.command("AUTH PLAIN " + accounts.plain("ann@a.test", PASSWORD)) == 235
        assert client.command("MAIL FROM:<ann@a.test> AUTH=<>") == 250
        errors = 0
        for octet in range(256):
            for text in (bytes([octet]), b"+%02X" % octet):
                if octet in b"\r\n" and len(text) == 1:
                    continue
                assert client.command("RSET") == 250
                client.send(b"MAIL FROM:<ann@a.test> AUTH=e" + text + b"mc2@example.com\r\n")
                code = client.reply().code
                assert code in (250, 500, 501, 550, 553, 555), (text, code)
                errors += code != 250
                assert client.command("RCPT TO:<b@b.test>").code == (250 if code == 250 else 503), text
                if len(text) == 1 and not 33 <= octet < 127:
                    assert code != 250, text
                if errors == 8:
                    return_to(client, door)
                    errors = 0


def return_to(client, door):
    """A new session in the same object: errors_max ends the old one."""
    fresh = door.connect_submission()
    client.close()
    client.socket, client.buffer = fresh.socket, b""
    assert client.command("AUTH PLAIN " + accounts.plain("ann@a.test", PASSWORD)) == 235


def quote(text):
    """As a local part."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


EVIL = ["$(touch pwned)", "`touch pwned`", "|touch pwned", "${run{touch pwned}}", "../../../pwned", "/pwned", "%n%s%x", "a;touch pwned",
        "a&&touch pwned", "a' OR '1'='1", '\\"quoted', "{{7*7}}", "-oQ/tmp", "~root", "*"]


def test_nothing_is_expanded_anywhere(make_server, make_sink, tmp_path):
    """Rows 20, 21, 28, 31: addresses, EHLO, ENVID, ORCPT and header through Maildir, notification and event log."""
    sink = make_sink()
    sink.on("RCPT", "550 5.1.1 $(touch pwned) `touch pwned` %n no such user")
    maildirs = Maildirs(tmp_path, mailboxes=["postmaster", *map(quote, EVIL)])
    server = make_server(sink, domains=(maildirs.settings,), environment={"PWD": str(tmp_path)})
    quoted = [quote(text) for text in EVIL]
    with Client(server.port) as client:
        for evil in EVIL:
            assert client.command(f"EHLO {evil}").code in (250, 501), evil
        client.hello()
        for local, evil in zip(quoted, EVIL):
            xtext = "".join(c if c in XCHARS else f"+{ord(c):02X}" for c in evil)
            assert client.command(f"MAIL FROM:<{local}@own.test> ENVID={xtext}") == 250, local
            assert client.command(f"RCPT TO:<{local}@own.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{xtext}") == 250
            assert client.command(f"RCPT TO:<{local}@b.test> NOTIFY=FAILURE ORCPT=rfc822;{xtext}") == 250
            assert client.command("DATA") == 354
            client.send(stuffed(f"Subject: {evil}\r\nX-Evil: {evil}\r\n\r\n{evil}\r\n"))
            assert client.reply() == 250
    server.wait_queue_empty()
    users = os.listdir(maildirs.path(""))
    contents = [open(path, "rb").read() for user in users for path in maildirs.files(user)]
    assert len([c for c in contents if b"\nX-Evil: " in c and b"multipart/report" not in c]) == len(EVIL)
    for local in quoted:
        assert any(b"Final-Recipient: rfc822;" in c and f"{local}@b.test".encode() in c.replace(b"; ", b";") for c in contents), local
    bounced = {e["recipient"] for e in server.wait_events(lambda e: e["event"] == "bounce", len(EVIL))}
    assert bounced == {f"{local}@b.test" for local in quoted}
    assert not any("pwned" in name for root, _, names in os.walk(server.directory) for name in names)
    outside = [os.path.join(root, name) for root, directories, names in os.walk(tmp_path)
               for name in names + directories if name == "pwned"]
    assert outside == [] and not os.path.exists("pwned") and not os.path.exists("/pwned")
    for line in server.log().splitlines():
        assert line.isprintable(), line
    assert json.dumps(sorted(bounced))


# --- ends at every moment (row 14) ----------------------------------------------------------------------------------

MOMENTS = ["", "EHL", "EHLO x.test\r\n", "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\n", "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:",
           "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n",
           "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: x\r\n\r",
           "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: x\r\n\r\n.\r",
           "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 1000\r\nhalf",
           "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 3\r\nab\nBDAT 1000000 LAST\r\n",
           "EHLO x.test\r\n" + "NOOP\r\n" * 5000, "EHLO x.test\r\nMAIL FROM:<a@a.test>\r\n" + "RCPT TO:<b@b.test>\r\n" * 500,
           "EHLO x.test\r\nSTARTTLS\r\n", "EHLO x.test\r\nQUIT\r\n", "x" * 100000]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["fin", "reset", "half", "notify"])
def test_ends_at_every_moment(door, sink, way, end):
    with door.connect(way) as client:
        for _ in range(4):  # one for each shard to open its files
            send(door.server.port, "first@a.test", "first@b.test", BODY)
        files = door.server.open_files()
    for moment in MOMENTS:
        for waits in (False, True):
            client = door.connect(way, hello=False)
            client.send(moment)
            if waits and moment.endswith("\r\n"):
                client.reply()
            leave(client, end)
    wait_until(lambda: door.server.metric("sessions") == 0, 20, lambda: f"{door.server.metric('sessions')} sessions to end")
    wait_until(lambda: door.server.open_files() <= files, 5, lambda: f"{files} files, {door.server.open_files()} are open")
    with door.connect(way) as client:
        client.message("a@a.test", "after@b.test", BODY)
    assert [m.recipients for m in sink.wait(5) if m.sender != "first@a.test"] == [["after@b.test"]]


def leave(client, end):
    if end == "reset":
        client.reset()
        return
    try:
        if end == "half":
            client.socket.shutdown(socket.SHUT_WR)
        elif end == "notify" and isinstance(client.socket, ssl.SSLSocket):
            client.socket.settimeout(0.2)
            client.socket.unwrap().close()
    except (OSError, ssl.SSLError, ValueError):
        pass
    client.close()


# --- TLS (rows 18, 30) ----------------------------------------------------------------------------------------------

def extension(number, data):
    return number.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def client_hello(names, kind=0):
    """TLS 1.2, with whatever server names there should be."""
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for name in names)
    extensions = extension(0, len(entries).to_bytes(2, "big") + entries) + extension(10, b"\0\4\0\x1d\0\x17") + \
        extension(11, b"\1\0") + extension(13, b"\0\6\4\3\x08\4\4\1")
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\4\xc0\x2b\xc0\x2f" + b"\1\0" + len(extensions).to_bytes(2, "big") + extensions
    handshake = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + len(handshake).to_bytes(2, "big") + handshake


@pytest.mark.parametrize("way", WAYS)
def test_server_names_that_are_none(door, way):
    """Row 18: answered or refused, never believed, and never a line of its own in the log."""
    names = [[b"\\"], [b"mx.ringpost.test\\"], [b"mx.ringpost.test\0.evil.test"], [b"a" * 255], [b"a" * 256], [b"a" * 15000], [b""], [],
             [b"\xff\xfe\x80"], [b"%n%s%x"], [b"a\nlevel=error msg=forged"], [b"a\r\n"], [b"a", b"b"], [b"$(touch pwned)"],
             [b"."], [b"*.test"], [b"[127.0.0.1]"], [b"MX.RINGPOST.TEST."]]
    for name in names:
        for kind in (0, 1):
            client = Client(door.server.port) if way == "clear" else Client(door.secure_port, greeting=False)
            if way == "clear":
                client.hello()
                assert client.command("STARTTLS") == 220
            client.send(client_hello(name, kind))
            try:
                data = client.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            assert data[:1] in (b"\x16", b"\x15", b""), (name, data[:10])
            client.close()
    wait_until(lambda: door.server.metric("sessions") == 0, 10, "the sessions to end")
    log = door.server.log()
    assert "\nlevel=error msg=forged" not in log and all(line.isprintable() for line in log.splitlines()), log
    with door.connect("tls") as client:
        assert client.command("NOOP") == 250


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets_of_one_listener_are_nothing_to_another(door, version):
    """Row 30. The same listener resumes, the other one makes a whole handshake."""
    context = door.authority.context(version=version)

    def visit(port, session=None):
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            with context.wrap_socket(plain, server_hostname=HOST, session=session) as secured:
                assert secured.recv(1000).startswith(b"220")  # behind the tickets of TLS 1.3
                secured.sendall(b"EHLO x.test\r\n")
                secured.recv(4000)
                return secured.session_reused, secured.session
    assert visit(door.secure_port)[0] is False
    ticket = visit(door.secure_port)[1]
    assert visit(door.secure_port, ticket)[0] is True
    ticket = visit(door.secure_port)[1]
    assert visit(door.submission_port, ticket)[0] is False
    ticket = visit(door.submission_port)[1]
    assert visit(door.submission_port, ticket)[0] is True
    ticket = visit(door.submission_port)[1]
    assert visit(door.secure_port, ticket)[0] is False


@pytest.mark.parametrize("protocols, taken", [(["smtp"], True), (["h2", "smtp"], True), (["http/1.1"], False), (["h2", "http/1.1"], False)])
def test_alpn_is_smtp_or_nothing(door, protocols, taken):
    """S16: a browser that is led here by somebody else gets no session."""
    context = door.authority.context()
    context.set_alpn_protocols(protocols)
    try:
        with Client(door.secure_port, tls=context) as client:
            assert taken and client.greeting == 220 and client.socket.selected_alpn_protocol() == "smtp"
    except (ssl.SSLError, Closed, ConnectionError):
        assert not taken


def test_a_certificate_with_a_nul_in_its_name(make_server, sink, authority, leaf):
    """Row 25: what ends at the NUL for one reader goes on for another; EXTERNAL believes neither."""
    server = make_server(sink, start=False)
    accounts.write(f"{server.directory}/passwords", accounts.line("host.a.test", options="certificate=host.a.test sender=*"))
    server.write_config(tls={"certificates": (leaf.item(),)}, auth={"passwords": f"{server.directory}/passwords"}, listeners=(
        {"name": "in", "address": f"127.0.0.1:{server.port}", "role": "submission", "tls": "implicit", "client_certificates": "ask",
         "client_authorities": authority.file, "error_delay": 0},))
    server.start()

    def login(*names):
        entries = b"".join(b"\x82" + bytes([len(name)]) + name for name in names)
        alternative = "DER:" + (b"\x30" + bytes([len(entries)]) + entries).hex(":")
        certificate = authority.issue("x.test", alternative=alternative, file=entries.hex()[:40])
        with Client(server.port, tls=authority.context(certificate)) as client:
            client.hello()
            return client.command("AUTH EXTERNAL =").code
    assert login(b"host.a.test") == 235
    for names in ((b"host.a.test\0.evil.test",), (b"host.a.test\0",), (b"\0host.a.test",), (b"*.a.test",), (b"host.a.test.",),
                  (b"host.a.test\n",)):
        try:
            assert login(*names) in (504, 535), names
        except (ssl.SSLError, Closed, ConnectionError):
            pass  # not even the handshake
