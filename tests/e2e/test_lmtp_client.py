"""Delivery by LMTP (RFC 2033): to a sink with a verdict for each recipient, and to Dovecot."""
import glob
import os
import pwd
import shutil
import subprocess
import tempfile

import pytest
from harness.check import received_field
from harness.client import send
from harness.load import program
from harness.report import Report
from harness.server import DIRECTORY, wait_until
from harness.sink import Close

BODY = "Subject: store\r\n\r\n.dots\r\nbody\r\n"
STORE = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"]


@pytest.fixture
def home(make_sink):
    """Where notifications arrive."""
    return make_sink()


@pytest.fixture(params=["tcp", "unix"])
def store(request, make_sink):
    if request.param == "tcp":
        yield make_sink(lmtp=True, extensions=STORE)
        return
    directory = tempfile.mkdtemp(prefix="lmtp-", dir=DIRECTORY)
    yield make_sink(lmtp=True, extensions=STORE, path=os.path.join(directory, "lmtp"))
    shutil.rmtree(directory)


@pytest.fixture
def serve(make_server, home):
    def start(store, **changes):
        return make_server(routes=({"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": store.endpoint}),
                           **changes)
    return start


def test_each_recipient_has_its_own_verdict(serve, store, home):
    store.on(".", "552 5.2.2 mailbox full", match="full@")
    store.on(".", "451 4.3.0 later", match="later@", times=1)
    store.on("RCPT", "550 5.1.1 nobody", match="nobody@")
    server = serve(store, retry={"schedule": ("1s",), "jitter_percent": 0})
    send(server.port, "a@a.test", ["one@b.test", "nobody@b.test", "full@b.test", "two@b.test", "later@b.test"], BODY)
    first, second = store.wait(2)
    assert first.recipients == ["one@b.test", "two@b.test"] and second.recipients == ["later@b.test"]
    assert received_field(first.content)[1] == BODY.encode()
    assert [line.split()[0] for line in store.sessions[0].commands][:1] == ["LHLO"]
    ends = server.wait_events(lambda e: e["event"] in ("delivery", "bounce") and e["recipient"].endswith("@b.test"), 5)
    events = {event["recipient"]: event for event in ends}
    assert {r: e["event"] for r, e in events.items()} == {
        "one@b.test": "delivery", "two@b.test": "delivery", "later@b.test": "delivery", "full@b.test": "bounce",
        "nobody@b.test": "bounce"}
    assert events["full@b.test"]["status"] == "5.2.2" and events["nobody@b.test"]["status"] == "5.1.1"
    failed = {recipient for message in home.wait(2) for recipient in Report(message).failed}
    assert failed == {"full@b.test", "nobody@b.test"}


def test_a_connection_lost_between_verdicts(serve, store):
    """Who has a verdict keeps it; only the others come again."""
    store.on(".", Close(), match="two@", times=1)
    server = serve(store, retry={"schedule": ("1s",), "jitter_percent": 0})
    send(server.port, "a@a.test", ["one@b.test", "two@b.test", "three@b.test"], BODY)
    server.wait_queue_empty()
    assert sorted(store.recipients()) == ["one@b.test", "three@b.test", "two@b.test"]


def test_many_messages_on_one_connection(serve, store):
    server = serve(store, shards={"count": 1}, delivery={"connections_per_destination_max": 1})
    for number in range(100):
        send(server.port, "a@a.test", [f"x{number}@b.test", f"y{number}@b.test"], BODY)
    store.wait(100)
    server.wait_queue_empty()
    assert len(store.recipients()) == 200 and len(store.sessions) == 1


def test_a_store_that_is_not_there_comes_back(serve, store):
    store.close()
    server = serve(store, retry={"schedule": ("1s",), "jitter_percent": 0})
    send(server.port, "a@a.test", ["x@b.test"], BODY)
    event = server.wait_events(lambda e: e["event"] == "deferral")[0]
    assert event["status"] == "4.4.1"
    store.open()
    server.cli("retry", "--all")
    store.wait(1)


def test_a_server_that_speaks_smtp_gets_nothing(serve, make_sink):
    """Its one reply would be taken for the first recipient's."""
    sink = make_sink()
    sink.on("EHLO", "250 never")
    server = serve(Lmtp(sink))
    send(server.port, "a@a.test", ["x@b.test", "y@b.test"], BODY)
    event = server.wait_events(lambda e: e["event"] == "deferral")[0]
    assert event["code"] == 500 and sink.seen == []


class Lmtp:
    def __init__(self, sink):
        self.endpoint = "lmtp:" + sink.endpoint


# --- Dovecot --------------------------------------------------------------------------------------------------------------------

CONFIG = """
base_dir = {run}
state_dir = {run}
log_path = {run}/log
protocols = lmtp
listen = 127.0.0.1
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
ssl = no
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service lmtp {{
  user = {user}
  unix_listener lmtp {{
    mode = 0666
  }}
}}
"""
BEFORE_2_4 = """
mail_location = maildir:{mail}/%n
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={mail}/%n allow_all_users=yes
}}
"""
FROM_2_4 = """
mail_driver = maildir
mail_path = {mail}/%{{user | username}}
passdb static {{
  password =
  fields {{
    nopassword = yes
  }}
}}
userdb static {{
  static_allow_all_users = yes
  fields {{
    uid = {user}
    gid = {group}
    home = {mail}/%{{user | username}}
  }}
}}
"""


def configuration(**names):
    version = subprocess.run([program("dovecot"), "--version"], capture_output=True, text=True, check=True).stdout.split()[0]
    if tuple(map(int, version.split(".")[:2])) < (2, 4):
        return (CONFIG + BEFORE_2_4).format(**names)
    return "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" + (CONFIG + FROM_2_4).format(**names)


class Dovecot:
    """dovecot-lmtpd as an unprivileged user, with all its files in a directory of its own."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="dovecot-", dir=DIRECTORY)
        user = pwd.getpwnam("nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
        group = "nogroup" if os.getuid() == 0 else str(user.pw_gid)
        self.run, self.mail = os.path.join(self.directory, "run"), os.path.join(self.directory, "mail")
        for path in (self.run, self.mail):
            os.makedirs(path)
        os.chmod(self.directory, 0o755)
        if os.getuid() == 0:
            os.chown(self.mail, user.pw_uid, user.pw_gid)
        self.config = os.path.join(self.directory, "conf")
        with open(self.config, "w", encoding="ascii") as file:
            file.write(configuration(run=self.run, mail=self.mail, user=user.pw_name, group=group))
        self.endpoint = f"lmtp:unix:{self.run}/lmtp"
        self.process = subprocess.Popen([program("dovecot"), "-F", "-c", self.config], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)

    def log(self):
        text = b"".join(open(path, "rb").read() for path in glob.glob(self.run + "/log"))
        return text.decode("utf-8", "replace")[-2000:]

    def wait(self):
        wait_until(lambda: os.path.exists(f"{self.run}/lmtp") or self.process.poll() is not None, 15, self.log)
        assert self.process.poll() is None, (self.log(), self.process.stderr.read())
        return self

    def messages(self, user):
        return [open(path, "rb").read() for path in sorted(glob.glob(f"{self.mail}/{user}/new/*"))]

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def dovecot():
    program("dovecot")
    if not glob.glob("/usr/lib/dovecot/lmtp"):
        pytest.skip("dovecot-lmtpd is not installed")
    running = Dovecot()
    yield running.wait()
    running.close()


def test_dovecot(serve, dovecot):
    server = serve(dovecot)
    for number in range(20):
        send(server.port, "a@a.test", ["ann@b.test", f"bob{number % 2}@b.test"], BODY)
    server.wait_events(lambda e: e["event"] == "delivery", 40)
    assert len(dovecot.messages("ann")) == 20 and len(dovecot.messages("bob0")) == 10, dovecot.log()
    message = dovecot.messages("ann")[0]
    assert b"Subject: store\n\n.dots\nbody\n" in message.replace(b"\r\n", b"\n")
    assert b"Return-Path: <a@a.test>" in message
    assert {event["host"] for event in server.events() if event["event"] == "delivery"} == {dovecot.endpoint[5:]}
