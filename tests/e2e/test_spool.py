"""`ringpost spool`: verify, list, export; and what the server makes of a damaged spool."""
import glob
import json
import os
import subprocess

import pytest
from harness.client import send
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
    wait_until(lambda: server.metric("recipients_deferred_total") == 6, 10, "6 deferrals")
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


@pytest.mark.parametrize("words, code, complaint", [
    ((), 64, "expected one of check, dump, export"),
    (("look",), 64, "expected one of check, dump, export"),
    (("export", "--path", "x"), 64, "--output goes with export"),
    (("check", "--output", "x"), 64, "--output goes with export"),
    (("check", "--path", "/nonexistent"), 70, "/nonexistent: no spool there"),
    (("check", "--config", "/nonexistent"), 78, "/nonexistent"),
])
def test_usage(words, code, complaint):
    status, _, error = spool(*words)
    assert status == code and complaint in error
