"""Those who stand in front and say for whom they speak: PROXY headers, XCLIENT, XFORWARD."""
import socket
import struct
import subprocess

import pytest
from harness.check import received_field
from harness.client import Client, Closed, stuffed
from harness.load import program
from harness.server import wait_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BODY = "Subject: proxied\r\n\r\nHello.\r\n"


def v2(source="192.0.2.9", command=1, version=2, tlvs=b"", port=4000):
    if ":" in source:
        family, addresses = 0x21, socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "::1")
    else:
        family, addresses = 0x11, socket.inet_aton(source) + socket.inet_aton("127.0.0.1")
    content = addresses + struct.pack("!HH", port, 25) + tlvs
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", len(content)) + content


def v1(source="192.0.2.9"):
    return f"PROXY TCP{6 if ':' in source else 4} {source} {'::1' if ':' in source else '127.0.0.1'} 4000 25\r\n".encode()


HEADERS = {"v1": v1, "v2": v2}


@pytest.fixture
def behind(make_server, sink):
    def make(version, **changes):
        listener = {"proxy": version, "proxy_networks": ("127.0.0.1",), "relay_networks": ("192.0.2.0/24",), **changes}
        return make_server(sink, listeners=listener)
    return make


def client_of(server):
    return [event["client"] for event in server.wait_events(lambda e: e["event"] == "reception")]


@pytest.mark.parametrize("version", HEADERS)
def test_the_client_is_the_one_of_the_header(behind, sink, version):
    server = behind(version)
    with Client(server.port, before=HEADERS[version]()) as client:
        client.hello()
        client.message("a@a.test", "b@b.test", BODY)
    assert received_field(sink.wait(1)[0].content)[0]["peer"] == b"192.0.2.9"
    assert client_of(server) == ["192.0.2.9"]
    with Client(server.port, before=HEADERS[version]("198.51.100.1")) as client:
        client.hello()
        client.command("MAIL FROM:<a@a.test>")
        assert client.command("RCPT TO:<b@b.test>") == "550 5.7.1", "his own network decides, not the proxy's"


@pytest.mark.parametrize("version", HEADERS)
def test_ipv6(behind, sink, version):
    server = behind(version, relay_networks=("2001:db8::/32",))
    with Client(server.port, before=HEADERS[version]("2001:db8::7")) as client:
        client.hello()
        client.message("a@a.test", "b@b.test", BODY)
    assert received_field(sink.wait(1)[0].content)[0]["peer"] == b"IPv6:2001:db8::7"


@pytest.mark.parametrize("version", HEADERS)
def test_split_at_every_octet(behind, version):
    server = behind(version)
    header = HEADERS[version]()
    for cut in range(1, len(header)):
        client = Client(server.port, greeting=False, before=header[:cut])
        client.socket.settimeout(0.01)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(10)
        client.send(header[cut:])
        assert client.reply() == 220
        client.close()


@pytest.mark.parametrize("version", HEADERS)
def test_octet_by_octet_with_commands_behind(behind, sink, version):
    """What is glued to the header survives, however it comes."""
    server = behind(version)
    session = HEADERS[version]() + b"EHLO c\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n"
    with Client(server.port, greeting=False, before=session) as client:
        assert [client.reply().code for _ in range(5)] == [220, 250, 250, 250, 354]
        client.send(stuffed(BODY))
        assert client.reply() == 250
    with Client(server.port, greeting=False) as client:
        for octet in session:
            client.send(bytes([octet]))
        assert [client.reply().code for _ in range(5)] == [220, 250, 250, 250, 354]


BAD = {
    "nothing but SMTP": b"EHLO client.test\r\n",
    "the other version": None,
    "v1 endless": b"PROXY TCP4 " + b"1" * 200,
    "v1 words": b"PROXY TCP4 192.0.2.9 127.0.0.1 4000\r\n",
    "v1 address": b"PROXY TCP4 192.0.2.999 127.0.0.1 4000 25\r\n",
    "v1 port": b"PROXY TCP4 192.0.2.9 127.0.0.1 70000 25\r\n",
    "v1 family": b"PROXY TCP4 ::1 ::1 4000 25\r\n",
    "v1 bare line feed": b"PROXY TCP4 192.0.2.9 127.0.0.1 4000 25\n",
    "v2 version": v2(version=3),
    "v2 command": v2(command=2),
    "v2 short": SIGNATURE + b"\x21\x11\0\x04abcd",
    "v2 long": SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 2000,
    "v2 signature": v2().replace(b"QUIT", b"QUOT"),
    "no address": v2("0::0"),
    "TLS": b"\x16\x03\x01\x00\x05hello",
}


@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_anything_else_is_closed_without_a_word(behind, version, bad):
    server = behind(version)
    other = v2() if version == "v1" else v1()
    client = Client(server.port, greeting=False, before=bad if bad is not None else other)
    assert client.at_end(5)
    assert server.metric("proxy_errors_total") == 1
    rejection = server.wait_events(lambda e: e["event"] == "rejection")[0]
    assert (rejection["phase"], rejection["code"]) == ("proxy", 0)
    assert server.metric("sessions") == 0


def test_only_from_the_configured_networks(behind):
    server = behind("v2", proxy_networks=("127.0.0.2",))
    with pytest.raises((Closed, ConnectionError)):
        Client(server.port, before=v2())
    assert Client(server.port, source="127.0.0.2", before=v2()).greeting == 220


def test_no_header_no_guess(server):
    with Client(server.port) as client:
        client.send(v1())
        assert client.reply() == 500


def test_health_check_and_unknown(behind):
    server = behind("v2", relay_networks=("127.0.0.1",))
    for header in (v2(command=0), SIGNATURE + b"\x20\0\0\0", SIGNATURE + b"\x21\0\0\0",
                   v2(tlvs=b"\x04\0\x03abc")):
        assert Client(server.port, before=header).greeting == 220
    server = behind("v1")
    assert Client(server.port, before=b"PROXY UNKNOWN\r\n").greeting == 220


def test_half_a_header_meets_a_deadline(behind, make_server, sink):
    server = make_server(sink, listeners={"proxy": "v2", "proxy_networks": ("127.0.0.1",)},
                         tls={"handshake_timeout": "1s"})
    client = Client(server.port, greeting=False, before=v2()[:20])
    assert client.at_end(5)
    assert server.metric("sessions") == 0


def test_limit_of_the_real_client(behind):
    server = behind("v2", connections_per_address_max=2)
    first = [Client(server.port, before=v2()) for _ in range(2)]
    assert Client(server.port, before=v2()).greeting == 421
    assert Client(server.port, before=v2("192.0.2.10")).greeting == 220
    first[0].close()
    wait_until(lambda: Client(server.port, before=v2()).greeting == 220)


def test_swaks(behind, sink):
    server = behind("v2")
    words = [program("swaks"), "--server", f"127.0.0.1:{server.port}", "--from", "a@a.test", "--to", "b@b.test",
             "--proxy-version", "2", "--proxy-family", "AF_INET", "--proxy-source", "192.0.2.77", "--proxy-source-port",
             "4000", "--proxy-dest", "127.0.0.1", "--proxy-dest-port", "25"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout
    assert received_field(sink.wait(1)[0].content)[0]["peer"] == b"192.0.2.77"


# --- XCLIENT ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def spoken(make_server, sink):
    return make_server(sink, listeners={"xclient_networks": ("127.0.0.1",), "xforward_networks": ("127.0.0.3",),
                                        "relay_networks": ("192.0.2.0/24",)})


def test_xclient_makes_another_client(spoken, sink):
    with Client(spoken.port) as client:
        assert "XCLIENT" in client.extensions()
        client.command("MAIL FROM:<a@a.test>")
        assert client.command("RCPT TO:<b@b.test>") == 550
        assert client.command("XCLIENT ADDR=192.0.2.5") == 503, "not inside a transaction"
        client.command("RSET")
        assert client.command("XCLIENT ADDR=192.0.2.5 NAME=[UNAVAILABLE]") == 220
        assert client.command("MAIL FROM:<a@a.test>") == 503, "as after the greeting"
        assert "XCLIENT" not in client.extensions(), "this client may not"
        assert client.command("XCLIENT ADDR=192.0.2.6").code in (500, 502, 503, 550)
        client.message("a@a.test", "b@b.test", BODY)
    assert received_field(sink.wait(1)[0].content)[0]["peer"] == b"192.0.2.5"
    assert client_of(spoken) == ["192.0.2.5"]


@pytest.mark.parametrize("argument", ["", "ADDR", "ADDR=", "ADDR=192.0.2", "COLOUR=red", "ADDR=192.0.2.5 ADDR=192.0.2.5",
                                      "ADDR=IPV6:192.0.2.5", "NAME=a+0Ab", "HELO=" + "x" * 600])
def test_xclient_wrong_argument(spoken, argument):
    with Client(spoken.port) as client:
        client.hello()
        assert client.command(f"XCLIENT {argument}".rstrip()).code in (500, 501)
        assert client.command("MAIL FROM:<a@a.test>") == 250, "and nothing has changed"


def test_xclient_is_not_for_everybody(server, spoken):
    with Client(server.port) as client:
        assert "XCLIENT" not in client.extensions()
        assert client.command("XCLIENT ADDR=192.0.2.5").code in (500, 502, 550)
    with Client(spoken.port, source="127.0.0.2") as client:
        assert "XCLIENT" not in client.extensions()


def test_xclient_limits_count_for_the_new_client(make_server, sink):
    server = make_server(sink, listeners={"xclient_networks": ("127.0.0.1",), "connections_per_address_max": 2})
    others = []
    for _ in range(2):
        others.append(Client(server.port))
        others[-1].hello()
        assert others[-1].command("XCLIENT ADDR=192.0.2.5") == 220
    client = Client(server.port)
    client.hello()
    assert client.command("XCLIENT ADDR=192.0.2.5") == 421


def test_xclient_by_swaks(spoken, sink):
    words = [program("swaks"), "--server", f"127.0.0.1:{spoken.port}", "--from", "a@a.test", "--to", "b@b.test",
             "--xclient", "ADDR=192.0.2.55 NAME=x.example"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stdout
    assert received_field(sink.wait(1)[0].content)[0]["peer"] == b"192.0.2.55"


def test_xforward_is_for_the_trace_only(make_server, sink):
    server = make_server(sink, listeners={"xforward_networks": ("127.0.0.1",), "relay_networks": ("127.0.0.1",)})
    with Client(server.port) as client:
        assert "XFORWARD" in client.extensions()
        assert client.command("XFORWARD ADDR=203.0.113.9 HELO=origin.example NAME=origin.example") == 250
        client.message("a@a.test", "b@b.test", BODY)
        client.message("a@a.test", "c@b.test", BODY)
        client.command("XFORWARD HELO=a+20b+0D+0Ax ADDR=[UNAVAILABLE]")
        client.message("a@a.test", "d@b.test", BODY)
    fields = {m.recipients[0]: received_field(m.content)[0] for m in sink.wait(3)}
    assert (fields["b@b.test"]["peer"], fields["b@b.test"]["helo"]) == (b"203.0.113.9", b"origin.example")
    assert (fields["c@b.test"]["peer"], fields["c@b.test"]["helo"]) == (b"127.0.0.1", b"client.test"), "one transaction"
    assert (fields["d@b.test"]["peer"], fields["d@b.test"]["helo"]) == (b"127.0.0.1", b"client.test")


def test_eof_inside_a_header_costs_nothing(behind):
    server = behind("v2")
    client = Client(server.port, greeting=False, before=v2()[:10])
    client.socket.shutdown(socket.SHUT_WR)
    with pytest.raises(Closed):
        client.line()
    wait_until(lambda: server.metric("sessions") == 0)
