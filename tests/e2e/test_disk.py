"""A full disk: a small file system in a file, mounted for the test. 452, nothing lost, and on again when there is space."""
import os
import subprocess
import time

import pytest
from harness import config
from harness.client import Client, Closed, send, stuffed
from harness.load import LoadSink, load_source
from harness.server import BINARY, MAY_LEAK, wait_until

BODY = "Subject: disk\r\n\r\nbody\r\n"
MEBIBYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """Makes ext4 file systems of so many MiB; a kernel without loop devices is a failure for root, who could have them."""
    mounted = []

    def make(mebibytes):
        image, place = tmp_path / f"disk{len(mounted)}", tmp_path / f"mount{len(mounted)}"
        with open(image, "wb") as file:
            file.truncate(mebibytes * MEBIBYTE)
        place.mkdir()
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image)], check=True)
        mount = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True)
        if mount.returncode != 0 and os.getuid() != 0:
            pytest.skip("mounting a small file system needs root: " + mount.stderr.strip())
        assert mount.returncode == 0, mount.stderr
        mounted.append(place)
        return str(place)

    yield make
    for place in mounted:
        wait_until(lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0, 10, "umount", 0.1)


def fill(directory, leave=0):
    """Takes all the space that there is."""
    status = os.statvfs(directory)
    with open(os.path.join(directory, "ballast"), "ab") as file:
        take = status.f_bavail * status.f_frsize - leave
        if take > 0:
            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), take)
        try:
            while leave == 0:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), 4096)
                file.seek(4096, os.SEEK_END)
        except OSError:
            pass


def empty(directory):
    os.unlink(os.path.join(directory, "ballast"))


@pytest.fixture
def server_on(make_server):
    def start(place, sink, **changes):
        return make_server(sink, shards={"count": 1}, spool={"path": os.path.join(place, "spool"), "segment_bytes": "16M"},
                           limits={"body_memory_max": "16M"}, **changes)
    return start


def send_until_refused(server, sent, kilobytes=500, limit=400):
    """Sends until a reply is not 250; returns that reply. `sent` gets the recipients of what was accepted."""
    body = BODY + ("x" * 78 + "\r\n") * (kilobytes * 1024 // 80)
    for _ in range(limit):
        recipient = f"u{len(sent)}@b.test"
        with Client(server.port) as client:
            client.hello()
            reply = client.command("MAIL FROM:<a@a.test>")
            if reply != 250:
                return reply
            assert client.command(f"RCPT TO:<{recipient}>") == 250
            reply = client.command("DATA")
            if reply != 354:
                return reply
            client.send(stuffed(body))
            reply = client.reply()
            if reply != 250:
                return reply
            sent.append(recipient)
    raise AssertionError(f"{limit} messages of {kilobytes} KiB fit a full disk")


def test_full_disk(small_disk, server_on, sink):
    place = small_disk(200)
    sink.on("CONNECT", "421 4.3.2 not yet")
    server = server_on(place, sink)
    fill(place, leave=24 * MEBIBYTE)
    sent = []
    reply = send_until_refused(server, sent)
    assert reply == "452 4.3.1", reply
    assert len(sent) > 20
    with Client(server.port) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@a.test>") == "452 4.3.1", "refused before it has sent its message"
        assert client.command("NOOP") == 250
    assert server.metric("spool_full_total") > 0 and server.metric("intake_stopped") >= 1
    assert server.get("/readyz")[0] == 503
    # What is there is delivered all the same, and that makes room.
    sink.heal()
    server.wait_queue_empty(60)
    assert sorted(sink.recipients()) == sorted(sent)
    wait_until(lambda: server.get("/readyz")[0] == 200, 20, "intake again")
    assert server.metric("intake_stopped") == 0
    send(server.port, "a@a.test", ["after@b.test"], BODY)
    wait_until(lambda: "after@b.test" in sink.recipients(), 10, "a message after the flood")
    server.stop()


def test_space_comes_back_from_outside(small_disk, server_on, sink):
    """With a queue that cannot shrink, intake goes on when the administrator has made room."""
    place = small_disk(200)
    sink.on("CONNECT", "421 4.3.2 not yet")
    server = server_on(place, sink)
    fill(place, leave=20 * MEBIBYTE)
    sent = []
    assert send_until_refused(server, sent) == "452 4.3.1"
    assert 'msg="new mail is refused"' in server.log() and "no room for another segment" in server.log()
    empty(place)
    wait_until(lambda: server.get("/readyz")[0] == 200, 30, "intake again")
    wait_until(lambda: server.get("/readyz") and 'msg="new mail is taken again"' in server.log(), 20, "a line that says so")
    send(server.port, "a@a.test", ["after@b.test"], BODY)
    sent.append("after@b.test")
    sink.heal()
    server.wait_queue_empty(60)
    assert sorted(sink.recipients()) == sorted(sent)
    server.stop()


def test_outcomes_and_bounces_are_written_on_a_full_disk(small_disk, server_on, sink):
    place = small_disk(200)
    sink.on("CONNECT", "421 4.3.2 not yet")
    server = server_on(place, sink)
    fill(place, leave=20 * MEBIBYTE)
    sent = []
    send_until_refused(server, sent, kilobytes=100)
    fill(place)
    assert len(sent) > 50
    failing = sent[::2]
    sink.heal()
    for recipient in failing:
        sink.on("RCPT", "550 5.1.1 unknown", match=f"<{recipient}>")
    server.wait_queue_empty(60)
    delivered = [r for m in sink.messages for r in m.recipients if m.sender]
    assert sorted(delivered) == sorted(set(sent) - set(failing))
    assert len([m for m in sink.messages if m.sender == "" and m.recipients == ["a@a.test"]]) == len(failing)
    before = len(sink.messages)
    server.kill()
    server.start()
    server.wait_queue_empty()
    assert len(sink.messages) == before, "outcomes written on a full disk are there after a crash"
    server.stop()


def test_restart_on_a_full_disk(small_disk, server_on, sink):
    """A full disk does not keep the queue from being delivered after a crash."""
    place = small_disk(200)
    sink.on("CONNECT", "421 4.3.2 not yet")
    server = server_on(place, sink)
    fill(place, leave=20 * MEBIBYTE)
    sent = []
    send_until_refused(server, sent)
    fill(place)
    server.kill()
    server.start(wait=False)
    sink.heal()
    wait_until(lambda: sorted(set(sink.recipients())) == sorted(sent), 40,
               lambda: f"the mail; {len(sink.recipients())} of {len(sent)} are here\n{server.log_tail()}")
    wait_until(lambda: server.get("/readyz")[0] == 200, 20, "intake again")
    server.wait_queue_empty()
    server.stop()


def test_disk_fills_under_load(small_disk, server_on, tmp_path):
    """Many sessions at once, large messages in pieces among them: each reply is kept."""
    place = small_disk(260)
    with LoadSink(tmp_path / "sink.log") as sink:
        held = server_on(place, None, events={"path": ""})
        held.settings["routes"] = ({"domain": "*", "next_hop": sink.endpoint},)
        sink.close()
        fill(place, leave=40 * MEBIBYTE)
        run = load_source(held.port, tmp_path / "source.log", messages=600, sessions=20, length=300000, ok=False)
        assert run.accepted > 30 and run.refused > 100
        assert run.unknown == 0 and run.unfinished == 0, "452 is no reason to hang up"
        with LoadSink(tmp_path / "sink2.log", port=sink.port) as again:
            held.stop()
            held.start()
            held.wait_queue_empty(60)
            arrived = {name.split(".")[0]: copies for name, copies in again.arrivals().items()}
            assert set(arrived) == {f"m{number}" for number in run.fates["A"]}
            assert all(arrived[f"m{number}"] == [facts] for number, facts in run.fates["A"].items())
            held.stop()


def test_spool_that_cannot_be_written_is_said_at_the_start(make_server, sink, tmp_path):
    server = make_server(sink, start=False)
    server.write_config()
    blocked = tmp_path / "file"
    blocked.write_text("")
    server.settings["spool"]["path"] = str(blocked / "spool")
    with open(server.config_path, "w", encoding="utf-8") as file:
        file.write(config.text(server.settings))
    run = subprocess.run([BINARY, "serve", "--config", server.config_path], capture_output=True, text=True, timeout=20,
                         env={**os.environ, **MAY_LEAK})
    assert run.returncode in (70, 78)
    assert str(blocked) in run.stderr


def test_broken_client_on_a_full_disk(small_disk, server_on, sink):
    """Pieces of a message that never ended do not stay on a disk that has no room."""
    place = small_disk(200)
    server = server_on(place, sink)
    fill(place, leave=30 * MEBIBYTE)
    for _ in range(12):
        client = Client(server.port)
        try:
            client.hello()
            client.envelope("a@a.test", ["b@b.test"])
            client.send(("y" * 78 + "\r\n") * 100000)
        except (Closed, AssertionError, OSError):
            pass
        client.close()
    time.sleep(0.2)
    wait_until(lambda: server.get("/readyz")[0] == 200, 30, lambda: "space again\n" + server.log_tail())
    send(server.port, "a@a.test", ["c@b.test"], BODY)
    assert sink.wait(1)[0].recipients == ["c@b.test"]
    server.stop()


@pytest.fixture
def least_disk(small_disk, server_on, sink):
    """A server that has the segment it writes to, the two that are reserved, and not a byte more. That segment holds three
    messages that wait for an hour, and is full with mail that is delivered by now."""
    place = small_disk(200)
    sink.on("RCPT", "451 4.2.1 come back later", match="<stays")
    fill(place, leave=50 * MEBIBYTE)
    server = server_on(place, sink, retry={"schedule": ("1h",)})
    wait_until(lambda: server.metric("spool_segments") == 3, 10, "three segments")
    for number in range(3):
        send(server.port, "a@a.test", [f"stays{number}@b.test"], BODY)
    wait_until(lambda: server.metric("recipients_deferred_total") == 3, 10, "3 deferrals")
    sink.on("CONNECT", "421 4.3.2 not yet")
    sent = []
    assert send_until_refused(server, sent) == "452 4.3.1"
    server.sent, server.place = sent, place
    return server


def goes_on(server, sink, seconds=20):
    """Intake opens, and takes several times what the disk holds."""
    wait_until(lambda: server.get("/readyz")[0] == 200, seconds, lambda: f"intake again\n{server.log_tail()}")
    text = BODY + ("x" * 78 + "\r\n") * 12000
    taken = 0
    deadline = time.monotonic() + 40
    while taken < 60 and time.monotonic() < deadline:
        with Client(server.port) as client:
            client.hello()
            if client.command("MAIL FROM:<a@a.test>") != 250:
                time.sleep(0.05)
                continue
            assert client.command("RCPT TO:<flow@b.test>") == 250
            if client.command("DATA") != 354:
                continue
            client.send(stuffed(text))
            taken += client.reply() == 250
    assert taken == 60, f"{taken} messages of 1 MiB taken\n{server.log_tail()}"
    wait_until(lambda: sink.recipients().count("flow@b.test") == 60, 30, "all of the flow")


def test_least_disk_with_deferred_mail_works_on(least_disk, sink):
    """What waits is in the way of emptying the only segment: it is moved to the reserve, and intake goes on."""
    sink.heal()
    sink.on("RCPT", "451 4.2.1 come back later", match="<stays")
    least_disk.control("POST", "/queue/retry", body={"all": True})
    wait_until(lambda: sorted(sink.recipients()) == sorted(least_disk.sent), 30, "what was accepted")
    goes_on(least_disk, sink)
    least_disk.kill()
    sink.heal()
    least_disk.start()
    least_disk.control("POST", "/queue/retry", body={"all": True})
    least_disk.wait_queue_empty()
    assert sorted(r for r in set(sink.recipients()) if r.startswith("stays")) == [f"stays{n}@b.test" for n in range(3)]
    least_disk.stop()


def test_least_disk_after_everything_is_delivered(least_disk, sink):
    sink.heal()
    least_disk.control("POST", "/queue/retry", body={"all": True})
    least_disk.wait_queue_empty(30)
    goes_on(least_disk, sink)
    least_disk.stop()


def test_least_disk_gets_more_space(least_disk, sink):
    empty(least_disk.place)
    wait_until(lambda: least_disk.get("/readyz")[0] == 200, 20, lambda: f"intake again\n{least_disk.log_tail()}")
    send(least_disk.port, "a@a.test", ["after@b.test"], BODY)
    sink.heal()
    least_disk.control("POST", "/queue/retry", body={"all": True})
    least_disk.wait_queue_empty(30)
    assert "after@b.test" in sink.recipients()
    least_disk.stop()
