"""Programs that people send with, and those that stand in front of mail servers, against a listener with TLS and AUTH. One
that is not installed skips its test."""
import http.server
import os
import re
import subprocess
import threading

import pytest
from harness import accounts
from harness.certificates import Authority
from harness.check import received_field
from harness.client import Client
from harness.load import program
from harness.server import free_port, wait_until

HOST = "mx.ringpost.test"
BODY = "Subject: interop\r\n\r\nHello.\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture(scope="module")
def leaf(authority):
    return authority.issue(HOST, alternative=f"DNS:{HOST},DNS:localhost,IP:127.0.0.1")


@pytest.fixture
def submission(make_server, sink, leaf, tmp_path):
    """Port 587 as .port, 465 as .implicit_port; the account ann may send as anybody."""
    passwords = str(tmp_path / "passwords")
    accounts.write(passwords, accounts.line("ann", "secret words", "sender=*"))
    server = make_server(sink, start=False)
    server.implicit_port = free_port()
    listener = {"role": "submission"}
    server.write_config(
        tls={"certificates": (leaf.item(),)}, auth={"passwords": passwords},
        listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", **listener},
                   {"name": "implicit", "address": f"127.0.0.1:{server.implicit_port}", "tls": "implicit", **listener}))
    return server.start()


def run(words, **options):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def arrived(server, sink, count=1):
    messages = sink.wait(count)
    fields, content = received_field(messages[0].content)
    assert fields["protocol"] in (b"ESMTPSA", b"UTF8SMTPSA"), fields
    assert re.search(rb"(?mi)^date: ", content) and re.search(rb"(?mi)^message-id: ", content), "added when they are missing"
    assert {event["user"] for event in server.wait_events(lambda e: e["event"] == "reception")} == {"ann"}
    return content


# --- clients ----------------------------------------------------------------------------------------------------------

NODEMAILER = """
const mail = require('nodemailer').createTransport({
  host: '127.0.0.1', port: PORT, secure: SECURE, requireTLS: true, name: 'node.test',
  tls: { ca: require('fs').readFileSync('CA'), servername: 'HOST' },
  auth: { user: 'ann', pass: 'secret words' },
});
mail.sendMail({
  from: 'ann@a.test', to: 'bob@b.test', subject: 'grüße', text: 'Füße\\n.\\n..dots\\n',
  attachments: [{ filename: 'x', content: Buffer.alloc(100000, 7) }],
  dsn: { id: 'some+id', return: 'headers', notify: ['failure', 'delay'], recipient: 'bob@b.test' },
}).then(info => console.log(info.response), error => { console.error(error); process.exit(1); });
"""


@pytest.mark.parametrize("way", ["starttls", "implicit"])
def test_nodemailer(submission, sink, authority, tmp_path, way):
    node = program("node")
    if not os.path.isdir("/usr/share/nodejs/nodemailer"):
        pytest.skip("node-nodemailer is not installed")
    script = NODEMAILER.replace("PORT", str(submission.port if way == "starttls" else submission.implicit_port))
    script = script.replace("SECURE", "true" if way == "implicit" else "false").replace("CA", authority.file)
    (tmp_path / "send.js").write_text(script.replace("HOST", HOST), encoding="utf-8")
    said = run([node, tmp_path / "send.js"], env={**os.environ, "NODE_PATH": "/usr/share/nodejs"})
    assert said.startswith("250 2.0.0 ")
    arrived(submission, sink)


JAVA = """
import java.util.Properties;
import javax.mail.*;
import javax.mail.internet.*;

public class Send {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("mail.smtp.host", "127.0.0.1");
        settings.put("mail.smtp.port", arguments[0]);
        settings.put("mail.smtp.starttls.enable", "true");
        settings.put("mail.smtp.starttls.required", "true");
        settings.put("mail.smtp.ssl.trust", "*");
        settings.put("mail.smtp.ssl.checkserveridentity", "false");
        settings.put("mail.smtp.auth", "true");
        settings.put("mail.smtp.auth.mechanisms", arguments[2]);
        settings.put("mail.smtp.chunksize", arguments[1]);
        settings.put("mail.smtp.dsn.notify", "FAILURE");
        settings.put("mail.smtp.dsn.ret", "HDRS");
        Session session = Session.getInstance(settings);
        MimeMessage message = new MimeMessage(session);
        message.setFrom(new InternetAddress("ann@a.test"));
        message.setRecipient(Message.RecipientType.TO, new InternetAddress("bob@b.test"));
        message.setSubject("from Java");
        StringBuilder text = new StringBuilder();
        for (int line = 0; line < 5000; line++) {
            text.append(line % 3 == 0 ? ".dots in front\\r\\n" : "line " + line + "\\r\\n");
        }
        message.setText(text.toString(), "us-ascii");
        message.saveChanges();
        Transport transport = session.getTransport("smtp");
        transport.connect("ann", "secret words");
        transport.sendMessage(message, message.getAllRecipients());
        transport.close();
    }
}
"""


@pytest.mark.parametrize("chunk, mechanism", [(-1, "PLAIN"), (1000, "LOGIN"), (65536, "PLAIN")])
def test_java_mail(submission, sink, tmp_path, chunk, mechanism):
    """With a chunk size it sends by BDAT, and doubles dots there too, which RFC 3030 does not want: we pass on what it sent."""
    java, jar = program("java"), "/usr/share/java/javax.mail.jar"
    if not os.path.exists(jar):
        pytest.skip("libmail-java is not installed")
    (tmp_path / "Send.java").write_text(JAVA)
    run([java, "-cp", jar, tmp_path / "Send.java", submission.port, chunk, mechanism])
    content = arrived(submission, sink)
    assert content.count(b"\r\n.dots in front\r\n" if chunk < 0 else b"\r\n..dots in front\r\n") == 1667
    assert b"line 4999\r\n" in content


PERL = """
use Net::SMTP;
my $smtp = Net::SMTP->new('127.0.0.1', Port => PORT, Hello => 'perl.test', SSL_ca_file => 'CA', SSL_verifycn_name => 'HOST',
                          SSL_hostname => 'HOST') or die "connect: $@";
$smtp->starttls() or die 'starttls: ' . $smtp->message;
$smtp->auth('ann', 'secret words') or die 'auth: ' . $smtp->message;
$smtp->mail('ann@a.test', Return => 'HDRS', Envelope => 'an-id') or die $smtp->message;
$smtp->recipient('bob@b.test', { Notify => ['FAILURE', 'DELAY'] }) or die $smtp->message;
$smtp->data("Subject: perl\\n\\nHello.\\n.\\n.dots\\n") or die $smtp->message;
$smtp->quit;
"""


def test_perl(submission, sink, authority, tmp_path):
    perl = program("perl")
    modules = subprocess.run([perl, "-MIO::Socket::SSL", "-MAuthen::SASL", "-e", "1"], capture_output=True, check=False)
    if modules.returncode != 0:
        pytest.skip("libio-socket-ssl-perl or libauthen-sasl-perl is not installed")
    script = PERL.replace("PORT", str(submission.port)).replace("CA", authority.file).replace("HOST", HOST)
    (tmp_path / "send.pl").write_text(script)
    run([perl, tmp_path / "send.pl"])
    assert b"\r\n.\r\n.dots\r\n" in arrived(submission, sink)


def test_git_send_email(submission, sink, authority, tmp_path):
    git = program("git")
    environment = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "Ann",
                   "GIT_AUTHOR_EMAIL": "ann@a.test", "GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@a.test"}
    if subprocess.run([git, "send-email", "--dump-aliases"], capture_output=True, env=environment, cwd=tmp_path,
                      check=False).returncode != 0:
        pytest.skip("git-email is not installed")
    run([git, "init", "-q"], cwd=tmp_path, env=environment)
    for number in range(2):
        (tmp_path / "file").write_text(f"{number}\n.\n")
        run([git, "add", "file"], cwd=tmp_path, env=environment)
        run([git, "commit", "-qm", f"change {number}"], cwd=tmp_path, env=environment)
    run([git, "send-email", "--from=ann@a.test", "--to=bob@b.test", "--smtp-server=localhost", "--confirm=never",
         f"--smtp-server-port={submission.port}", "--smtp-encryption=tls", "--smtp-user=ann", "--smtp-pass=secret words",
         f"--smtp-ssl-cert-path={authority.file}", "--smtp-domain=git.test", "--root", "HEAD"], cwd=tmp_path, env=environment)
    assert b"\r\nSubject: [PATCH 1/2] change 0\r\n" in b"".join(message.content for message in sink.wait(2))


# --- in front ---------------------------------------------------------------------------------------------------------

class Foreground:
    """A program that stays in the foreground until the end of the `with`."""

    def __init__(self, words, port, log):
        with open(log, "ab") as out:
            self.process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=out)
        self.port, self.log = port, log

    def __enter__(self):
        def listens():
            assert self.process.poll() is None, open(self.log, encoding="utf-8", errors="replace").read()
            try:
                Client(self.port, greeting=False).close()
                return True
            except OSError:
                return False
        wait_until(listens, 10, "the proxy to listen")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


HAPROXY = """global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen smtp
    bind 127.0.0.1:FRONT
    server ringpost 127.0.0.1:BACK VERSION
"""


@pytest.mark.parametrize("version, word", [("v1", "send-proxy"), ("v2", "send-proxy-v2")])
def test_haproxy(make_server, sink, tmp_path, version, word):
    haproxy = program("haproxy")
    server = make_server(sink, listeners={"proxy": version, "proxy_networks": ("127.0.0.1",),
                                          "relay_networks": ("127.0.0.77",)})
    front = free_port()
    (tmp_path / "conf").write_text(HAPROXY.replace("FRONT", str(front)).replace("BACK", str(server.port))
                                   .replace("VERSION", word))
    with Foreground([haproxy, "-db", "-f", tmp_path / "conf"], front, tmp_path / "log"):
        with Client(front, source="127.0.0.77") as client:
            client.hello()
            client.message("a@a.test", "b@b.test", BODY)
        with Client(front, source="127.0.0.78") as client:
            client.hello()
            client.command("MAIL FROM:<a@a.test>")
            assert client.command("RCPT TO:<b@b.test>") == "550 5.7.1"
    assert received_field(sink.wait(1)[0].content)[0]["peer"] == b"127.0.0.77"


NGINX = """daemon off;
pid DIR/pid;
error_log DIR/error.log info;
MODULE
events {}
mail {
    server_name nginx.test;
    auth_http 127.0.0.1:AUTH/auth;
    xclient on;
    proxy_pass_error_message on;
    server { listen 127.0.0.1:FRONT; protocol smtp; smtp_auth none; }
}
"""


class AuthServer:
    """What nginx asks where to go."""

    def __init__(self, port):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                for name, value in (("Auth-Status", "OK"), ("Auth-Server", "127.0.0.1"), ("Auth-Port", str(port))):
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass
        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def test_nginx_with_xclient(make_server, sink, tmp_path):
    nginx = program("nginx")
    places = ["/usr/lib/nginx/modules", *os.environ["PATH"].split(":")]  # where the package has it, or the Makefile put it
    found = [place for place in places if os.path.exists(os.path.join(place, "ngx_mail_module.so"))]
    if not found:
        pytest.skip("libnginx-mod-mail is not there")
    module = os.path.join(found[0], "ngx_mail_module.so")
    server = make_server(sink, listeners={"xclient_networks": ("127.0.0.1",), "relay_networks": ("127.0.0.77",)})
    front, auth = free_port(), AuthServer(server.port)
    text = NGINX.replace("DIR", str(tmp_path)).replace("MODULE", f"load_module {module};").replace("FRONT", str(front))
    (tmp_path / "conf").write_text(text.replace("AUTH", str(auth.port)))
    try:
        with Foreground([nginx, "-c", tmp_path / "conf", "-e", tmp_path / "start.log"], front, tmp_path / "log"):
            with Client(front, source="127.0.0.77") as client:
                client.hello()
                client.message("a@a.test", "b@b.test", BODY)
            with Client(front, source="127.0.0.78") as client:
                client.hello()
                client.command("MAIL FROM:<a@a.test>")
                assert client.command("RCPT TO:<b@b.test>").code in (550, 554)
    finally:
        auth.close()
    assert received_field(sink.wait(1)[0].content)[0]["peer"] == b"127.0.0.77"


def test_posttls_finger(submission, authority, tmp_path):
    """What Postfix thinks of our STARTTLS and our certificate."""
    finger = program("posttls-finger")
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmail_owner = daemon\nsetgid_group = mail\n")
    said = run([finger, "-c", "-l", "verify", "-F", authority.file, f"[127.0.0.1]:{submission.port}", HOST],
               env={**os.environ, "MAIL_CONFIG": str(tmp_path)})
    assert "Verified TLS connection established" in said, said
