"""AUTH (RFC 4954), by raw sockets and by other people's programs."""
import base64
import hashlib
import hmac
import os
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest
from harness import accounts
from harness.certificates import Authority
from harness.check import received_field
from harness.client import Client
from harness.load import program
from harness.server import free_port, wait_until

HOST = "mx.ringpost.test"
BODY = "Subject: auth\r\n\r\nHello.\r\n"
PASSWORD = "correct horse+battery/staple="


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture(scope="module")
def leaf(authority):
    return authority.issue(HOST)


@pytest.fixture
def submission(make_server, sink, leaf):
    """STARTTLS on server.port, implicit TLS on server.implicit_port; ann@a.test may log in."""
    def make(more=(), auth=None, **changes):
        server = make_server(sink, start=False)
        server.implicit_port = free_port()
        server.passwords = os.path.join(server.directory, "passwords")
        accounts.write(server.passwords, accounts.line("ann@a.test", PASSWORD), *more)
        server.write_config(
            tls={"certificates": (leaf.item(),)}, auth={"passwords": server.passwords, **(auth or {})},
            listeners=({"name": "in", "address": f"127.0.0.1:{server.port}", "role": "submission", "error_delay": 0,
                        **changes},
                       {"name": "implicit", "address": f"127.0.0.1:{server.implicit_port}", "role": "submission",
                        "tls": "implicit", "error_delay": 0, **changes}))
        return server.start()
    return make


@pytest.fixture
def connect(authority):
    clients = []

    def make(server, certificate=None):
        clients.append(Client(server.implicit_port, tls=authority.context(certificate)))
        clients[-1].hello()
        return clients[-1]
    yield make
    for client in clients:
        client.close()


def exchange(client, mechanism, *answers):
    """AUTH and as many answers as it takes; the last reply."""
    reply = client.command(f"AUTH {mechanism}")
    for answer in answers:
        assert reply == 334, reply
        reply = client.command(answer)
    return reply


# --- SCRAM by hand ----------------------------------------------------------------------------------------------------

class Scram:
    def __init__(self, name, password, binding=None):
        self.name, self.password = name, password
        self.header = b"p=tls-server-end-point,," if binding else b"n,,"
        self.binding = self.header + (binding or b"")
        self.bare = f"n={name.replace('=', '=3D').replace(',', '=2C')},r={b64(os.urandom(18))}"

    def first(self):
        return b64(self.header + self.bare.encode())

    def final(self, challenge):
        server = base64.b64decode(challenge).decode()
        parts = dict(part.split("=", 1) for part in server.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c={b64(self.binding)},r={parts['r']}"
        message = f"{self.bare},{server},{without}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return b64(f"{without},p={b64(bytes(a ^ b for a, b in zip(key, signature)))}")


def scram(client, name, password, mechanism="SCRAM-SHA-256", binding=None):
    machine = Scram(name, password, binding)
    reply = client.command(f"AUTH {mechanism} {machine.first()}")
    if reply != 334:
        return reply
    reply = client.command(machine.final(reply.text))
    if reply == 334:
        assert base64.b64decode(reply.text) == b"v=" + b64(machine.server_signature).encode()
        reply = client.command("")
    return reply


def end_point(client):
    return hashlib.sha256(client.socket.getpeercert(True)).digest()


def plain(client, name="ann@a.test", password=PASSWORD):
    return client.command("AUTH PLAIN " + accounts.plain(name, password))


def login(client, name="ann@a.test", password=PASSWORD):
    return exchange(client, "LOGIN", b64(name), b64(password))


def scram_plus(client, name="ann@a.test", password=PASSWORD):
    return scram(client, name, password, "SCRAM-SHA-256-PLUS", end_point(client))


WAYS = {"PLAIN": plain, "LOGIN": login,
        "SCRAM-SHA-256": lambda client, name="ann@a.test", password=PASSWORD: scram(client, name, password),
        "SCRAM-SHA-256-PLUS": scram_plus}


# --- who may ----------------------------------------------------------------------------------------------------------

def test_offered_inside_tls_only(submission, authority):
    server = submission()
    with Client(server.port) as client:
        assert "AUTH" not in client.extensions()
        assert client.command("MAIL FROM:<ann@a.test>").code == 530
        assert plain(client).code in (502, 503, 504, 530, 538)
        client.start_tls(authority.context())
        assert set(client.extensions()["AUTH"].split()) == set(WAYS)
        assert client.command("MAIL FROM:<ann@a.test>") == "530 5.7.0"
        assert client.command("AUTH CRAM-MD5") == "504 5.5.4"
        assert client.command("AUTH") == 501
        assert plain(client) == "235 2.7.0"
        assert client.command("MAIL FROM:<ann@a.test>") == 250


def test_never_offered_without_accounts(server):
    with Client(server.port) as client:
        assert "AUTH" not in client.extensions()
        assert plain(client).code in (500, 502, 503, 504)


@pytest.mark.parametrize("way", WAYS)
def test_each_mechanism(submission, connect, sink, way):
    server = submission()
    client = connect(server)
    assert WAYS[way](client) == "235 2.7.0"
    assert plain(client) == "503 5.5.1", "once only"
    client.message("ann@a.test", "b@b.test", BODY)
    assert received_field(sink.wait(1)[0].content)[0]["protocol"] == b"ESMTPSA"
    event = server.wait_events(lambda e: e["event"] == "reception")[0]
    assert (event["user"], event["tls"]) == ("ann@a.test", "TLSv1.3")
    assert server.metric("auth_" + way.lower().replace("-", "_") + "_accepted_total") == 1


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_nothing_is_left_of_a_failure(submission, connect, first, second):
    """CVE-2011-1720: a failed mechanism, then each of the others; wrong and right."""
    client = connect(submission())
    assert WAYS[first](client, password="wrong") == "535 5.7.8"
    assert client.command("MAIL FROM:<ann@a.test>") == 530
    assert WAYS[second](client, password="wrong") == "535 5.7.8"
    assert client.command("MAIL FROM:<ann@a.test>") == 530
    assert WAYS[second](client) == 235
    assert client.command("MAIL FROM:<ann@a.test>") == 250


@pytest.mark.parametrize("way", WAYS)
def test_cancelled_in_the_middle(submission, connect, way):
    client = connect(submission())
    if way == "LOGIN":
        assert exchange(client, "LOGIN", b64("ann@a.test"), "*") == "501 5.7.0"
    assert exchange(client, way, "*") == "501 5.7.0"
    assert client.command("MAIL FROM:<ann@a.test>") == 530
    assert WAYS[way](client) == 235


def test_unknown_user_looks_like_a_wrong_password(submission, connect):
    client = connect(submission(auth={}, errors_max=1000))
    for way in WAYS.values():
        known, unknown = way(client, password="wrong"), way(client, "nobody@a.test")
        assert known.lines == unknown.lines and known == "535 5.7.8"
    salts = []
    for _ in range(2):
        machine = Scram("nobody@a.test", "x")
        reply = client.command("AUTH SCRAM-SHA-256 " + machine.first())
        salts.append(base64.b64decode(reply.text).decode().partition(",")[2])
        client.command("*")
    assert salts[0] == salts[1], "the salt of a name that does not exist stays the same"


def test_refusals_are_events(submission, connect):
    server = submission()
    client = connect(server)
    plain(client, "Mallory\u00e9", "x")
    event = server.wait_events(lambda e: e["event"] == "rejection")[0]
    assert (event["phase"], event["code"], event["status"], event["user"]) == ("auth", 535, "5.7.8", "mallory\u00e9")
    assert server.metric("auth_plain_refused_total") == 1
    assert PASSWORD not in server.log()


# --- hostile input ----------------------------------------------------------------------------------------------------

def test_base64_of_every_length(submission, connect):
    """CVE-2018-6789: every length mod 4, with and without padding, junk, and far too much."""
    client = connect(submission(errors_max=10000))
    for length in [*range(1, 70), 500, 511, 512, 513, 1000, 12280]:
        for text in ("A" * length, "A" * (length - 1) + "=", "=" * length, "!" * length):
            reply = client.command("AUTH PLAIN " + text)
            assert reply.code in (500, 501, 535), (length, reply)
            if length > 1000:
                break
    assert plain(client) == 235


@pytest.mark.parametrize("size", [12288, 13000, 100000, 1000000])
def test_line_that_is_too_long(submission, connect, size):
    server = submission(errors_max=10000)
    client = connect(server)
    assert client.command("AUTH PLAIN " + "A" * size).code in (500, 501, 535)
    assert client.command("AUTH PLAIN") == 334
    assert client.command("A" * size).code in (500, 501, 535)
    assert plain(client) == 235
    assert server.rss() < 200 << 20


@pytest.mark.parametrize("response", ["", "=", "AA==", b64("\0"), b64("\0\0"), b64("\0ann@a.test"), b64("ann@a.test\0" + PASSWORD),
                                      b64("\0ann@a.test\0"), b64("\0\0" + PASSWORD), b64("\0a\0b\0c"), b64("\0" * 3000),
                                      b64("\0" + "x" * 300 + "\0y"), b64(b"\0\xff\xfe\0\xff"),
                                      b64("bob@a.test\0ann@a.test\0" + PASSWORD)])
def test_malformed_plain(submission, connect, response):
    client = connect(submission())
    if response:
        assert client.command("AUTH PLAIN " + response).code in (501, 535)
    assert exchange(client, "PLAIN", response).code in (501, 535)
    assert client.command("MAIL FROM:<ann@a.test>") == 530


@pytest.mark.parametrize("first", ["n,,", "n,,n=,r=", "n,,n=ann@a.test", "n,,r=abc,n=ann@a.test", "y,,n=ann@a.test,r=abc",
                                   "p=tls-unique,,n=ann@a.test,r=abc", "n,a=bob,n=ann@a.test,r=abc", "n,,m=x,n=ann@a.test,r=abc",
                                   "n,,n=a=b,r=abc", "n,,n=ann@a.test,r=" + "x" * 3000, "\0", "n,,n=ann@a.test,r=a\x01"])
def test_malformed_scram(submission, connect, first):
    client = connect(submission())
    reply = client.command("AUTH SCRAM-SHA-256 " + b64(first))
    if reply == 334:
        reply = client.command(b64("c=biws,r=abc,p=AAAA"))
    assert reply.code in (501, 535), reply
    assert client.command("MAIL FROM:<ann@a.test>") == 530


def test_channel_binding_of_another_channel(submission, connect):
    client = connect(submission())
    assert scram(client, "ann@a.test", PASSWORD, "SCRAM-SHA-256-PLUS", b"\0" * 32) == "535 5.7.8"
    downgraded = Scram("ann@a.test", PASSWORD)
    downgraded.header = downgraded.binding = b"y,,"
    reply = client.command("AUTH SCRAM-SHA-256 " + downgraded.first())
    if reply == 334:
        reply = client.command(downgraded.final(reply.text))
    assert reply == 535, "we do have channel binding: somebody took it out of the list"


def test_hanging_up_in_the_middle(submission, connect):
    server = submission()
    for words in (["AUTH PLAIN"], ["AUTH LOGIN", b64("ann@a.test")], ["AUTH SCRAM-SHA-256 " + Scram("ann@a.test", "x").first()],
                  ["AUTH PLAIN " + accounts.plain("ann@a.test", "wrong")]):
        for reset in (False, True):
            client = connect(server)
            for word in words:
                client.send(word + "\r\n")
            client.reset() if reset else client.close()
    wait_until(lambda: server.metric("sessions") == 0)


def test_what_is_pipelined_behind_waits(submission, connect):
    client = connect(submission())
    client.send("AUTH PLAIN " + accounts.plain("ann@a.test", PASSWORD) + "\r\nMAIL FROM:<ann@a.test>\r\nNOOP\r\n")
    assert [client.reply().code for _ in range(3)] == [235, 250, 250]


def test_exchange_meets_a_deadline(submission, connect):
    server = submission(auth={"timeout": "1s"})
    client = connect(server)
    assert client.command("AUTH PLAIN") == 334
    assert client.reply() == 421


def test_stop_with_logins_under_way(submission, connect):
    server = submission()
    for _ in range(5):
        connect(server).send("AUTH PLAIN " + accounts.plain("ann@a.test", "wrong") + "\r\n")
    server.stop()


# --- passwords that change --------------------------------------------------------------------------------------------

def test_passwords_are_read_again(submission, connect):
    server = submission()
    accounts.write(server.passwords, accounts.line("ben@a.test", "new"))
    server.send_signal(1)
    wait_until(lambda: plain(connect(server), "ben@a.test", "new") == 235)
    assert plain(connect(server)) == 535
    accounts.write(server.passwords, accounts.line("cat@a.test", "newer"))
    wait_until(lambda: plain(connect(server), "cat@a.test", "newer") == 235, 25)


def test_errors_in_the_file(submission, connect):
    server = submission()
    accounts.write(server.passwords, accounts.line("ben@a.test", "new"), "nonsense\n")
    server.send_signal(1)
    wait_until(lambda: "configuration not reloaded" in server.log())
    assert "passwords:2: " in server.log()
    assert plain(connect(server)) == 235, "what was in force stays"


@pytest.mark.parametrize("line", [accounts.line("ann@a.test", PASSWORD, "disabled"), accounts.line("ann@a.test", "new"),
                                  accounts.line("ben@a.test", PASSWORD)], ids=["disabled", "password", "gone"])
def test_an_account_that_changes_ends_its_sessions(submission, connect, line):
    stays = accounts.line("cat@a.test", PASSWORD).rstrip()
    server = submission(more=(stays + "\n",))
    ann, cat, stranger = connect(server), connect(server), connect(server)
    assert plain(ann) == 235 and plain(cat, "cat@a.test") == 235
    assert ann.command("MAIL FROM:<ann@a.test>") == 250
    accounts.write(server.passwords, line, stays + " sender=@a.test\n")
    server.send_signal(1)
    wait_until(lambda: "configuration reloaded" in server.log())
    assert ann.command("RCPT TO:<x@b.test>") == 250, "the transaction that is open goes on"
    assert ann.command("RSET") == 250
    assert ann.command("MAIL FROM:<ann@a.test>") == "421 4.7.0"
    assert ann.at_end()
    assert cat.command("MAIL FROM:<other@a.test>") == 250, "and with its new senders"
    assert plain(stranger) == 535


# --- OAuth ------------------------------------------------------------------------------------------------------------

class Verifier:
    """Answers as `answers` says by token; None: nothing at all."""

    def __init__(self, path, answers):
        self.path, self.answers, self.questions = path, answers, []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(16)
        self.kept = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            line = connection.makefile().readline()
            self.questions.append(line)
            token = line.rstrip("\n").partition("token=")[2]
            answer = self.answers.get(token, "invalid no such token\n")
            if answer is None:
                self.kept.append(connection)
                continue
            try:
                for octet in answer.encode():
                    connection.send(bytes([octet]))
            except OSError:
                pass  # it has read enough
            connection.close()


@pytest.fixture
def oauth(submission):
    path = f"/tmp/rp-verifier-{os.getpid()}-{free_port()}.sock"
    verifier = Verifier(path, {"good": "ok user=ann@a.test\n", "others": "ok user=ben@a.test\n", "silent": None,
                               "cut": "ok user=ann@a.test", "much": "x" * 5000, "later": "unavailable\n", "": "\n"})
    verifier.server = submission(auth={"verifier": path, "verifier_timeout": "1s"},
                                 more=(accounts.line("ben@a.test"),))
    yield verifier
    os.remove(path)


def bearer(user, token):
    return b64(f"n,a={user},\x01host=mx.ringpost.test\x01port=587\x01auth=Bearer {token}\x01\x01")


def xoauth2(user, token):
    return b64(f"user={user}\x01auth=Bearer {token}\x01\x01")


@pytest.mark.parametrize("mechanism, response", [("OAUTHBEARER", bearer), ("XOAUTH2", xoauth2)])
def test_oauth(oauth, connect, mechanism, response):
    def attempt(user, token):
        client = connect(oauth.server)
        reply = client.command(f"AUTH {mechanism} {response(user, token)}")
        return client.command(b64("\x01") if mechanism == "OAUTHBEARER" else "") if reply == 334 else reply
    assert attempt("ann@a.test", "good") == "235 2.7.0"
    for token in ("bad", "others"):
        assert attempt("ann@a.test", token) == "535 5.7.8"
    for token in ("silent", "cut", "much", "later"):
        assert attempt("ann@a.test", token) == "454 4.7.0", token
    assert any(f"mechanism={mechanism}" in q and "address=127.0.0.1" in q for q in oauth.questions)


def test_verifier_that_is_not_there(submission, connect):
    server = submission(auth={"verifier": "/tmp/no-such-verifier.sock"})
    client = connect(server)
    assert client.command("AUTH XOAUTH2 " + xoauth2("ann@a.test", "t")) == "454 4.7.0"


def test_hanging_up_while_the_verifier_thinks(oauth, connect):
    for _ in range(3):
        client = connect(oauth.server)
        client.send("AUTH XOAUTH2 " + xoauth2("ann@a.test", "silent") + "\r\n")
        time.sleep(0.05)
        client.reset()
    wait_until(lambda: oauth.server.metric("sessions") == 0)


# --- client certificates ----------------------------------------------------------------------------------------------

def test_external(submission, connect, authority):
    server = submission(more=(accounts.line("host.a.test", options="certificate=host.a.test sender=*"),),
                        client_certificates="ask", client_authorities=authority.file)
    mine, other = authority.issue("host.a.test"), authority.issue("other.a.test")
    client = connect(server, mine)
    assert client.command("AUTH EXTERNAL =") == 235
    assert client.command("MAIL FROM:<any@any.test>") == 250
    assert exchange(connect(server, mine), "EXTERNAL", "") == 235
    assert connect(server, other).command("AUTH EXTERNAL =") == 535
    assert connect(server).command("AUTH EXTERNAL =") == 535
    assert connect(server, mine).command("AUTH EXTERNAL " + b64("ann@a.test")) == 535


def test_starttls_forgets_who_it_was(make_server, sink, leaf, authority):
    """RFC 3207 4.2: somebody in between may have said AUTH, or XFORWARD, in front of it."""
    server = make_server(sink, start=False)
    server.passwords = os.path.join(server.directory, "passwords")
    accounts.write(server.passwords, accounts.line("ann@a.test", PASSWORD))
    server.write_config(tls={"certificates": (leaf.item(),)}, auth={"passwords": server.passwords}, listeners=(
        {"name": "in", "address": f"127.0.0.1:{server.port}", "role": "mx", "relay_networks": (), "auth": ("plain",),
         "auth_without_tls": True, "xforward_networks": ("127.0.0.1",)},))
    server.start()
    with Client(server.port) as client:
        client.hello()
        assert plain(client) == 235
        assert client.command("XFORWARD ADDR=192.0.2.77 HELO=elsewhere.test") == 250
        client.start_tls(authority.context())
        client.hello()
        assert client.command("MAIL FROM:<ben@c.test>") == 250, "nobody's sender"
        assert client.command("RCPT TO:<b@b.test>") == "550 5.7.1", "nobody relays"
        assert client.command("RSET") == 250
        assert plain(client) == 235
        client.message("ann@a.test", "b@b.test", BODY)
    assert b"192.0.2.77" not in sink.wait(1)[0].content


# --- a proxy that has asked for the password already --------------------------------------------------------------------

def test_xclient_login(submission, authority, connect):
    server = submission(more=(accounts.line("gone@a.test", "x", "disabled"),), xclient_networks=("127.0.0.1",))
    client = connect(server)
    assert plain(client) == 235
    assert client.command("XCLIENT LOGIN=nobody@a.test ADDR=192.0.2.1") == "550 5.7.1"
    assert client.command("XCLIENT LOGIN=gone@a.test") == "550 5.7.1"
    assert client.command("MAIL FROM:<ben@a.test>") == "550 5.7.1", "still ann"
    assert client.command("XCLIENT LOGIN=[UNAVAILABLE] ADDR=127.0.0.1") == 220
    client.hello()
    assert client.command("MAIL FROM:<ann@a.test>") == "530 5.7.0", "nobody any more"
    assert client.command("XCLIENT LOGIN=ann+40a.test") == 220
    client.hello()
    assert client.command("MAIL FROM:<ben@a.test>") == "550 5.7.1"
    assert client.command("MAIL FROM:<ann@a.test>") == 250


# --- programs of others -----------------------------------------------------------------------------------------------

def test_smtplib(submission, authority, sink):
    server = submission()
    for mechanism in ("auth_plain", "auth_login"):
        with smtplib.SMTP("127.0.0.1", server.port, timeout=15) as client:
            context = authority.context()
            context.check_hostname = False
            client.starttls(context=context)
            client.ehlo()
            client.user, client.password = "ann@a.test", PASSWORD
            assert client.auth(mechanism[5:].upper(), getattr(client, mechanism))[0] == 235
            client.sendmail("ann@a.test", ["b@b.test"], BODY)
    with smtplib.SMTP_SSL("127.0.0.1", server.implicit_port, timeout=15, context=ssl._create_unverified_context()) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("ann@a.test", "wrong")
    sink.wait(2)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(submission, sink, mechanism):
    server = submission()
    words = [program("swaks"), "--server", f"127.0.0.1:{server.port}", "-tls", "--auth", mechanism, "--auth-user", "ann@a.test",
             "--auth-password", PASSWORD, "--from", "ann@a.test", "--to", "b@b.test"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout
    sink.wait(1)


@pytest.mark.parametrize("options", [["--login-options", "AUTH=PLAIN"], ["--login-options", "AUTH=LOGIN"], []])
def test_curl(submission, sink, tmp_path, options):
    server = submission()
    (tmp_path / "mail").write_text(BODY)
    words = [program("curl"), "-sSk", "--ssl-reqd", f"smtp://127.0.0.1:{server.port}", "-u", f"ann@a.test:{PASSWORD}",
             "--mail-from", "ann@a.test", "--mail-rcpt", "b@b.test", "-T", str(tmp_path / "mail"), *options]
    run = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout + run.stderr
    sink.wait(1)


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
def test_msmtp(submission, authority, sink, mechanism):
    server = submission()
    if mechanism.startswith("scram") and f"{mechanism}-plus" in subprocess.run([program("msmtp"), "--version"], capture_output=True,
                                                                               text=True, check=True).stdout:
        mechanism += "-plus"  # one that can bind to the channel, and does not where it is offered, is refused: RFC 5802 6
    words = [program("msmtp"), "--host=127.0.0.1", f"--port={server.port}", "--tls=on", "--tls-certcheck=off", "--file=/dev/null",
             f"--auth={mechanism}", "--user=ann@a.test", f"--passwordeval=echo '{PASSWORD}'", "--from=ann@a.test",
             "b@b.test"]
    run = subprocess.run(words, input=BODY, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout + run.stderr
    sink.wait(1)
