"""`ringpost passwd`: accounts are made, changed, verified, deleted and listed, and the file is never half of anything."""
import base64
import hashlib
import hmac
import os
import pty
import subprocess
import threading

import pytest
from harness.server import BINARY

USAGE, DATA, FAILED, CONFIG = 64, 65, 70, 78
FAST = "--iterations=4096"


class Accounts:
    def __init__(self, path):
        self.path = path

    def run(self, *words, password=None, code=0):
        done = subprocess.run([BINARY, "passwd", "--file", self.path, *words], input=password, capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def set(self, name, password="secret", *words):
        return self.run(FAST, *words, name, password=password + "\n")

    def is_password(self, name, password):
        done = subprocess.run([BINARY, "passwd", "--file", self.path, "--verify", name], input=password + "\n",
                              capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, DATA)
        return done.returncode == 0

    def lines(self):
        with open(self.path) as file:
            return file.read().splitlines()


@pytest.fixture
def accounts(tmp_path):
    return Accounts(str(tmp_path / "passwords"))


def test_an_account_is_made_as_the_standard_says(accounts):
    accounts.set("alice@example.com", "pencil")
    comment, decoy, line = accounts.lines()
    assert comment.startswith("#") and decoy.startswith("!decoy:")
    assert len(base64.b64decode(decoy.split(":")[1], validate=True)) == 32
    name, verifier = line.split(":")
    assert name == "alice@example.com" and verifier.startswith("{SCRAM-SHA-256}4096,")
    salt, stored, server = (base64.b64decode(part) for part in verifier.split(",")[1:])
    assert len(salt) == 16
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
    assert stored == hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")
    assert os.stat(accounts.path).st_mode & 0o777 == 0o600
    assert "pencil" not in open(accounts.path).read()


def test_default_iterations_and_own_salts(accounts):
    accounts.run("a", password="same\n")
    accounts.set("b", "same")
    accounts.set("c", "same")
    lines = accounts.lines()[2:]
    assert lines[0].startswith("a:{SCRAM-SHA-256}100000,")
    assert len({line.split(",")[1] for line in lines}) == 3
    assert accounts.lines()[1] == accounts.lines()[1]


def test_verify(accounts):
    accounts.set("alice", "right")
    accounts.run("--no-password", "robot")
    assert accounts.is_password("ALICE", "right")
    assert not accounts.is_password("alice", "wrong")
    assert not accounts.is_password("alice", "right ")
    assert "no such account" in accounts.run("--verify", "bob", password="x\n", code=DATA)
    assert "has no password" in accounts.run("--verify", "robot", password="x\n", code=DATA)
    accounts.run("--keep", "--disable", "alice")
    assert "disabled" in accounts.run("--verify", "alice", password="right\n", code=DATA)
    accounts.run("--keep", "--enable", "alice")
    assert accounts.is_password("alice", "right")


def test_a_change_leaves_everything_else(accounts):
    accounts.set("a", "1", "--sender", "x@y.example", "--sender", "@z.example", "--tenant", "shop")
    with open(accounts.path, "a") as file:
        file.write("\n# mine\nb:-   certificate=cn.example\n")  # with spaces of its own
    accounts.set("c", "3")
    before = accounts.lines()
    accounts.set("A", "2")
    after = accounts.lines()
    assert [line for line in before if line not in after] == [before[2]]
    assert after[2].startswith("A:") and after[2].endswith(" sender=x@y.example sender=@z.example tenant=shop")
    assert accounts.is_password("a", "2") and not accounts.is_password("a", "1") and accounts.is_password("c", "3")
    accounts.run("--keep", "--sender", "*", "--tenant", "", "a")
    assert accounts.lines()[2].endswith(" sender=*") and accounts.is_password("a", "2")
    accounts.run("--keep", "--disable", "b")
    assert accounts.lines()[5] == "b:- certificate=cn.example disabled"
    accounts.run("--keep", "--certificate", "sha256:" + "0" * 64, "--enable", "b")
    assert accounts.lines()[5] == "b:- certificate=sha256:" + "0" * 64
    accounts.run("--delete", "b")
    assert accounts.lines() == [*before[:2], accounts.lines()[2], *before[3:5], before[6]]
    accounts.run("--delete", "b", code=DATA)


def test_a_last_line_without_its_end(accounts):
    with open(accounts.path, "w") as file:
        file.write("b:-")
    accounts.set("a")
    assert accounts.lines()[0] == "b:-" and accounts.lines()[1].startswith("a:{")
    accounts.run("--delete", "b")
    assert len(accounts.lines()) == 1


def test_list(accounts):
    accounts.set("alice@example.com", "x", "--tenant", "shop")
    accounts.run("--no-password", "--disable", "--sender", "@b.example", "--sender", "c@d.example", "robot")
    rows = [line.split() for line in accounts.run("--list").splitlines()]
    assert rows == [["account", "password", "state", "tenant", "senders"],
                    ["alice@example.com", "scram-sha-256", "4096", "enabled", "shop", "(its", "name)"],
                    ["robot", "none", "disabled", "-", "@b.example", "c@d.example"]]


def test_owner_mode_and_links_stay(accounts, tmp_path):
    accounts.set("a")
    os.chmod(accounts.path, 0o640)
    if os.geteuid() == 0:
        os.chown(accounts.path, 4321, 4322)
    link = tmp_path / "link"
    link.symlink_to(accounts.path)
    Accounts(str(link)).set("b")
    status = os.stat(accounts.path)
    assert link.is_symlink() and status.st_mode & 0o777 == 0o640
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (4321, 4322)
    assert sorted(os.listdir(tmp_path)) == ["link", "passwords"]


@pytest.mark.parametrize("password, reason", [
    ("", "1 to 512"), ("x" * 513, "1 to 512"), ("caf\u00e9", "printable ASCII"), ("a\tb", "printable ASCII"),
])
def test_passwords_that_are_refused(accounts, password, reason):
    assert reason in accounts.run(FAST, "a", password=password + "\n", code=DATA)
    assert not os.path.exists(accounts.path)


@pytest.mark.parametrize("words", [
    (), ("a", "b"), ("--list", "a"), ("--delete", "--verify", "a"), ("--delete", "--sender", "x@y", "a"),
    ("--enable", "--disable", "a"), ("--iterations", "4095", "a"), ("--iterations", "10000001", "a"),
    ("--iterations", "1e5", "a"), ("--sender", "a b", "a"), ("--config", "x", "a"), ("--unknown", "a"), ("a:b",), ("a b",),
    ("#a",), ("!decoy",), ("",), ("--keep", "--no-password", "a"),
])
def test_wrong_usage(accounts, words):
    assert "see `ringpost passwd --help`" in accounts.run(*words, password="x\n", code=USAGE)
    assert not os.path.exists(accounts.path)


def test_a_file_with_mistakes_is_not_touched(accounts):
    with open(accounts.path, "w") as file:
        file.write("good:-\nbroken\n")
    out = accounts.run(FAST, "a", password="x\n", code=DATA)
    assert out == accounts.path + ":2: there is no ':', expected NAME:VERIFIER\n"
    assert accounts.lines() == ["good:-", "broken"]
    with open(accounts.path, "w") as file:
        file.write("good:-\n")
    out = accounts.run("--no-password", "--sender", "nonsense", "a", code=DATA)
    assert ':2: sender is "nonsense", expected an address' in out
    assert accounts.lines() == ["good:-"]


def test_files_that_are_not_there(accounts, tmp_path):
    accounts.run("--list", code=FAILED)
    accounts.run("--verify", "a", password="x\n", code=FAILED)
    accounts.run("--delete", "a", code=FAILED)
    accounts.run("--keep", "a", code=FAILED)
    Accounts(str(tmp_path / "none" / "passwords")).run(FAST, "a", password="x\n", code=FAILED)
    Accounts(str(tmp_path)).run(FAST, "a", password="x\n", code=FAILED)


def test_the_configuration_names_the_file(accounts, tmp_path):
    config = tmp_path / "ringpost.conf"
    config.write_text(f'auth = {{ passwords = "{accounts.path}"; }};\n')
    run = [BINARY, "passwd", "--config", str(config)]
    done = subprocess.run([*run, FAST, "a"], input="x\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and accounts.is_password("a", "x")
    config.write_text("")
    done = subprocess.run([*run, "--list"], capture_output=True, text=True, timeout=60)
    assert done.returncode == CONFIG and "auth.passwords is \"\"" in done.stderr
    config.write_text("nonsense = 1;")
    assert subprocess.run([*run, "--list"], capture_output=True, timeout=60).returncode == CONFIG


def test_many_at_once_lose_nothing(accounts):
    threads = [threading.Thread(target=accounts.set, args=(f"u{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.split(":")[0] for line in accounts.lines()[2:]) == sorted(f"u{number}" for number in range(12))
    assert os.listdir(os.path.dirname(accounts.path)) == ["passwords"]


def at_a_terminal(words, answers):
    """What the terminal shows, and the exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(BINARY, [BINARY, "passwd", *words])
    shown = b""
    for prompt, answer in answers:
        while prompt not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, answer)
        shown = shown.replace(prompt, b"", 1)
    try:
        while piece := os.read(terminal, 1000):
            shown += piece
    except OSError:
        pass
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return shown, os.waitstatus_to_exitcode(status)


def test_at_a_terminal(accounts):
    words = ["--file", accounts.path, FAST, "a"]
    shown, code = at_a_terminal(words, [(b"New password for a: ", b"hidden\n"), (b"Again for a: ", b"hidden\n")])
    assert code == 0 and b"hidden" not in shown and accounts.is_password("a", "hidden")
    shown, code = at_a_terminal(words, [(b"New password for a: ", b"one\n"), (b"Again for a: ", b"two\n")])
    assert code == DATA and b"not the same" in shown and accounts.is_password("a", "hidden")
    shown, code = at_a_terminal(["--verify", *words], [(b"Password for a: ", b"hidden\n")])
    assert code == 0 and b"hidden" not in shown
    shown, code = at_a_terminal(words, [(b"New password for a: ", b"\x03")])
    assert code == 130 and accounts.is_password("a", "hidden")


def test_an_account_that_may_send_as_nobody_is_warned_about(accounts):
    assert "shop: the name is no address" in accounts.run(FAST, "shop", password="secret\n")
    assert accounts.run("--keep", "--sender", "@shop.example", "shop") == ""
    assert accounts.run("--keep", "--disable", "shop") == ""
    assert accounts.run(FAST, "alice@example.com", password="secret\n") == ""
