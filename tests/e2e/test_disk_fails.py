"""A disk that fails while the server runs: ext4 is told to behave as after an error of its device (EXT4_IOC_SHUTDOWN)."""
import fcntl
import os
import struct
import subprocess
import time

import pytest
from harness.client import Client, Closed, send, stuffed
from harness.server import BINARY, wait_until

BODY = "Subject: failing\r\n\r\nbody\r\n"
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


@pytest.fixture
def failing_disk(tmp_path):
    """Yields (directory, fail, repair): `fail` makes every write an error, `repair` mounts it again."""
    image, place = tmp_path / "disk", tmp_path / "mount"
    with open(image, "wb") as file:
        file.truncate(200 << 20)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)

    def mount():
        run = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True)
        if run.returncode != 0 and os.getuid() != 0:
            pytest.skip("mounting needs root: " + run.stderr.strip())
        assert run.returncode == 0, run.stderr

    def unmount():
        wait_until(lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0, 10, "umount", 0.1)

    def fail():
        fd = os.open(place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def repair():
        unmount()
        mount()

    mount()
    yield str(place), fail, repair
    unmount()


def attempt(port, recipient):
    """The last reply to a transaction that may end anywhere."""
    try:
        with Client(port) as client:
            client.hello()
            for line in ("MAIL FROM:<a@a.test>", f"RCPT TO:<{recipient}>"):
                reply = client.command(line)
                if reply != 250:
                    return reply
            reply = client.command("DATA")
            if reply != 354:
                return reply
            client.send(stuffed(BODY))
            return client.reply()
    except (Closed, AssertionError) as error:
        return str(error)


def test_disk_fails_under_mail(failing_disk, make_server, sink):
    """451 for what was in the failed sync, no second try of it; after the second failure nobody is let in, and what is in
    the queue is delivered all the same. After the repair nothing that was acknowledged is missing."""
    place, fail, repair = failing_disk
    sink.on("CONNECT", "421 4.3.2 not yet")
    server = make_server(sink, shards={"count": 1}, spool={"path": os.path.join(place, "spool")}, retry={"schedule": ("2s",)})
    kept = [f"kept{number}@b.test" for number in range(5)]
    for recipient in kept:
        send(server.port, "a@a.test", [recipient], BODY)
    # Their deferrals are written before the disk fails.
    server.wait_outcomes_written(5)
    assert server.metric("spool_write_errors_total") == 0 and server.metric("intake_stopped") == 0
    fail()
    replies = [str(attempt(server.port, f"lost{number}@b.test")) for number in range(4)]
    assert not any(reply.startswith("250") for reply in replies), replies
    wait_until(lambda: server.metric("intake_stopped") >= 1, 20, lambda: f"intake to stop: {replies}\n{server.log_tail()}")
    assert server.metric("spool_write_errors_total") >= 2
    status, text = server.get("/readyz")
    assert status == 503 and "the disk has failed" in text
    assert str(attempt(server.port, "late@b.test")).startswith("421") or "421" in str(attempt(server.port, "late@b.test"))
    assert "spool write failed" in server.log()
    refusals = [line for line in server.log().splitlines() if 'msg="new mail is refused"' in line]
    assert len(refusals) in (1, 2) and "two writes have failed; look at the disk, then restart" in refusals[-1]
    sink.heal()
    wait_until(lambda: set(kept) <= set(sink.recipients()), 20, lambda: f"the queue: {sink.recipients()}\n{server.log_tail()}")
    server.kill()
    repair()
    server.start()
    server.wait_queue_empty()
    assert set(sink.recipients()) - set(kept) <= {f"lost{n}@b.test" for n in range(4)}
    assert sorted(r for r in set(sink.recipients()) if r.startswith("kept")) == kept
    send(server.port, "a@a.test", ["after@b.test"], BODY)
    wait_until(lambda: "after@b.test" in sink.recipients(), 10, "a message after the repair")
    server.stop()


@pytest.fixture
def frozen_disk(failing_disk):
    """Yields (directory, freeze, thaw): while it is frozen, whoever writes waits."""
    place, _, _ = failing_disk

    def thaw():
        subprocess.run(["fsfreeze", "-u", place], capture_output=True)

    yield place, lambda: subprocess.run(["fsfreeze", "-f", place], check=True), thaw
    thaw()


@pytest.mark.parametrize("busy, reason", [(True, "messages are still being written"),
                                          (False, "spools and event logs are still being closed")])
def test_a_disk_that_does_not_answer_stops_no_stop(make_server, sink, frozen_disk, busy, reason):
    """The stop has an end, and a reason in the log; a crash loses no more."""
    place, freeze, thaw = frozen_disk
    sink.on("RCPT", "451 4.2.1 come back later")
    server = make_server(sink, stop_timeout="1s", spool={"path": place + "/spool", "segment_bytes": "16M"})
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    server.wait_metric("recipients_deferred_total", 1)
    server.wait_outcomes_written(1)
    freeze()
    if busy:
        client = Client(server.port)
        client.hello()
        client.send(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<c@c.test>\r\nDATA\r\n")
        assert [client.reply() for _ in range(3)] == [250, 250, 354]
        client.send(stuffed(BODY))
        time.sleep(0.3)
    server.process.terminate()
    wait_until(lambda: "stopped without an answer from the disk" in server.log(), 40, "the end of the stop")
    assert f'reason="{reason}"' in server.log()
    thaw()
    assert server.process.wait(20) == 70
    server.process = None
    sink.heal()
    server.start()
    server.control("POST", "/queue/retry", body={"all": True})
    sink.wait(1)
    assert "b@b.test" in sink.recipients()
    server.wait_queue_empty()
    server.stop()
