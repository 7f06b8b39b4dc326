"""Routing by MX against a name server that says what it is told to. Hosts are 127.0.0.x, all on one port."""
import ctypes
import time

import pytest
from harness.client import send
from harness.report import Report
from harness.server import free_port, wait_until

BODY = "Subject: mx\r\n\r\nbody\r\n"


@pytest.fixture
def world(make_server, make_sink, name_server):
    """`world(names, hosts)`: sinks at 127.0.0.<host> on one port, a name server, and a server that routes by MX.
    Mail to home.test, where notifications go, has a sink of its own."""
    class World:
        def __init__(self, names, hosts, **changes):
            self.port = free_port("0.0.0.0")
            self.sinks = {host: make_sink(address=f"127.0.0.{host}", port=self.port) for host in hosts}
            self.home = make_sink()
            self.dns = name_server(names)
            routes = {"domain": "home.test", "next_hop": self.home.endpoint}, {"domain": "*", "port": self.port}
            dns = {"servers": (self.dns.endpoint,), "timeout": "300ms", "tries": 2}
            delivery = {"loopback_is_remote": True, **changes.pop("delivery", {})}
            self.server = make_server(routes=routes, dns=dns, delivery=delivery, **changes)

        def send(self, *domains):
            send(self.server.port, "a@home.test", [f"user@{domain}" for domain in domains], BODY)

        def failure(self):
            report = Report(self.home.wait(1)[0])
            report.check("a@home.test", "mx.ringpost.test")
            return list(report.failed.values())[0]

        def deferral(self):
            return self.server.wait_events(lambda e: e["event"] == "deferral")[0]

    return World


def host(number):
    return {"A": [f"127.0.0.{number}"]}


def test_lowest_preference_wins(world):
    w = world({"b.test": {"MX": [(20, "two.test"), (10, "one.test"), (30, "three.test")]}, "one.test": host(11),
               "two.test": host(12), "three.test": host(13)}, (11, 12, 13))
    for _ in range(5):
        w.send("b.test")
    w.server.wait_queue_empty()
    assert [len(w.sinks[n].messages) for n in (11, 12, 13)] == [5, 0, 0]


def test_equal_preferences_share(world):
    """Over many destinations both of two equal hosts are used."""
    names = {"one.test": host(11), "two.test": host(12)}
    for number in range(24):
        names[f"b{number}.test"] = {"MX": [(10, f"x{number}.test"), (10, f"y{number}.test")]}
        names[f"x{number}.test"], names[f"y{number}.test"] = host(11), host(12)
    w = world(names, (11, 12))
    w.send(*(f"b{number}.test" for number in range(24)))
    w.server.wait_queue_empty()
    counts = [len(w.sinks[n].recipients()) for n in (11, 12)]
    assert sum(counts) == 24 and min(counts) >= 2, counts


def test_next_host_when_the_first_is_down(world):
    w = world({"b.test": {"MX": [(10, "down.test"), (20, "up.test")]}, "down.test": host(99), "up.test": host(12)}, (12,))
    w.send("b.test")
    w.sinks[12].wait(1)
    w.server.wait_queue_empty()
    assert len(w.sinks[12].messages) == 1


@pytest.mark.parametrize("greeting", ["421 4.3.2 no", "554 5.3.2 no mail here"])
def test_next_host_when_the_first_refuses_to_talk(world, greeting):
    w = world({"b.test": {"MX": [(10, "one.test"), (20, "two.test")]}, "one.test": host(11), "two.test": host(12)}, (11, 12))
    w.sinks[11].on("CONNECT", greeting)
    w.send("b.test")
    w.sinks[12].wait(1)
    w.server.wait_queue_empty()
    assert w.sinks[11].messages == []


def test_next_address_of_a_host(world):
    w = world({"b.test": {"MX": [(10, "one.test")]}, "one.test": {"A": ["127.0.0.99", "127.0.0.11"]}}, (11,))
    w.send("b.test")
    w.sinks[11].wait(1)


def test_implicit_mx(world):
    w = world({"b.test": host(11)}, (11,))
    w.send("b.test")
    assert w.sinks[11].wait(1)[0].recipients == ["user@b.test"]


def test_cname(world):
    w = world({"alias.test": {"CNAME": "b.test"}, "b.test": {"MX": [(10, "one.test")]}, "one.test": host(11)}, (11,))
    w.send("alias.test")
    assert w.sinks[11].wait(1)[0].recipients == ["user@alias.test"]


def test_address_literal(world):
    w = world({}, (11,))
    w.send("[127.0.0.11]")
    assert w.sinks[11].wait(1)[0].recipients == ["user@[127.0.0.11]"]


@pytest.mark.parametrize("names, status", [
    ({"b.test": {"MX": [(0, ".")]}}, "5.1.10"),
    ({}, ("5.1.2", "5.4.4")),
    ({"b.test": {}}, ("5.1.2", "5.4.4")),
    ({"b.test": {"MX": [(10, "nowhere.test")], "A": ["127.0.0.11"]}}, ("5.4.4", "5.1.2")),
    ({"b.test": {"MX": [(10, "mx.ringpost.test")]}, "mx.ringpost.test": host(11)}, "5.4.6"),
    ({"b.test": {"MX": [(20, "one.test"), (10, "mx.ringpost.test")]}, "mx.ringpost.test": host(12), "one.test": host(11)},
     "5.4.6"),
], ids=["null MX", "NXDOMAIN", "no data", "MX without address", "MX is ourselves", "we are the best MX"])
def test_permanent(world, names, status):
    """And never the domain's own address when it has an MX."""
    w = world(names, (11, 12))
    w.send("b.test")
    fields = w.failure()
    assert fields["Action"] == "failed"
    assert fields["Status"] in ((status,) if isinstance(status, str) else status)
    w.server.wait_queue_empty()
    assert all(not sink.sessions for sink in w.sinks.values())


def test_we_are_one_of_several(world):
    """Our own name drops out with what is no better than it."""
    w = world({"b.test": {"MX": [(10, "one.test"), (20, "mx.ringpost.test"), (30, "three.test")]}, "one.test": host(11),
               "mx.ringpost.test": host(12), "three.test": host(13)}, (11, 12, 13))
    w.send("b.test")
    w.sinks[11].wait(1)
    w.sinks[11].close()
    w.send("b.test")
    w.deferral()
    time.sleep(0.5)
    assert not w.sinks[12].sessions and not w.sinks[13].sessions


def test_transient_then_well(world):
    trouble = {"fail.test": "SERVFAIL", "refuse.test": "REFUSED", "silent.test": "SILENT"}
    w = world({**trouble, "one.test": host(11)}, (11,))
    w.send(*trouble)
    deferrals = w.server.wait_events(lambda e: e["event"] == "deferral", 3)
    assert {e["recipient"] for e in deferrals} == {f"user@{domain}" for domain in trouble}
    assert all(e["status"] in ("4.4.3", "4.4.0") and e["code"] == 0 and e["reply"] for e in deferrals)
    assert w.home.messages == []
    for domain in trouble:
        w.dns.names[domain] = {"MX": [(10, "one.test")]}
    wait_until(lambda: len(w.sinks[11].recipients()) == 3, 30, "the mail")
    w.server.wait_queue_empty()


def cares_version():
    version = ctypes.CDLL("libcares.so.2").ares_version
    version.restype = ctypes.c_char_p
    return tuple(int(part) for part in version(None).decode().split(".")[:2])


@pytest.mark.parametrize("lost, late, least, most", [(1, 0, 0.9, 4.9), (0, 1.9, 3.7, 5.7)], ids=["lost", "late"])
def test_default_timeout(make_server, make_sink, name_server, lost, late, least, most):
    """A lost question is asked again after a second: a one-time code cannot wait for longer. The answer to the first
    one counts even when it is later than that (MX, then addresses: 1.9 s each, 2.9 if only the second one's counted).
    c-ares 1.34 asks again from another port and forgets the first one; the third question waits for long enough."""
    forgets = late != 0 and cares_version() >= (1, 34)
    most = 10.8 if forgets else most
    port = free_port("0.0.0.0")
    sink = make_sink(address="127.0.0.11", port=port)
    dns = name_server({"b.test": {"MX": [(10, "one.test")]}, "one.test": host(11)})
    server = make_server(dns={"servers": (dns.endpoint,)}, delivery={"loopback_is_remote": True},
                         routes=({"domain": "*", "port": port},), shards={"count": 1})
    dns.lost, dns.late = lost, late
    begin = time.monotonic()
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    assert least < time.monotonic() - begin < most
    assert dns.questions.count(("b.test", "MX")) in ((2, 3) if forgets else (2,))


def test_one_question_for_many_messages(world):
    w = world({"b.test": {"MX": [(10, "one.test")]}, "one.test": host(11)}, (11,))
    for _ in range(50):
        w.send("b.test")
    w.server.wait_queue_empty()
    assert len(w.sinks[11].recipients()) == 50
    # Each shard has a cache of its own, and A and AAAA are two questions.
    assert len([q for q in w.dns.questions if q == ("b.test", "MX")]) <= 2
    assert len([q for q in w.dns.questions if q == ("one.test", "A")]) <= 2


def test_domains_of_one_provider_are_one_site(world):
    """Four domains behind the same MX: one transaction, and the connection limit holds for them together."""
    names = {f"b{n}.test": {"MX": [(10, "one.test"), (20, "two.test")]} for n in range(4)}
    w = world({**names, "one.test": host(11), "two.test": host(12)}, (11, 12), delivery={"connections_per_destination_max": 2})
    w.send(*names)
    w.server.wait_queue_empty()
    assert sorted(w.sinks[11].recipients()) == sorted(f"user@{name}" for name in names)
    for _ in range(20):
        w.send(*names)
    highest = 0

    def settled():
        nonlocal highest
        highest = max(highest, sum(not session.closed for session in w.sinks[11].sessions))
        return w.server.queued() == (0, 0)

    wait_until(settled, 20, "the mail")
    assert highest <= 2 and len(w.sinks[11].recipients()) == 84


def test_mx_of_another_domain(make_server, make_sink, name_server):
    port = free_port("0.0.0.0")
    sink = make_sink(address="127.0.0.11", port=port)
    dns = name_server({"relay.test": {"MX": [(10, "one.test")]}, "one.test": host(11)})
    server = make_server(dns={"servers": (dns.endpoint,)}, delivery={"loopback_is_remote": True},
                         routes=({"domain": "*", "next_hop": "mx:relay.test", "port": port},))
    send(server.port, "a@a.test", ["b@b.test", "c@c.test"], BODY)
    server.wait_queue_empty()
    assert sorted(sink.recipients()) == ["b@b.test", "c@c.test"]


def test_host_by_name(make_server, make_sink, name_server):
    """A configured host is looked up by address, never by MX."""
    sink = make_sink(address="127.0.0.11")
    dns = name_server({"relay.test": {"MX": [(10, "wrong.test")], "A": ["127.0.0.11"]}, "wrong.test": host(12)})
    server = make_server(dns={"servers": (dns.endpoint,)}, delivery={"loopback_is_remote": True},
                         routes=({"domain": "*", "next_hop": f"relay.test:{sink.port}"},))
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    assert sink.wait(1)[0].recipients == ["b@b.test"]
    assert not [q for q in dns.questions if q[1] == "MX"]


def test_host_on_this_machine_is_ourselves(world):
    """Unless told that others live here too, a loopback address in a public name means that mail would come back."""
    w = world({"b.test": {"MX": [(10, "one.test")]}, "one.test": host(11)}, (11,), delivery={"loopback_is_remote": False})
    w.send("b.test")
    assert w.failure()["Status"] == "5.4.6"
    assert not w.sinks[11].sessions


def test_hostile_answers(world):
    """A name server that answers with rubbish makes mail wait, and nothing worse."""
    noise = [b"", b"\0", b"\xff" * 12, b"\xc0\x0c" * 200, b"A" * 4000]
    domains = {f"b{n}.test": {"MX": [(10, "one.test")]} for n in range(len(noise))}
    w = world({**domains, "one.test": host(11)}, (11,))
    honest, left = w.dns.answer, dict(zip(domains, noise))

    def answer(packet):
        name = packet[13:13 + packet[12]].decode() + ".test"
        rubbish = left.get(name)
        if rubbish is not None and len([q for q in asked if q == name]) < 3:
            asked.append(name)
            return packet[:2] + rubbish
        return honest(packet)

    asked = []
    w.dns.answer = answer
    w.send(*domains)
    wait_until(lambda: len(w.sinks[11].recipients()) == len(noise), 40, "the mail")
    w.server.wait_queue_empty()
    assert len(asked) >= len(noise)
