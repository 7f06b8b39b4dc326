"""`ringpost spool`: verify, list, export; and what the server makes of a damaged spool."""
import glob
import json
import os
import resource
import shutil
import signal
import subprocess

import pytest
from harness.client import Client, send
from harness.server import BINARY, wait_until

BODY = "Subject: kept\r\n\r\n..a line that began with a dot\r\nbody\r\n"


def spool(*words):
    done = subprocess.run([BINARY, "spool", *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def queued(make_server, sink):
    """A server with three messages that wait for an hour."""
    sink.on("RCPT", "451 4.2.1 come back later")
    server = make_server(sink, retry={"schedule": ("1h",)})
    for number in range(3):
        send(server.port, f"s{number}@a.test", [f"u{number}@b.test", f"v{number}@b.test"], BODY.replace("kept", f"kept {number}"))
    server.wait_outcomes_written(6)
    server.path = server.settings["spool"]["path"]
    return server


def test_a_running_server_is_looked_at(queued):
    code, out, _ = spool("check", "--path", queued.path)
    assert code == 0 and "3 messages queued for 6 recipients, 0 damages" in out
    code, out, _ = spool("dump", "--config", queued.config_path)
    assert code == 0
    assert out.count(" message sequence=") == 3 and out.count(" outcome sequence=") >= 3


def test_export_is_mail_again(queued, tmp_path):
    queued.stop()
    code, out, _ = spool("export", "--path", queued.path, "--output", str(tmp_path / "new" / "mail"))
    assert code == 0 and "3 messages exported" in out
    seen = set()
    for path in glob.glob(str(tmp_path / "new/mail/*.json")):
        envelope = json.load(open(path))
        text = open(path.replace(".json", ".eml"), newline="").read()
        number = envelope["sender"][1]
        assert envelope["complete"] and os.path.basename(path) == envelope["id"] + ".json"
        assert envelope["recipients"] == [{"address": f"{letter}{number}@b.test", "status": "deferred"} for letter in "uv"]
        assert text.startswith("Received: from ")
        assert text.endswith(f"Subject: kept {number}\r\n\r\n..a line that began with a dot\r\nbody\r\n")
        seen.add(number)
    assert seen == {"0", "1", "2"}


def test_export_of_a_binary_body(make_server, sink, tmp_path):
    """Its bytes and no others: a line that ends with a mere LF neither hides a dot nor ends the message."""
    sink.on("RCPT", "451 4.2.1 come back later")
    server = make_server(sink, retry={"schedule": ("1h",)})
    body = b"Subject: binary\r\n\r\n.\r\n..x\r\n\n.\r\nafter\n.y\n..z\0\xff"
    with Client(server.port) as client:
        assert client.command("EHLO c.test") == 250
        assert client.command("MAIL FROM:<a@a.test> BODY=BINARYMIME") == 250
        assert client.command("RCPT TO:<b@b.test>") == 250
        client.send(b"BDAT %d LAST\r\n" % len(body) + body)
        assert client.reply() == 250
    server.stop()
    code, out, _ = spool("export", "--path", server.settings["spool"]["path"], "--output", str(tmp_path))
    assert code == 0 and "1 messages exported" in out
    text = open(glob.glob(str(tmp_path / "*.eml"))[0], "rb").read()
    assert text.startswith(b"Received: from ") and text.endswith(b"\r\n" + body)


def test_an_export_that_does_not_fit_is_none(queued, tmp_path):
    """Whoever drops what was exported must be able to rely on it."""
    send(queued.port, "large@a.test", ["w@b.test"], "Subject: large\r\n\r\n" + 4000 * (64 * "x" + "\r\n"))
    wait_until(lambda: queued.metric("recipients_deferred_total") == 7, 10, "7 deferrals")
    damage(queued.path, b"Subject: kept 1")

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

    done = subprocess.run([BINARY, "spool", "export", "--path", queued.path, "--output", str(tmp_path)],
                          capture_output=True, text=True, timeout=60, preexec_fn=small_files)
    assert done.returncode == 70
    assert f"3 messages exported to {tmp_path}; not all that was to be: see the errors\n" in done.stdout
    assert [line for line in done.stderr.splitlines() if line.endswith(".eml: File too large")]


def test_no_descriptors_are_no_damage(queued):
    """A large spool has more segments than a shell's limit of open files; the hard limit serves, or the reason is said."""
    def few(hard):
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (6, hard))

    words = [BINARY, "spool", "check", "--path", queued.path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, preexec_fn=few(100))
    assert done.returncode == 0 and "3 messages queued for 6 recipients, 0 damages" in done.stdout
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, preexec_fn=few(6))
    assert done.returncode == 70 and ".seg: Too many open files" in done.stderr and ": damaged" not in done.stdout


def test_no_permission_is_no_empty_spool(queued, tmp_path):
    code, _, err = spool("check", "--path", str(tmp_path))
    assert code == 70 and "no spool there, expected directories 0, 1, ..." in err
    code, _, err = spool("check", "--path", str(tmp_path / "none"))
    assert code == 70 and "No such file or directory" in err
    binary = shutil.copy(BINARY, tmp_path)
    os.chmod(tmp_path, 0o755)
    for directory in tmp_path.parents[:2]:
        os.chmod(directory, 0o755)
    os.chmod(queued.path, 0o700)
    user = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    if not user:
        os.chmod(queued.path, 0)
    done = subprocess.run([binary, "spool", "check", "--path", queued.path], capture_output=True, text=True, timeout=60, **user)
    os.chmod(queued.path, 0o700)
    assert done.returncode == 70 and done.stderr.endswith(": Permission denied\n")


def test_damage_is_found_and_only_that_message_waits(queued, sink):
    queued.stop()
    for path in glob.glob(queued.path + "/*/*.seg"):
        with open(path, "r+b") as file:
            at = file.read().find(b"Subject: kept 1")
            if at >= 0:
                file.seek(at)
                file.write(b"T")
                break
    assert at >= 0
    code, out, _ = spool("check", "--path", queued.path)
    assert code == 65 and "1 damages" in out and f"{path}:" in out
    sink.heal()
    queued.start()
    queued.control("POST", "/queue/retry", body={"all": True})
    sink.wait(2)
    wait_until(lambda: queued.queued() == (0, 1), 20, "nothing to deliver but the damaged message, which is kept")
    assert sorted(sink.recipients()) == ["u0@b.test", "u2@b.test", "v0@b.test", "v2@b.test"]
    assert queued.metric("spool_quarantined_records_total") == 1


def damage(path, text):
    for name in glob.glob(path + "/*/*.seg"):
        with open(name, "r+b") as file:
            at = file.read().find(text)
            if at >= 0:
                file.seek(at)
                file.write(b"#")
                return name
    raise AssertionError(f"{text} is not there")


def test_quarantined_mail_is_listed_and_dropped(queued, sink, tmp_path):
    queued.stop()
    damage(queued.path, b"Subject: kept 1")
    damage(queued.path, b"u2@b.test")
    sink.heal()
    queued.start()
    queued.control("POST", "/queue/retry", body={"all": True})
    sink.wait(1)
    queued.wait_metric("spool_quarantined_messages", 2)
    socket = ("--socket", queued.socket_path)
    for _ in range(2):  # also after a start
        code, out, _ = spool("quarantine", *socket)
        assert code == 0 and "2 messages in quarantine; 0 damaged records" in out
        assert out.count("2 recipients, from <s1@a.test>") == 1 and out.count("the envelope does not verify") == 1
        assert out.count("0/0000") == 2 or out.count(".seg:") == 2
        queued.restart()
        queued.wait_metric("spool_quarantined_messages", 2)
    ids = {"s1" if "s1@" in line else "s2": line.split()[0] for line in out.splitlines()[:2]}
    assert spool("drop", "--id", "00000000000000ff", *socket)[0] == 65
    code, out, _ = spool("drop", "--id", ids["s1"], *socket)
    assert code == 0 and "1 messages dropped" in out
    queued.wait_metric("spool_quarantined_messages", 1)
    events = queued.wait_events(lambda e: e["event"] == "removal", 2)
    assert sorted((e["id"], e["sender"], e["recipient"], e["status"]) for e in events) == [
        (ids["s1"], "s1@a.test", f"{letter}1@b.test", "5.7.1") for letter in "uv"]
    queued.kill()
    queued.start()
    queued.wait_metric("spool_quarantined_messages", 1)
    assert spool("drop", "--all", *socket)[0] == 0
    queued.wait_metric("queued_messages", 0)
    queued.wait_events(lambda e: e["event"] == "removal" and e["id"] == ids["s2"] and e["recipient"] == "", 2)
    queued.restart()
    assert queued.metric("spool_quarantined_messages") == 0 and queued.metric("queued_messages") == 0
    assert sorted(sink.recipients()) == ["u0@b.test", "v0@b.test"]


def test_damaged_records_are_let_go(queued, sink):
    """What a scan skips belongs to no message: its segment is kept until the operator has seen it."""
    queued.kill()
    name = damage(queued.path, b"Subject: kept 1")
    sink.heal()
    queued.start()
    queued.control("POST", "/queue/retry", body={"all": True})
    sink.wait(2)
    queued.wait_metric("queued_messages", 0)
    socket = ("--socket", queued.socket_path)
    code, out, _ = spool("quarantine", *socket)
    assert code == 0 and "0 messages in quarantine; 1 damaged records of no message, 1 segments kept for them" in out
    queued.restart()
    assert "1 segments kept" in spool("quarantine", *socket)[1]
    assert b"ubject: kept 1" in open(name, "rb").read()
    code, out, _ = spool("forget", *socket)
    assert code == 0 and "1 damaged records let go" in out
    assert "0 damaged records of no message, 0 segments" in spool("quarantine", *socket)[1]
    wait_until(lambda: spool("check", "--path", queued.path)[0] == 0, 10, "the segment to be emptied")
    queued.restart()
    assert "0 segments kept" in spool("quarantine", *socket)[1]


def test_deleted_mail_leaves_an_event(queued):
    queued.control("POST", "/queue/delete", body={"all": True})
    events = queued.wait_events(lambda e: e["event"] == "removal", 6)
    assert sorted(e["recipient"] for e in events) == sorted(f"{letter}{n}@b.test" for letter in "uv" for n in range(3))
    assert {(e["reply"], e["status"], e["attempts"]) for e in events} == {("removed by the operator", "5.7.1", 1)}


@pytest.mark.parametrize("words, code, complaint", [
    ((), 64, "expected one of check, dump, export, quarantine, drop, forget"),
    (("look",), 64, "expected one of check, dump, export, quarantine, drop, forget"),
    (("export", "--path", "x"), 64, "--output goes with export"),
    (("check", "--output", "x"), 64, "--output goes with export"),
    (("check", "--path", "/nonexistent"), 70, "/nonexistent: No such file or directory"),
    (("check", "--config", "/nonexistent"), 78, "/nonexistent"),
    (("check", "--all"), 64, "check reads files"),
    (("quarantine", "--path", "x"), 64, "asks the running server"),
    (("quarantine", "--all"), 64, "--id and --all go with drop"),
    (("drop", "--all", "--id", "0000000000000001"), 64, "exactly one of them"),
    (("drop",), 64, "exactly one of them"),
    (("drop", "--id", "1", "--socket", "/nonexistent"), 64, "16 hexadecimal digits"),
    (("quarantine", "--socket", "/nonexistent"), 69, "/nonexistent"),
])
def test_usage(words, code, complaint):
    status, _, error = spool(*words)
    assert status == code and complaint in error
