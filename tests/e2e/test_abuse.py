"""Limits that stand between a stranger and the machine: rates, delays, memory, descriptors."""
import signal
import time

from harness.client import Client, Closed, send
from harness.server import wait_until

BODY = "Subject: abuse\r\n\r\nbody\r\n"
HOUR = "/1h"


def rates(**scopes):
    return {"rates": {scope: {kind: f"{count}{HOUR}" for kind, count in kinds.items()} for scope, kinds in scopes.items()}}


def reload(server, **changes):
    before = server.log().count("configuration reloaded")
    server.write_config(**changes)
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: server.log().count("configuration reloaded") > before, 10, "the reload")


def greeting(server, source=None):
    with Client(server.port, source=source) as client:
        return client.greeting


def test_connections_of_an_address(make_server, sink):
    server = make_server(sink, listeners=rates(address={"connections": 3}))
    assert [greeting(server).code for _ in range(3)] == [220] * 3
    refused = greeting(server)
    assert refused == "421 4.7.0" and "address" in refused.text
    assert greeting(server, "127.0.0.2").code == 220, "another address is not affected"
    assert server.metric("rate_refusals_total") == 1 and server.metric("connections_refused_total") == 1


def test_connections_of_a_network(make_server, sink):
    server = make_server(sink, listeners=rates(network={"connections": 3}))
    assert [greeting(server, f"127.0.0.{n}").code for n in (1, 2, 3)] == [220] * 3
    refused = greeting(server, "127.0.0.4")
    assert refused == "421 4.7.0" and "network" in refused.text
    assert greeting(server, "127.0.1.1").code == 220, "another network is not affected"


def test_messages_and_recipients(make_server, sink):
    server = make_server(sink, listeners=rates(address={"messages": 2, "recipients": 5}))
    with Client(server.port) as client:
        client.command("EHLO rates.test")
        for _ in range(2):
            assert client.command("MAIL FROM:<a@a.test>") == 250
            assert client.command("RCPT TO:<b@b.test>") == 250
            assert client.command("RSET") == 250
        refused = client.command("MAIL FROM:<a@a.test>")
        assert refused == "450 4.7.1" and "address" in refused.text
        assert client.command("RCPT TO:<b@b.test>") == 503, "there is no transaction"
    with Client(server.port, source="127.0.0.2") as client:
        client.command("EHLO rates.test")
        client.command("MAIL FROM:<a@a.test>")
        replies = [client.command(f"RCPT TO:<b{n}@b.test>").code for n in range(7)]
        assert replies == [250] * 5 + [450] * 2, "those that were accepted stay"
        assert client.command("DATA") == 354
        assert client.command(BODY + ".") == 250
    assert len(sink.wait(1)[0].recipients) == 5


def test_bytes_are_paid_before_the_next_message(make_server, sink):
    server = make_server(sink, listeners=rates(listener={"bytes": 100000}))
    send(server.port, "a@a.test", ["b@b.test"], "Subject: x\r\n\r\n" + "0123456789\r\n" * 10000)
    with Client(server.port, source="127.0.0.3") as client:
        client.command("EHLO rates.test")
        refused = client.command("MAIL FROM:<a@a.test>")
        assert refused == "450 4.3.2", "of the whole listener: other addresses too"


def test_errors_close_and_keep_out(make_server, sink):
    server = make_server(sink, listeners={**rates(address={"errors": 4}), "error_delay": "0s"})
    with Client(server.port) as client:
        codes = [client.command("NONSENSE").code for _ in range(4)]
        assert codes == [500] * 4 or codes == [500] * 3 + [421]
        if codes[-1] == 500:
            try:
                assert client.command("NONSENSE").code in (421, 500)
                assert client.reply().code == 421
            except Closed:
                pass
    assert greeting(server) == "421 4.7.0"
    assert greeting(server, "127.0.0.2").code == 220


def test_a_client_that_speaks_first_is_refused(make_server, sink):
    server = make_server(sink, listeners={"greet_pause": "1s"})
    began = time.monotonic()
    with Client(server.port) as client:
        assert client.greeting == 220
        assert 0.9 < time.monotonic() - began < 20
        assert client.command("EHLO patient.test") == 250
    with Client(server.port, greeting=False) as client:
        client.send("EHLO robot.test\r\n")
        assert client.reply().code == 554
    assert server.metric("early_talkers_total") == 1


def test_errors_cost_time(make_server, sink):
    server = make_server(sink, listeners={"error_delay": "2s", "error_delay_after": 2})
    with Client(server.port) as client:
        client.command("EHLO guess.test")
        times = []
        for _ in range(4):
            began = time.monotonic()
            assert client.command("VRFY") == 501
            times.append(time.monotonic() - began)
    assert times[0] < 1.5 and all(1.9 < each < 20 for each in times[2:]), times
    assert send(server.port, "a@a.test", ["b@b.test"], BODY), "others are not held up"


def test_guessing_recipients_costs_time(make_server, sink):
    server = make_server(sink, listeners={"relay_networks": (), "error_delay": "2s", "error_delay_after": 2,
                                          **rates(address={"errors": 4})})
    with Client(server.port) as client:
        client.command("EHLO guess.test")
        client.command("MAIL FROM:<a@a.test>")
        times = []
        for _ in range(3):
            began = time.monotonic()
            assert client.command("RCPT TO:<nobody@elsewhere.test>") == "550 5.7.1"
            times.append(time.monotonic() - began)
    assert times[0] < 1.5 and all(1.9 < each < 20 for each in times[1:]), times


def test_no_mail_when_memory_is_short(make_server, sink):
    server = make_server(sink)
    send(server.port, "a@a.test", ["before@b.test"], BODY)
    assert server.get("/readyz")[0] == 200
    reload(server, limits={"memory_reserve": "64G"})
    with Client(server.port) as client:
        client.command("EHLO memory.test")
        assert client.command("MAIL FROM:<a@a.test>") == "452 4.3.1"
    status, text = server.get("/readyz")
    assert status == 503 and "memory" in text
    assert server.metric("memory_refusals_total") == 1
    reload(server, limits={"memory_reserve": "1K"})
    send(server.port, "a@a.test", ["after@b.test"], BODY)
    assert server.get("/readyz")[0] == 200
    assert "memory is short" in server.log()


def test_clients_cannot_use_up_the_descriptors(make_server, sink):
    """With few descriptors clients get a quarter of them, and mail still flows and is stored."""
    server = make_server(sink, start=False)
    server.start(limit_files=400)
    assert "fewer connections than limits.connections_max" in server.log()
    clients = []
    try:
        for _ in range(150):
            client = Client(server.port, greeting=False)
            clients.append(client)
            try:
                if client.reply().code == 421:
                    break
            except Closed:
                break
        assert 80 <= len(clients) <= 110, len(clients)
        clients[0].command("EHLO held.test")
        clients[0].command("MAIL FROM:<a@a.test>")
        clients[0].command("RCPT TO:<b@b.test>")
        assert clients[0].command("DATA") == 354
        assert clients[0].command(BODY + ".") == 250
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: server.metric("sessions") == 0, 10, "sessions to end")
    sink.wait(1)
