"""Filters that others wrote: opendkim signs and verifies, and a program on libmilter (python3-milter) does all that its
library knows. Skipped where they are not installed."""
import base64
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from harness.client import Client
from harness.server import free_port, wait_until

OPENDKIM = shutil.which("opendkim", path="/usr/sbin:/usr/bin")
MESSAGE = ("From: Ann <ann@signer.test>\r\nTo: bob@sink.test\r\nSubject: one\r\n\ttwo\r\nDate: Mon, 30 Nov 2026 00:00:00 +0000\r\n"
           "Message-ID: <1@signer.test>\r\n\r\nHello,\r\n.dots  and  blanks \r\n..\r\nend\r\n\r\n\r\n")


@pytest.fixture
def run(tmp_path):
    """Starts a program that opens the socket, and ends it."""
    running = []

    def start(words, port, **options):
        with open(tmp_path / f"log{len(running)}", "ab") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, **options)
        running.append(process)

        def is_open():
            assert process.poll() is None, open(log.name, encoding="utf-8").read()
            state = subprocess.run(["grep", "-q", f":{port:04X} 00000000:0000 0A", "/proc/net/tcp"], check=False)
            return state.returncode == 0
        wait_until(is_open, 20, f"{words[0]} to listen")
        return process
    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def send(server, message, sender="ann@signer.test", recipient="bob@sink.test"):
    with Client(server.port) as client:
        client.hello()
        reply = client.message(sender, recipient, message)
        client.command("QUIT")
    return reply


@pytest.mark.skipif(OPENDKIM is None, reason="no opendkim")
@pytest.mark.parametrize("form", ["simple/simple", "relaxed/relaxed"])
def test_opendkim_signs_and_verifies(make_server, sink, run, tmp_path, form):
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    public = subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True)
    keys = tmp_path / "keys"
    keys.write_text(f"s1._domainkey.signer.test v=DKIM1; k=rsa; p={base64.b64encode(public.stdout).decode()}\n")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1\n")
    nobody = tmp_path / "nobody"
    nobody.write_text("192.0.2.1\n")
    ports = free_port(), free_port()
    common = f"Background no\nSyslog no\nRequireSafeKeys no\nCanonicalization {form}\n"
    (tmp_path / "sign.conf").write_text(
        f"{common}Mode s\nSocket inet:{ports[0]}@127.0.0.1\nDomain signer.test\nSelector s1\nKeyFile {key}\n"
        f"InternalHosts {hosts}\nOversignHeaders From\n")
    (tmp_path / "verify.conf").write_text(
        f"{common}Mode v\nSocket inet:{ports[1]}@127.0.0.1\nTestPublicKeys {keys}\nInternalHosts {nobody}\n"
        "AuthservID verifier.test\nAlwaysAddARHeader yes\n")
    for name, port in zip(("sign", "verify"), ports):
        run([OPENDKIM, "-f", "-x", str(tmp_path / f"{name}.conf")], port)
    milters = tuple({"name": name, "socket": f"inet:127.0.0.1:{port}"} for name, port in zip(("sign", "verify"), ports))
    first = make_server(sink, milters=milters, listeners={"milters": "sign"})
    send(first, MESSAGE)
    sink.wait(1)
    signed = sink.messages[0].content
    assert re.match(rb"DKIM-Signature: v=1; [^\r]*(\r\n\t[^\r]*)*\r\nReceived: from client.test", signed), signed
    assert signed.endswith(MESSAGE.encode())
    second = make_server(sink, milters=milters, listeners={"milters": "verify"})
    send(second, signed.decode())
    sink.wait(2)
    assert re.search(rb"Authentication-Results: verifier\.test;\s+dkim=pass", sink.messages[1].content), sink.messages[1].content
    send(second, signed.decode().replace("Hello", "Hallo"))
    sink.wait(3)
    assert b"dkim=pass" not in sink.messages[2].content and b"dkim=fail" in sink.messages[2].content
    assert "milter_failures_total{milter=\"sign\"} 0" in first.get("/metrics")[1]
    assert "milter_failures_total{milter=\"verify\"} 0" in second.get("/metrics")[1]


PROGRAM = textwrap.dedent("""
    import sys
    import Milter

    class Filter(Milter.Base):
        def connect(self, name, family, address):
            self.seen = [f"connect {name} {address[0]}"]
            return Milter.CONTINUE
        def hello(self, name):
            self.seen.append(f"hello {name}")
            return Milter.CONTINUE
        def envfrom(self, path, *parameters):
            self.seen.append(f"mail {path} {' '.join(parameters)} {self.getsymval('{mail_addr}')}")
            return Milter.CONTINUE
        def envrcpt(self, path, *parameters):
            self.seen.append(f"rcpt {path} {self.getsymval('{rcpt_addr}')}")
            if path == "<refused@sink.test>":
                self.setreply("550", "5.7.99", "not this 100%% one", "nor now")
                return Milter.REJECT
            return Milter.CONTINUE
        def header(self, name, value):
            self.seen.append(f"header {name}={value!r}")
            return Milter.CONTINUE
        def eoh(self):
            self.body_bytes = 0
            return Milter.CONTINUE
        def body(self, piece):
            self.body_bytes += len(piece)
            return Milter.CONTINUE
        def eom(self):
            self.progress()
            for line in self.seen:
                self.addheader("X-Seen", line)
            self.addheader("X-Body", str(self.body_bytes))
            self.addheader("X-First", "on top", 0)
            self.chgheader("Subject", 1, "changed\\n folded")
            self.chgheader("X-Gone", 1, "")
            self.addrcpt("<added@sink.test>")
            self.delrcpt("<removed@sink.test>")
            self.chgfrom("<changed@signer.test>")
            self.replacebody("a new body\\r\\n.\\r\\nof three lines\\r\\n")
            return Milter.ACCEPT

    Milter.factory = Filter
    Milter.set_flags(Milter.CURR_ACTS)
    Milter.runmilter("filter", sys.argv[1], 60)
""")


def test_a_program_on_libmilter(make_server, sink, run, tmp_path):
    pytest.importorskip("Milter")
    port = free_port()
    (tmp_path / "filter.py").write_text(PROGRAM)
    run([sys.executable, str(tmp_path / "filter.py"), f"inet:{port}@127.0.0.1"], port)
    server = make_server(sink, milters=({"name": "lib", "socket": f"inet:127.0.0.1:{port}"},), listeners={"milters": "lib"})
    with Client(server.port) as client:
        client.hello()
        for number in (1, 2):
            assert client.command("MAIL FROM:<ann@signer.test> SIZE=99") == 250
            refusal = client.command("RCPT TO:<refused@sink.test>")
            assert refusal == "550 5.7.99" and refusal.text == "5.7.99 not this 100% one\n5.7.99 nor now"
            for name in ("bob", "removed"):
                assert client.command(f"RCPT TO:<{name}@sink.test>") == 250
            assert client.command("DATA") == 354
            client.send("X-Gone: x\r\nSubject: one\r\n\r\n" + "z" * 70 + "\r\n" + "body\r\n" * 20000 + ".\r\n")
            assert client.reply() == 250
            sink.wait(number)
        client.command("QUIT")
    message = sink.messages[1]
    header, _, body = message.content.partition(b"\r\n\r\n")
    assert body == b"a new body\r\n.\r\nof three lines\r\n"
    assert message.sender == "changed@signer.test" and sorted(message.recipients) == ["added@sink.test", "bob@sink.test"]
    assert header.startswith(b"X-First: on top\r\nReceived: ") and b"\r\nSubject: changed\r\n folded\r\n" in header
    assert b"X-Gone: x" not in header and b"X-Body: 120072" in header
    for seen in (b"connect [127.0.0.1] 127.0.0.1", b"hello client.test", b"mail <ann@signer.test> SIZE=99 ann@signer.test",
                 b"rcpt <bob@sink.test> bob@sink.test", b"header Subject='one'"):
        assert b"X-Seen: " + seen in header, header
    assert "milter_failures_total{milter=\"lib\"} 0" in server.get("/metrics")[1]
