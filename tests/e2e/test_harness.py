"""The tools that judge the server are judged first: by programs that are not ours."""
import smtplib
import socket
import subprocess
import time

import pytest
from harness.client import Client, Closed, stuffed
from harness.load import LoadSink, load_source, program, tool
from harness.server import free_port, wait_until
from harness.sink import Close, Stall

LINES = b"Subject: x\r\n\r\n.dot\r\n..two\r\n\xe4\r\n"


def test_sink_keeps_what_a_foreign_client_sent(sink):
    with smtplib.SMTP(sink.address, sink.port) as client:
        client.sendmail("a@a.test", ["b@b.test", "c@c.test"], LINES, ["body=8bitmime"])
    message = sink.wait(1)[0]
    assert message.content == LINES
    assert message.wire == b"Subject: x\r\n\r\n..dot\r\n...two\r\n\xe4\r\n.\r\n"
    assert (message.sender, message.recipients) == ("a@a.test", ["b@b.test", "c@c.test"])
    assert message.mail_parameters.lower().startswith("size=") or "8bitmime" in message.mail_parameters.lower()


def test_sink_takes_a_foreign_load(sink):
    subprocess.run([program("smtp-source"), "-d", "-s", "10", "-m", "200", "-l", "2000", sink.endpoint], check=True)
    assert len(sink.wait(200)) == 200


@pytest.mark.parametrize("content", [b"", b"a\r\n", b".\r\n", b"..\r\n.\r\n", b"a\r\n" * 50000])
def test_client_and_sink_agree(sink, content):
    with Client(sink.port) as client:
        client.hello()
        client.message("", ["b@b.test"], content)
    assert sink.wait(1)[0].content == content
    assert sink.messages[0].wire == stuffed(content)


@pytest.mark.parametrize("phase", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
def test_faults_strike_where_they_are_told_to(sink, phase):
    sink.on(phase, "451 4.0.0 later", times=1).on(phase, Close(), times=1)

    def attempt():
        with Client(sink.port) as client:
            assert client.greeting.code == 220
            assert client.command("EHLO x").code == 250
            for line in "MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "DATA":
                assert client.command(line).code // 100 in (2, 3), line
            client.send(".\r\n")
            assert client.reply().code == 250

    with pytest.raises(AssertionError):
        attempt()
    with pytest.raises(Closed):
        attempt()
    assert sink.messages == []
    attempt()
    assert len(sink.messages) == 1


def test_fault_in_the_middle_of_a_body(sink):
    sink.on("BODY", Close("421 4.3.2 enough"), after=5000)
    with Client(sink.port) as client:
        client.envelope("a@a.test", ["b@b.test"])
        client.send(b"x" * 70 + b"\r\n")
        client.send((b"x" * 70 + b"\r\n") * 100)
        assert client.reply().code == 421
        assert client.at_end()
    assert sink.seen == []


def test_stall(sink):
    sink.on("MAIL", Stall(0.3, then="250 2.1.0 at last"))
    with Client(sink.port, timeout=0.1) as client:
        with pytest.raises(TimeoutError):
            client.command("MAIL FROM:<a@a.test>")
        client.socket.settimeout(5)
        assert client.reply().text == "2.1.0 at last"


def test_load_tools_agree(tmp_path):
    """What load_source sent is what load_sink has, and a missing message would show."""
    with LoadSink(tmp_path / "sink.log") as load_sink:
        run = load_source(load_sink.port, tmp_path / "source.log", messages=500, recipients=3, domains=4)
        assert (run.accepted, run.refused, run.unknown, run.unfinished) == (500, 0, 0, 0)
        assert load_sink.counts()[1:3] == (500, 1500)
        arrived = load_sink.arrivals()
        assert len(arrived) == 1500
        for number, (size, digest) in run.fates["A"].items():
            for recipient in range(3):
                assert arrived[f"m{number}.{recipient}@d{number % 4}.test"] == [(size, digest)]


def test_load_source_tells_fates_apart(sink, tmp_path):
    sink.on("RCPT", "550 5.1.1 no", match="<m3.0@")
    sink.on(".", "451 4.3.0 no", times=1)
    sink.on("BODY", Close(), after=1, times=1)
    run = load_source(sink.port, tmp_path / "log", messages=10, sessions=1, length=200000, ok=False)
    assert run.fates["A"] == {} and run.fates["R"] == {} and len(run.fates["N"]) == 1
    run = load_source(sink.port, tmp_path / "log", messages=10, sessions=1, length=200000, ok=False)
    assert set(run.fates["R"]) == {0, 3} and len(run.fates["A"]) == 8
    sink.on(".", Close(), times=1)
    run = load_source(sink.port, tmp_path / "log", messages=10, sessions=1, length=500, ok=False)
    assert set(run.fates["U"]) == {0} and run.fates["N"].keys() == {1}


@pytest.mark.parametrize("options", [(), ("--tls",), ("--per-session", "3"), ("--per-session", "3", "--no-resumption")])
def test_load_tools_agree_inside_tls(tmp_path, options):
    certificate, key, port = tmp_path / "chain.pem", tmp_path / "key.pem", free_port()
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-out", certificate, "-keyout", key], check=True, capture_output=True)
    tls = [word for word in options if word == "--tls"]
    words = [tool("load_sink_tls"), "--listen", f"127.0.0.1:{port}", "--certificate", certificate, "--key", key,
             "--log", tmp_path / "sink.log"]
    sink = subprocess.Popen([*words, *tls], stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 5, "load_sink_tls to listen")
        run = subprocess.run([tool("load_source_tls"), "--to", f"127.0.0.1:{port}", "--messages", "100", "--length", "40000",
                              "--log", tmp_path / "source.log", *options], capture_output=True, text=True, timeout=60)
        assert run.stdout.startswith("100 0 0 0 "), run
    finally:
        sink.terminate()
        assert " 100 messages," in sink.communicate(timeout=10)[0]
    sent = {f"m{line.split()[1]}": line.split()[2:] for line in (tmp_path / "source.log").read_text().splitlines()}
    got = {line.split(".")[0]: line.split()[1:] for line in (tmp_path / "sink.log").read_text().splitlines()}
    assert sent == got


@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 7, 1000])
def test_load_sink_keeps_every_octet(tmp_path, pieces):
    """However the input is cut: what stands at the end of a message is found, and nothing else is taken for it."""
    bodies = ["Subject: x\r\n\r\n..\r\n...\r\nbare\n.\nand\r.\rmore\r\n", "", "\r\n", "X-Load: 1\r\n\r\n\r\n\r\n"]
    with LoadSink(tmp_path / "log", capture=tmp_path / "raw") as load_sink, Client(load_sink.port) as client:
        for number, body in enumerate(bodies):
            client.command("MAIL FROM:<a@a.test>")
            client.command(f"RCPT TO:<r{number}@b.test>")
            assert client.command(f"RCPT TO:<s{number}@b.test>") == 250
            assert client.command("DATA") == 354
            text = (body + ".\r\n").encode()
            for at in range(0, len(text), pieces):
                client.send(text[at:at + pieces])
                if pieces < 10:
                    time.sleep(0.001)
            assert client.reply() == 250
        assert load_sink.counts()[1:3] == (len(bodies), 2 * len(bodies))
    raw = (tmp_path / "raw").read_bytes()
    for number, body in enumerate(bodies):
        want = f"r{number}@b.test s{number}@b.test {len(body) + 3}\n{body}.\r\n".encode()
        assert raw.startswith(want), raw
        raw = raw[len(want):]
    assert raw == b""


def test_load_sink_behaves_like_providers():
    with LoadSink(greylist=300, close=2, banner=200) as load_sink:
        begin = time.monotonic()
        with Client(load_sink.port) as client:
            assert time.monotonic() - begin >= 0.19

            def transaction(recipient):
                assert client.command("MAIL FROM:<a@a.test>") == 250
                if client.command(f"RCPT TO:<{recipient}>") != 250:
                    return client.command("RSET").code
                assert client.command("DATA") == 354
                client.send(b".\r\n")
                return client.reply().code
            for name in ("x", "y"):
                client.command("MAIL FROM:<a@a.test>")
                assert client.command(f"RCPT TO:<{name}@b.test>") == 451
                client.command("RSET")
            time.sleep(0.35)
            assert transaction("x@b.test") == transaction("y@b.test") == 250
            assert client.command("MAIL FROM:<a@a.test>") == 421
            assert client.at_end()
    with LoadSink(**{"delay-all": 1000}) as load_sink, Client(load_sink.port) as client:
        begin = time.monotonic()
        client.send(b"NOOP\r\nNOOP\r\n")
        assert client.reply() == 250 and client.reply() == 250
        assert 0.9 <= time.monotonic() - begin < 1.9, "both at the same time"


def test_trickling_sessions(sink):
    run = subprocess.run([tool("sessions"), "--to", sink.endpoint, "--count", "50", "--trickle", "1"], check=True,
                         capture_output=True, text=True)
    assert run.stdout == "50 0\n"
    assert sorted(sink.recipients()) == sorted(f"slow{i}@slow.test" for i in range(50))


def test_wait_until_fails_in_time():
    with pytest.raises(AssertionError):
        wait_until(lambda: False, 0.1)
