"""What an operator does: looks at the queue and changes it, reloads, watches, lets systemd watch."""
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from harness.client import Client, send
from harness.load import LoadSink, load_source, program
from harness.report import Report
from harness.server import BINARY, MAY_LEAK, free_port, wait_until
from harness.sink import Stall

BODY = "Subject: operate\r\n\r\nbody\r\n"


@pytest.fixture
def deferring(make_server, make_sink):
    """A server with a queue that waits: 2 recipients at each of 3 domains, deferred for an hour. Notifications go home."""
    sink, home = make_sink(), make_sink()
    sink.on("RCPT", "451 4.2.1 come back later")
    server = make_server(retry={"schedule": ("1h",), "jitter_percent": 20}, routes=(
        {"domain": "home.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": sink.endpoint}))
    server.sink, server.home, server.ids = sink, home, {}
    for number in range(6):
        with Client(server.port) as client:
            client.hello()
            reply = client.message(f"s{number % 2}@home.test", f"u{number}@d{number % 3}.test", BODY)
        server.ids[f"u{number}@d{number % 3}.test"] = re.search(r"[0-9a-f]{16}", reply.text).group(0)
    wait_until(lambda: total(server)["deferred"] == 6, 10, lambda: f"6 deferred recipients: {total(server)}")
    wait_until(lambda: all(r["last_error"] for r in recipients(server).values()), 5, "their outcomes to be written down")
    return server


def total(server):
    status, answer = server.control("GET", "/queue")
    assert status == 200
    return answer["total"]


def recipients(server, **query):
    status, answer = server.control("GET", "/queue/messages", query)
    assert status == 200 and answer["more"] is False
    return {r["recipient"]: r for r in answer["recipients"]}


def act(server, action, **match):
    status, answer = server.control("POST", f"/queue/{action}", body=match)
    assert status == 200, answer
    return answer["matched"]


def test_summary(deferring):
    status, answer = deferring.control("GET", "/queue")
    assert status == 200 and answer["more"] is False
    assert answer["total"] == {"destinations": 3, "ready": 0, "active": 0, "deferred": 6, "held": 0}
    assert {d["domain"] for d in answer["destinations"]} == {"d0.test", "d1.test", "d2.test"}
    for destination in answer["destinations"]:
        assert destination["deferred"] == 2
        assert 0 <= destination["oldest_age_seconds"] < 60
        assert 2800 <= destination["next_attempt_in_seconds"] <= 4400
        assert "come back later" in destination["last_error"]
    limited = deferring.control("GET", "/queue", {"limit": 2})[1]
    assert len(limited["destinations"]) == 2 and limited["more"] is True


def test_list_and_show(deferring):
    everything = recipients(deferring)
    assert set(everything) == set(deferring.ids)
    for address, recipient in everything.items():
        assert recipient["id"] == deferring.ids[address], "the id is the one that the client was told"
        assert (recipient["state"], recipient["attempts"]) == ("deferred", 1)
        assert recipient["bytes"] >= len(BODY) and "come back later" in recipient["last_error"]
    assert set(recipients(deferring, domain="d1.test")) == {"u1@d1.test", "u4@d1.test"}
    assert set(recipients(deferring, domain="D1.TEST")) == {"u1@d1.test", "u4@d1.test"}
    assert set(recipients(deferring, sender="s0@home.test")) == {"u0@d0.test", "u2@d2.test", "u4@d1.test"}
    assert recipients(deferring, domain="other.test") == {}
    status, answer = deferring.control("GET", f"/queue/messages/{deferring.ids['u3@d0.test']}")
    assert status == 200 and [r["recipient"] for r in answer["recipients"]] == ["u3@d0.test"]
    assert deferring.control("GET", "/queue/messages/00000000000000ff")[0] == 404


def test_retry(deferring):
    deferring.sink.heal()
    assert act(deferring, "retry", domain="d1.test") == 2
    wait_until(lambda: len(deferring.sink.recipients()) == 2, 10, "the mail of one domain")
    assert sorted(deferring.sink.recipients()) == ["u1@d1.test", "u4@d1.test"]
    assert act(deferring, "retry", id=deferring.ids["u3@d0.test"]) == 1
    wait_until(lambda: "u3@d0.test" in deferring.sink.recipients(), 10, "one message")
    assert act(deferring, "retry", sender="s0@home.test") == 2
    wait_until(lambda: len(deferring.sink.recipients()) == 5, 10, "the rest of one sender")
    assert act(deferring, "retry", all=True) == 1
    deferring.wait_queue_empty()
    assert sorted(deferring.sink.recipients()) == sorted(deferring.ids)


def test_hold_and_release(deferring):
    deferring.sink.heal()
    assert act(deferring, "hold", domain="d2.test") == 2
    assert act(deferring, "retry", all=True) in (4, 6)
    wait_until(lambda: len(deferring.sink.recipients()) == 4, 10, "what is not held")
    time.sleep(0.5)
    assert total(deferring) == {"destinations": 1, "ready": 0, "active": 0, "deferred": 0, "held": 2}
    held = recipients(deferring, domain="d2.test")
    assert all(r["state"] == "held" and r["next_attempt_in_seconds"] is None for r in held.values())
    deferring.restart()
    assert total(deferring)["held"] == 2, "holding is durable"
    deferring.kill()
    deferring.start()
    assert total(deferring)["held"] == 2
    assert act(deferring, "release", domain="d2.test") == 2
    act(deferring, "retry", all=True)
    deferring.wait_queue_empty()
    assert sorted(deferring.sink.recipients()) == sorted(deferring.ids)


def test_hold_of_new_mail_is_not_asked_for(deferring):
    """Holding is about what is in the queue: what comes later is delivered."""
    act(deferring, "hold", all=True)
    deferring.sink.heal()
    send(deferring.port, "s0@home.test", ["new@d0.test"], BODY)
    wait_until(lambda: deferring.sink.recipients() == ["new@d0.test"], 10, "new mail")
    assert total(deferring)["held"] == 6


def test_delete(deferring):
    assert act(deferring, "delete", id=deferring.ids["u0@d0.test"]) == 1
    assert act(deferring, "delete", domain="d1.test") == 2
    assert act(deferring, "delete", sender="nobody@home.test") == 0
    wait_until(lambda: total(deferring)["deferred"] == 3, 5, "three to be gone")
    wait_until(lambda: deferring.queued() == (3, 3), 5, "it to be written down")
    deferring.kill()
    deferring.start()
    assert set(recipients(deferring)) == {"u2@d2.test", "u3@d0.test", "u5@d2.test"}
    assert deferring.home.messages == [], "deleting tells nobody"
    assert act(deferring, "delete", all=True) == 3
    deferring.wait_queue_empty()


def test_bounce(deferring):
    assert act(deferring, "bounce", sender="s1@home.test") == 3
    reports = [Report(message) for message in deferring.home.wait(3)]
    for report in reports:
        report.check("s1@home.test", "mx.ringpost.test")
    assert {address for report in reports for address in report.failed} == {"u1@d1.test", "u3@d0.test", "u5@d2.test"}
    assert {fields["Status"][0] for report in reports for fields in report.failed.values()} == {"5"}
    wait_until(lambda: total(deferring)["deferred"] == 3, 5, "three to be gone")
    assert len(deferring.wait_events(lambda e: e["event"] == "bounce", 3)) == 3


def test_recipients_in_an_attempt_are_dealt_with_when_it_ends(make_server, sink):
    server = make_server(sink, retry={"schedule": ("1h",)})
    sink.on("RCPT", Stall(1, then="451 4.2.1 later"))
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    wait_until(lambda: total(server)["active"] == 1, 5, "the attempt")
    assert act(server, "delete", all=True) == 1
    server.wait_queue_empty(10)
    assert sink.messages == []


@pytest.mark.parametrize("body", [
    {}, {"domain": "a.test", "sender": "b@b.test"}, {"all": False}, {"id": "xyz"}, {"id": 5}, {"domain": "a\nb"}, {"what": "x"},
    {"domain": "bad domain"}, {"sender": "x\r\ny"}, {"all": True, "id": "0" * 15 + "1"}, [], "text", None, {"sender": "\u2028"},
], ids=repr)
def test_bad_requests(server, body):
    status, answer = server.control("POST", "/queue/delete", body=body)
    assert status == 400 and answer["error"]


def test_pages_that_are_not_there(server):
    assert server.control("GET", "/nothing")[0] == 404
    assert server.control("POST", "/queue/explode", body={"all": True})[0] == 404
    assert server.control("GET", "/queue/hold")[0] == 405
    assert server.control("POST", "/queue", body={})[0] == 405
    for path in "/queue", "/queue/messages":
        assert server.get(path)[0] == 404, "nothing of the queue is on TCP"
    status, _ = server.control("POST", "/queue/delete", body={"sender": "x" * 100000})
    assert status in (400, 413)


def test_with_curl(deferring):
    def curl(*words):
        run = subprocess.run([program("curl"), "-sS", "--fail-with-body", "--unix-socket", deferring.socket_path, *words],
                             capture_output=True, text=True, timeout=20)
        assert run.returncode == 0, run.stdout + run.stderr
        return json.loads(run.stdout)

    assert curl("http://localhost/queue")["total"]["deferred"] == 6
    assert curl("http://localhost/queue/hold", "-d", '{"domain": "d0.test"}') == {"matched": 2}
    assert curl("http://localhost/queue")["total"] == {"destinations": 3, "ready": 0, "active": 0, "deferred": 4, "held": 2}
    assert len(curl("http://localhost/queue/messages?domain=d0.test")["recipients"]) == 2


def test_with_the_command_line(deferring):
    text = deferring.cli()
    assert re.search(r"d0\.test\s+0\s+0\s+2\s+0\s", text) and "come back later" in text
    assert len(deferring.cli("list", "--domain", "d1.test").splitlines()) == 3
    identifier = deferring.ids["u5@d2.test"]
    assert "u5@d2.test" in deferring.cli("show", identifier) and identifier in deferring.cli("show", identifier)
    assert "2" in deferring.cli("hold", "--domain", "d1.test")
    assert "2" in deferring.cli("release", "--domain", "d1.test")
    assert "1" in deferring.cli("delete", "--id", identifier)
    assert json.loads(deferring.cli("--json"))["total"]["deferred"] == 5
    deferring.sink.heal()
    assert "5" in deferring.cli("retry", "--all")
    deferring.wait_queue_empty()
    assert len(deferring.sink.recipients()) == 5
    deferring.cli("show", identifier, code=65)
    deferring.stop()
    run = subprocess.run([BINARY, "queue", "--socket", deferring.socket_path], capture_output=True, text=True)
    assert run.returncode == 69 and deferring.socket_path in run.stderr


def test_socket_is_not_for_everybody(server):
    assert os.stat(server.socket_path).st_mode & 0o777 == 0o660


def test_stale_socket_is_replaced(make_server, sink):
    server = make_server(sink)
    server.kill()
    assert os.path.exists(server.socket_path)
    server.start()
    assert server.control("GET", "/queue")[0] == 200
    server.stop()
    assert not os.path.exists(server.socket_path)


# --- watching -------------------------------------------------------------------------------------------------------


def test_metrics_are_clean(server, sink):
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    server.wait_queue_empty()
    text = server.get("/metrics")[1]
    run = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout + run.stderr == "", run.stdout + run.stderr
    names = re.findall(r"^# TYPE (\w+) ", text, re.M)
    assert len(names) > 50 and len(set(names)) == len(names)
    for name in names:
        assert re.search(rf"^# HELP {name} \S", text, re.M)


def test_metrics_count(server, sink):
    sink.on("RCPT", "550 5.1.1 no", match="<bad@")
    sink.on("RCPT", "451 4.1.1 later", match="<late@", times=1)
    send(server.port, "a@a.test", ["good@b.test", "bad@b.test", "late@b.test"], BODY)
    with Client(server.port) as client:
        client.hello()
        assert client.message("a@a.test", "b@b.test", "bare\nLF", code=None).code == 550
    wait_until(lambda: len(sink.messages) == 3, 10, "three transactions")
    server.wait_queue_empty()
    metrics = server.metrics()
    expected = {"messages_accepted_total": 1, "messages_rejected_total": 1, "recipients_accepted_total": 3,
                "recipients_delivered_total": 3, "recipients_failed_total": 1, "recipients_deferred_total": 1,
                "bounces_generated_total": 1, "connections_accepted_total": 2, "queued_recipients": 0,
                "spool_write_errors_total": 0, "spool_quarantined_records_total": 0, "spool_full_total": 0}
    assert {name: metrics[name] for name in expected} == expected
    for name in "commit_latency_seconds", "accept_latency_seconds", "queue_time_seconds", "remote_reply_seconds":
        assert metrics[f"{name}_count"] > 0 and metrics[f"{name}_sum"] >= 0


def test_health(server):
    assert server.get("/healthz") == (200, "ok\n")
    assert server.get("/readyz") == (200, "ok\n")
    assert server.control("GET", "/healthz")[0] == 200


def test_idle_costs_nothing(make_server, sink):
    """After mail, with sessions open on both sides, while connections are closed for being idle, and then: no CPU at all."""
    server = make_server(sink, delivery={"idle_timeout": "1s"}, shards={"count": 3})
    clients = [Client(server.port) for _ in range(20)]
    for number in range(30):
        send(server.port, "a@a.test", [f"b{number}@b.test"], BODY)
    server.wait_queue_empty()
    time.sleep(2.5)  # memory is given back once, the spool makes a segment ahead
    assert server.metric("outbound_connections_open") == 0 and server.metric("sessions") == 20
    before = server.cpu_seconds()
    time.sleep(3)
    assert server.cpu_seconds() - before <= 1 / os.sysconf("SC_CLK_TCK")
    for client in clients:
        client.close()


class Stopped:
    """Stops one thread of another process, as a loop that hangs would; the others run on."""
    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17

    def __init__(self, thread):
        self.thread = thread
        self.ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        self.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def _ask(self, request):
        if self.ptrace(request, self.thread, None, None) != 0:
            pytest.skip("ptrace is not allowed here: " + os.strerror(ctypes.get_errno()))

    def __enter__(self):
        self._ask(self.SEIZE)
        self._ask(self.INTERRUPT)
        os.waitpid(self.thread, 0x40000000)  # __WALL

    def __exit__(self, *_):
        self._ask(self.DETACH)


def test_a_hanging_shard_is_not_healthy(server):
    tasks = {}
    for task in os.listdir(f"/proc/{server.process.pid}/task"):
        with open(f"/proc/{server.process.pid}/task/{task}/comm", encoding="ascii") as file:
            tasks[file.read().strip()] = int(task)
    with Stopped(tasks["shard-1"]):
        status, text = server.get("/healthz", timeout=10)
        assert status == 503 and "shard 1" in text
    wait_until(lambda: server.get("/healthz", timeout=10)[0] == 200, 10, "health again")


class Notify:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(10)
        self.states = []

    def wait(self, state, seconds=10):
        deadline = time.monotonic() + seconds
        while state not in self.states:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            self.states += self.socket.recv(4096).decode().split("\n")
        self.states.remove(state)


def test_systemd_notify(make_server, sink, tmp_path):
    notify = Notify(str(tmp_path / "notify"))
    server = make_server(sink, start=False, environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
    server.start(wait=False)
    notify.wait("READY=1")
    assert server.ready(), "ready means that mail is taken"
    with Client(server.port) as client:
        assert client.greeting == 220
    for _ in range(4):
        notify.wait("WATCHDOG=1", 1.0)
    server.send_signal(signal.SIGHUP)
    notify.wait("READY=1", 5)
    server.send_signal(signal.SIGTERM)
    notify.wait("STOPPING=1", 5)
    assert server.process.wait(10) == 0
    server.process = None
    notify.socket.close()


# --- reload ---------------------------------------------------------------------------------------------------------


def reload(server, expect, **changes):
    """Sends SIGHUP with the changed configuration and waits for the log to say `expect`."""
    before = len(server.log())
    server.write_config(**changes)
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: expect in server.log()[before:], 10, lambda: f"{expect!r} in the log:\n{server.log()[before:]}")
    return server.log()[before:]


def test_reload_of_routes(make_server, make_sink):
    one, two = make_sink(), make_sink()
    server = make_server(one)
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    one.wait(1)
    said = reload(server, "configuration reloaded", routes=({"domain": "*", "next_hop": two.endpoint},))
    assert "routes" in said and two.endpoint in said
    send(server.port, "a@a.test", ["c@b.test"], BODY)
    assert two.wait(1)[0].recipients == ["c@b.test"]
    assert len(one.messages) == 1
    server.wait_queue_empty()


def test_reload_rescues_waiting_mail(make_server, make_sink):
    """The usual reason to change a route: mail waits for a host that will not come back."""
    good = make_sink()
    server = make_server()
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    wait_until(lambda: server.metric("outbound_connect_failures_total") > 0, 10, "an attempt")
    reload(server, "configuration reloaded", routes=({"domain": "*", "next_hop": good.endpoint},))
    good.wait(1)
    server.wait_queue_empty()


def test_reload_of_a_listener(server, sink):
    old = Client(server.port)
    old.hello()
    listener = {**server.settings["listeners"][0], "message_bytes_max": "64K", "hostname": "other.test"}
    reload(server, "configuration reloaded", listeners=(listener,))
    with Client(server.port) as client:
        assert "other.test" in client.greeting.text
        assert "SIZE 65536" in client.hello().text
    old.message("a@a.test", "b@b.test", BODY)
    old.close()
    sink.wait(1)


@pytest.mark.parametrize("key, changes", [
    ("spool.path", {"spool": {"path": "/var/tmp/elsewhere"}}),
    ("shards.count", {"shards": {"count": 5}}),
    ("admin.socket", {"admin": {"socket": "/var/tmp/elsewhere.sock"}}),
    ("limits.ring_entries", {"limits": {"ring_entries": 1024}}),
])
def test_reload_refuses_by_name_what_needs_a_restart(server, sink, key, changes):
    """All or nothing: a route changed in the same file is not taken over either."""
    routes = ({"domain": "*", "next_hop": f"127.0.0.1:{free_port()}"},)
    directory = server.settings["spool"]["path"]
    said = reload(server, "not reloaded", routes=routes, **changes)
    assert key in said
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    assert os.path.isdir(directory) and not os.path.exists("/var/tmp/elsewhere/0")
    if os.path.isdir("/var/tmp/elsewhere"):
        os.rmdir("/var/tmp/elsewhere")


def test_reload_of_a_broken_file(server, sink):
    with open(server.config_path, "a", encoding="ascii") as file:
        file.write("hostnam = 5;\n")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: "not reloaded" in server.log(), 10, "the refusal")
    assert "hostnam is not a known key" in server.log()
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)


def test_reload_under_load(make_server, tmp_path):
    with LoadSink(tmp_path / "sink.log") as sink:
        server = make_server(sink, events={"path": ""})
        runs = []
        thread = threading.Thread(target=lambda: runs.append(load_source(server.port, messages=6000, sessions=20)))
        thread.start()
        for number in range(10):
            reload(server, "configuration reloaded", delivery={"connections_per_destination_max": 5 + number})
        thread.join()
        assert runs[0].accepted == 6000
        server.wait_queue_empty()
        assert sink.counts()[1] == 6000


def test_ports_in_use_are_said(make_server, sink, server):
    other = make_server(sink, start=False, environment=MAY_LEAK)
    other.settings["listeners"] = ({"name": "in", "address": f"127.0.0.1:{server.admin_port}"},)
    other.write_config()
    other.start(wait=False)
    assert other.process.wait(10) in (70, 78)
    other.process = None
    assert "listener in: Address already in use" in other.log()
