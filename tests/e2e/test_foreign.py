"""Real programs on both sides. One that is not installed skips its test."""
import email
import os
import shutil
import smtplib
import subprocess
import tempfile
from email.message import EmailMessage

import pytest
from harness.check import received_field
from harness.foreign import SmtpSink
from harness.load import LoadSink, program
from harness.server import DIRECTORY, free_port, wait_until

BODY = "Subject: foreign\r\n\r\nbody\r\n"


def run(*words, **options):
    result = subprocess.run([program(words[0]), *map(str, words[1:])], capture_output=True, text=True, timeout=60, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_smtp_source_to_smtp_sink(make_server):
    """The pair that everybody measures with; smtp-sink's own count is the judge."""
    with SmtpSink() as sink:
        server = make_server(sink, events={"path": ""})
        run("smtp-source", "-d", "-s", 50, "-m", 5000, "-l", 4096, f"127.0.0.1:{server.port}")
        assert server.metric("messages_accepted_total") == 5000
        server.wait_queue_empty(60)
        wait_until(lambda: sink.messages() == 5000, 10, lambda: f"5000 messages; smtp-sink has {sink.messages()}")
        metrics = server.metrics()
        assert metrics["recipients_delivered_total"] == 5000
        assert metrics["spool_syncs_total"] < 5000, "messages share syncs"
        assert metrics["outbound_sends_total"] < 5000 * 2.1, "at most the envelope and the body, on a warm connection"


@pytest.mark.parametrize("options", [("-s", 1, "-m", 20), ("-s", 10, "-m", 100, "-r", 5), ("-s", 3, "-m", 9, "-l", 1000000),
                                     ("-o", "-s", 2, "-m", 10, "-d")], ids=["one", "recipients", "large", "without HELO"])
def test_smtp_source(make_server, tmp_path, options):
    with LoadSink(tmp_path / "log") as sink:
        server = make_server(sink)
        if "-o" in options:
            # RFC 5321 4.1.4: a client must say HELO; this one never does, and is refused.
            result = subprocess.run([program("smtp-source"), *map(str, options), f"127.0.0.1:{server.port}"],
                                    capture_output=True, text=True, timeout=30)
            if result.returncode != 0:
                assert "503" in result.stderr
                return
        else:
            run("smtp-source", *options, f"127.0.0.1:{server.port}")
        messages = options[options.index("-m") + 1]
        server.wait_queue_empty()
        recipients = options[options.index("-r") + 1] if "-r" in options else 1
        assert sink.counts()[2] == messages * recipients


def test_smtplib(server, sink):
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@a.test", "b@b.test", "grüße"
    mail.set_content("Füße\n.\n..dots\n" + "long " * 300)
    mail.add_attachment(os.urandom(100000), maintype="application", subtype="octet-stream", filename="x")
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        client.ehlo()
        assert client.has_extn("pipelining") and client.has_extn("8bitmime") and client.has_extn("enhancedstatuscodes")
        assert client.esmtp_features["size"] == str(50 << 20)
        assert client.send_message(mail) == {}
        assert client.verify("b@b.test")[0] == 252
        assert client.noop()[0] == 250 and client.rset()[0] == 250 and client.help()
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.starttls()
    got = email.message_from_bytes(received_field(sink.wait(1)[0].content)[1], policy=email.policy.default)
    assert got["Subject"] == "grüße"
    assert got.get_body().get_content().replace("\r\n", "\n") == mail.get_body().get_content()
    assert [part.get_content() for part in got.iter_attachments()] == [part.get_content() for part in mail.iter_attachments()]


def test_swaks(server, sink):
    said = run("swaks", "--server", "127.0.0.1", "--port", server.port, "--from", "a@a.test", "--to", "b@b.test,c@c.test",
               "--body", "hello\\n.\\nbye", "--pipeline")
    assert "250 2." in said and "221 2." in said
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == ["b@b.test", "c@c.test"]
    assert b"hello\r\n.\r\nbye\r\n" in sink.messages[0].content


@pytest.mark.parametrize("where", ["CONNECT", "MAIL", "RCPT", "DATA"])
def test_swaks_that_drops(server, sink, where):
    run_ = subprocess.run([program("swaks"), "--server", "127.0.0.1", "--port", str(server.port), "--from", "a@a.test", "--to",
                           "b@b.test", "--drop-after", where], capture_output=True, timeout=30)
    assert run_.returncode in (0, 21, 22, 23, 24, 25, 26, 27)
    wait_until(lambda: server.metric("sessions") == 0, 5, "the session to end")
    assert sink.messages == [] and server.metric("messages_accepted_total") == 0


def test_curl(server, sink, tmp_path):
    (tmp_path / "mail").write_text(BODY.replace("\r\n", "\n"))
    run("curl", "-sS", f"smtp://127.0.0.1:{server.port}/client.test", "--mail-from", "a@a.test", "--mail-rcpt", "b@b.test",
        "--mail-rcpt", "c@c.test", "--crlf", "-T", tmp_path / "mail")
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == ["b@b.test", "c@c.test"]
    assert received_field(sink.messages[0].content)[1] == BODY.encode()


MASTER = """smtpd inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
tlsmgr unix - - n 1000? 1 tlsmgr
"""


class Postfix:
    """An instance with directories of its own: a relay on a free port that hands everything to `next_hop`; `more` goes into
    main.cf."""

    def __init__(self, directory, next_hop, **more):
        self.port = free_port()
        self.etc, self.queue, self.data = (os.path.join(directory, name) for name in ("etc", "queue", "data"))
        for path in (self.etc, self.queue, self.data):
            os.makedirs(path)
        self.log_path = os.path.join(directory, "log")
        os.chmod(directory, 0o755)
        shutil.chown(self.data, "postfix")
        settings = {"queue_directory": self.queue, "data_directory": self.data, "mynetworks": "127.0.0.0/8",
                    "relayhost": f"[127.0.0.1]:{next_hop}", "myhostname": "postfix.test", "mydestination": "",
                    "inet_interfaces": "127.0.0.1", "compatibility_level": "3.6", "maillog_file": self.log_path,
                    "maillog_file_prefixes": directory, "default_transport": f"smtp:[127.0.0.1]:{next_hop}",
                    "smtpd_peername_lookup": "no", "disable_dns_lookups": "yes", "smtputf8_enable": "no",
                    "multi_instance_enable": "yes", "multi_instance_name": "postfix-e2e", "local_recipient_maps": "",
                    "alias_maps": "", "alias_database": "", "smtpd_relay_restrictions": "permit_mynetworks, reject"}
        settings.update(more)
        with open(os.path.join(self.etc, "main.cf"), "w", encoding="ascii") as file:
            file.write("".join(f"{key} = {value}\n" for key, value in settings.items()))
        with open(os.path.join(self.etc, "master.cf"), "w", encoding="ascii") as file:
            file.write(MASTER.replace("smtpd inet", f"127.0.0.1:{self.port} inet", 1))
        run_ = subprocess.run(["postfix", "-c", self.etc, "start"], capture_output=True, text=True, timeout=60)
        if run_.returncode != 0:
            pytest.skip("postfix does not start beside this system's: " + self.log())

    def log(self):
        with open(self.log_path, encoding="ascii", errors="replace") as file:
            return file.read()[-300:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["postfix", "-c", self.etc, "stop"], capture_output=True, timeout=60)


@pytest.fixture
def postfix_directory():
    program("postfix")
    if os.getuid() != 0:
        pytest.skip("postfix needs root")
    directory = tempfile.mkdtemp(prefix="postfix-", dir=DIRECTORY)
    os.chmod(directory, 0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def test_postfix_on_both_sides(make_server, postfix_directory, tmp_path):
    """smtp-source -> Postfix -> us -> Postfix -> sink: nothing is lost, nothing comes twice."""
    with LoadSink(tmp_path / "log") as sink:
        with Postfix(os.path.join(postfix_directory, "behind"), sink.port) as behind:
            server = make_server(routes=({"domain": "*", "next_hop": f"127.0.0.1:{behind.port}"},))
            with Postfix(os.path.join(postfix_directory, "before"), server.port) as before:
                run("smtp-source", "-d", "-N", "-s", 5, "-m", 200, "-l", 3000, "-t", "user@b.test", f"127.0.0.1:{before.port}")
                wait_until(lambda: sink.counts()[1] >= 200, 60, lambda: f"200 messages; {sink.counts()}, {server.queued()}")
                server.wait_queue_empty()
                assert sink.counts()[2] == 200
                assert all(len(copies) == 1 for copies in sink.arrivals().values()) and len(sink.arrivals()) == 200
