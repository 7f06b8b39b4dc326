"""What came by an extension leaves by it, where the remote host has it; and what becomes of it where it does not."""
import email
import email.policy
import os
import re

import pytest
from harness.certificates import Authority
from harness.check import received_field
from harness.client import Client
from test_foreign import Postfix, postfix_directory  # noqa: F401 (a fixture)

HEAD = "Subject: extended\r\n"
BODY = HEAD + "\r\nbody\r\n"
ALL = ["PIPELINING", "8BITMIME", "SIZE 0", "CHUNKING", "BINARYMIME", "SMTPUTF8", "DSN", "AUTH PLAIN", "MT-PRIORITY", "DELIVERBY 10"]
BINARY = (b"Subject: binary\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
          b"Content-Transfer-Encoding: binary\r\n\r\n")


@pytest.fixture
def rich(make_sink):
    """A sink that has everything."""
    return make_sink(extensions=ALL)


@pytest.fixture
def home(make_sink):
    """Where notifications arrive."""
    return make_sink(extensions=["PIPELINING", "8BITMIME", "SMTPUTF8"])


@pytest.fixture
def serve(make_server, home):
    def start(sink, **changes):
        return make_server(routes=({"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": sink.endpoint}),
                           **changes)
    return start


def transaction(server, mail, recipients, body=BODY, client=None):
    """MAIL with parameters, each RCPT with its own, DATA."""
    own = client is None
    client = client or Client(server.port)
    if own:
        client.hello()
    for line in (f"MAIL FROM:{mail}", *(f"RCPT TO:{recipient}" for recipient in recipients)):
        client.send((line + "\r\n").encode())
        reply = client.reply()
        assert reply.code == 250, (line, reply)
    assert client.command("DATA") == 354
    client.send(body.encode() + b".\r\n")
    assert client.reply() == 250
    if own:
        client.close()


def chunked(server, chunks, mail="<a@a.test> BODY=BINARYMIME", recipients=("<b@b.test>",)):
    with Client(server.port) as client:
        client.hello()
        for line in (f"MAIL FROM:{mail}", *(f"RCPT TO:{recipient}" for recipient in recipients)):
            assert client.command(line) == 250
        for number, chunk in enumerate(chunks):
            client.send(f"BDAT {len(chunk)}{' LAST' if number == len(chunks) - 1 else ''}\r\n".encode() + chunk)
            assert client.reply() == 250


def words(parameters):
    return dict(word.partition("=")[::2] for word in parameters.split())


# --- DSN ----------------------------------------------------------------------------------------------------------------

def test_dsn_is_passed_on_octet_for_octet(serve, rich):
    server = serve(rich)
    transaction(server, "<a@a.test> RET=HDRS ENVID=Qx+2B314+3D159",
                ["<b@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+40old.Example", "<c@b.test> NOTIFY=NEVER", "<d@b.test>",
                 "<e+x@b.test> NOTIFY=FAILURE"])
    message = rich.wait(1)[0]
    mail = words(message.mail_parameters)
    assert mail["RET"] == "HDRS" and mail["ENVID"] == "Qx+2B314+3D159"
    assert message.rcpt_parameters["b@b.test"] == "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+40old.Example"
    assert message.rcpt_parameters["c@b.test"] == "NOTIFY=NEVER"
    assert message.rcpt_parameters["d@b.test"] == ""
    assert message.rcpt_parameters["e+x@b.test"] == "NOTIFY=FAILURE ORCPT=rfc822;e+2Bx@b.test"


def test_dsn_survives_a_crash_and_a_retry(serve, rich):
    rich.on("RCPT", "450 4.2.0 later", times=1)
    server = serve(rich, retry={"schedule": ("3s",), "jitter_percent": 0})
    transaction(server, "<a@a.test> RET=FULL ENVID=x", ["<b@b.test> NOTIFY=FAILURE ORCPT=rfc822;z@z"])
    server.wait_events(lambda e: e["event"] == "deferral")
    server.kill()
    server.start()
    message = rich.wait(1)[0]
    assert words(message.mail_parameters)["ENVID"] == "x"
    assert message.rcpt_parameters["b@b.test"] == "NOTIFY=FAILURE ORCPT=rfc822;z@z"


def test_a_host_without_dsn_is_told_nothing(serve, make_sink):
    plain = make_sink()
    server = serve(plain)
    transaction(server, "<a@a.test> RET=HDRS ENVID=x", ["<b@b.test> NOTIFY=FAILURE ORCPT=rfc822;b@b"])
    message = plain.wait(1)[0]
    assert set(words(message.mail_parameters)) == {"SIZE"} and message.rcpt_parameters["b@b.test"] == ""


# --- other parameters -----------------------------------------------------------------------------------------------------

def test_priority_and_deliver_by_are_passed_on(serve, rich):
    server = serve(rich)
    transaction(server, "<a@a.test> MT-PRIORITY=-3 BY=3600;NT", ["<b@b.test>"])
    mail = words(rich.wait(1)[0].mail_parameters)
    assert mail["MT-PRIORITY"] == "-3"
    assert re.fullmatch(r"35[0-9]\d;NT|3600;NT", mail["BY"]), mail


@pytest.mark.parametrize("announced", [None, "DELIVERBY 7200"])
def test_what_must_be_in_time_goes_only_to_who_promises(serve, make_sink, home, announced):
    """RFC 2852 4.1.4.1: not announced, or with a longer minimum than what is left."""
    sink = make_sink(extensions=["PIPELINING"] + ([announced] if announced else []))
    server = serve(sink)
    transaction(server, "<a@a.test> BY=3600;R", ["<b@b.test>"])
    assert b"5.4.7" in home.wait(1)[0].content and sink.seen == []


# --- SMTPUTF8 ---------------------------------------------------------------------------------------------------------------

def test_internationalised_mail(serve, rich):
    server = serve(rich)
    transaction(server, "<jörg@a.test> SMTPUTF8 BODY=8BITMIME", ["<пётр@b.test>"], "Subject: grüße\r\n\r\nfüße\r\n")
    message = rich.wait(1)[0]
    assert message.sender == "jörg@a.test" and message.recipients == ["пётр@b.test"]
    assert {"SMTPUTF8", "BODY"} <= set(words(message.mail_parameters))
    assert "Subject: grüße\r\n\r\nfüße\r\n".encode() in message.content


def test_internationalised_mail_is_never_downgraded(serve, make_sink, home):
    """RFC 6531 3.2: 5.6.7."""
    sink = make_sink()
    server = serve(sink)
    transaction(server, "<a@a.test> SMTPUTF8 BODY=8BITMIME", ["<пётр@b.test>"])
    assert b"5.6.7" in home.wait(1)[0].content and sink.seen == []


def test_utf8_that_was_asked_for_and_not_needed_goes_anywhere(serve, make_sink):
    sink = make_sink(extensions=["PIPELINING"])
    server = serve(sink)
    transaction(server, "<a@a.test> SMTPUTF8", ["<b@b.test>"])
    assert sink.wait(1)[0].mail_parameters == ""


# --- binary bodies ------------------------------------------------------------------------------------------------------------

BODIES = {
    "all octets": bytes(range(256)) * 20,
    "no end of line": b"no end",
    "dots": b".\r\n..\r\n.\r\n\r\n.\r\n",
    "a dot at the end": b"x\r\n.",
    "only CR and LF": b"\r\r\n\n\r",
    "large": os.urandom(1 << 20) + b"\r\n.\r\n" * 1000,
    "larger than a block": (b"\r\n." + b"x" * 100) * 5000,
    "empty": b"",
}


@pytest.mark.parametrize("body", BODIES)
def test_binary_goes_by_bdat_as_it_came(serve, rich, body):
    server = serve(rich)
    chunked(server, [BINARY + BODIES[body]])
    message = rich.wait(1)[0]
    assert message.chunked and words(message.mail_parameters)["BODY"] == "BINARYMIME"
    assert received_field(message.content)[1] == BINARY + BODIES[body]


def test_binary_in_many_chunks_and_turns(serve, rich):
    """Several messages on one connection, in chunks that cut everywhere."""
    server = serve(rich, shards={"count": 1}, delivery={"connections_per_destination_max": 1})
    for number in range(20):
        body = BINARY + b".%d\r\n.\r\n" % number
        chunked(server, [body[at:at + 7] for at in range(0, len(body), 7)])
        transaction(server, "<a@a.test>", ["<c@b.test>"])
    messages = rich.wait(40)
    binary = [received_field(m.content)[1][len(BINARY):] for m in messages if m.chunked]
    assert sorted(binary) == sorted(b".%d\r\n.\r\n" % number for number in range(20))
    assert [received_field(m.content)[1] for m in messages if not m.chunked] == [BODY.encode()] * 20


def test_text_that_came_by_bdat_goes_by_data(serve, rich):
    server = serve(rich)
    chunked(server, [b"Subject: x\r\n\r\n.dot\r\n", b"no end"], mail="<a@a.test>")
    message = rich.wait(1)[0]
    assert not message.chunked
    assert received_field(message.content)[1] == b"Subject: x\r\n\r\n.dot\r\nno end\r\n"


@pytest.mark.parametrize("extensions", [["PIPELINING", "8BITMIME"], ["CHUNKING", "8BITMIME"], ["BINARYMIME"], []])
def test_binary_is_converted_where_it_cannot_go(serve, make_sink, extensions):
    sink = make_sink(extensions=extensions)
    server = serve(sink)
    body = bytes(range(256)) * 50
    chunked(server, [BINARY + body])
    message = sink.wait(1)[0]
    assert not message.chunked and "BINARYMIME" not in message.mail_parameters
    assert max(message.wire) < 128 and b"\0" not in message.wire
    got = email.message_from_bytes(received_field(message.content)[1], policy=email.policy.default)
    assert got.get_content() == body


def test_binary_that_cannot_be_converted_bounces(serve, make_sink, home):
    """8-bit octets in a header that is not MIME: 5.6.3."""
    sink = make_sink()
    server = serve(sink)
    chunked(server, [b"Subject: \xff\0\r\n\r\nbody"])
    assert b"5.6.3" in home.wait(1)[0].content and sink.seen == []


def test_a_refused_chunk_is_the_message_s_end(serve, rich, home):
    rich.on(".", "554 5.6.1 not that", times=1)
    server = serve(rich)
    chunked(server, [BINARY + b"\0"])
    assert b"5.6.1" in home.wait(1)[0].content
    chunked(server, [BINARY + b"\1"])
    assert received_field(rich.wait(1)[0].content)[1] == BINARY + b"\1"


# --- REQUIRETLS -------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def authority(tmp_path):
    return Authority(str(tmp_path))


@pytest.fixture
def serve_tls(make_server, home, authority):
    """A server that takes REQUIRETLS, because it has TLS."""
    def start(**route):
        return make_server(tls={"certificates": (authority.issue("mx.ringpost.test").item(),)},
                           routes=({"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", **route}))
    return start


def require_tls(server, authority):
    with Client(server.port) as client:
        client.hello()
        client.start_tls(authority.context())
        transaction(server, "<a@a.test> REQUIRETLS", ["<b@b.test>"], client=client)


def test_requiretls_goes_to_who_is_verified_and_has_it(serve_tls, make_sink, authority):
    sink = make_sink(tls=authority.issue("sink.test"), secret=["REQUIRETLS"])
    server = serve_tls(next_hop=sink.endpoint, tls="verify", tls_name="sink.test", tls_ca=authority.file)
    require_tls(server, authority)
    assert "REQUIRETLS" in sink.wait(1)[0].mail_parameters


@pytest.mark.parametrize("case, status", [("not offered", b"5.7.30"), ("not verified", b"5.7.10"), ("no TLS", b"5.7.10"),
                                          ("offered in the clear", b"5.7.10")])
def test_requiretls_goes_nowhere_else(serve_tls, make_sink, authority, home, case, status):
    """RFC 8689 4.2.1."""
    certificate = authority.issue("sink.test") if case in ("not offered", "not verified") else None
    sink = make_sink(tls=certificate, secret=["REQUIRETLS"] if case == "not verified" else [],
                     extensions=["PIPELINING"] + (["REQUIRETLS"] if case == "offered in the clear" else []))
    strict = {"tls": "verify", "tls_name": "sink.test", "tls_ca": authority.file} if case == "not offered" else {}
    server = serve_tls(next_hop=sink.endpoint, **strict)
    require_tls(server, authority)
    assert status in home.wait(1)[0].content
    assert sink.seen == []


def test_requiretls_waits_for_a_session_of_ours(make_server, make_sink, home, authority):
    """That we have as many TLS sessions as we may is not the host's fault, nor for ever."""
    sink = make_sink(tls=authority.issue("sink.test"), secret=["REQUIRETLS"])
    server = make_server(tls={"certificates": (authority.issue("mx.ringpost.test").item(),), "sessions_max": 1},
                         routes=({"domain": "a.test", "next_hop": home.endpoint}, {"domain": "*", "next_hop": sink.endpoint}))
    with Client(server.port) as client:
        client.hello()
        client.start_tls(authority.context())
        transaction(server, "<a@a.test> REQUIRETLS", ["<b@b.test>"], client=client)
        event = server.wait_events(lambda e: e["event"] in ("deferral", "bounce"))[0]
        assert event["event"] == "deferral" and event["status"] == "4.3.2"
    assert home.seen == [] and sink.seen == []


# --- real receivers -----------------------------------------------------------------------------------------------------------------

def test_postfix_takes_it_all(make_server, make_sink, postfix_directory, authority):
    """DSN, SMTPUTF8 and 8-bit text to Postfix through verified TLS, and from there to a sink that has them too."""
    certificate = authority.issue("postfix.test")
    os.chmod(authority.directory, 0o755)
    behind = make_sink(extensions=ALL)
    with Postfix(os.path.join(postfix_directory, "behind"), behind.port, smtpd_tls_cert_file=certificate.certificate,
                 smtpd_tls_key_file=certificate.key, smtpd_tls_security_level="encrypt", smtputf8_enable="yes",
                 smtp_destination_concurrency_limit="1") as postfix:
        server = make_server(routes=({"domain": "*", "next_hop": f"127.0.0.1:{postfix.port}", "tls": "verify",
                                      "tls_name": "postfix.test", "tls_ca": authority.file},))
        transaction(server, "<a@a.test> RET=HDRS ENVID=Q+2B1", ["<b@b.test> NOTIFY=DELAY,FAILURE ORCPT=rfc822;x@y"])
        transaction(server, "<jörg@a.test> SMTPUTF8 BODY=8BITMIME", ["<пётр@b.test>"], "Subject: grüße\r\n\r\nfüße\r\n")
        for number in range(50):
            transaction(server, "<a@a.test>", [f"<c{number}@b.test>"], HEAD + "\r\n..\r\n.x\r\n")
        messages = behind.wait(52, 40)
        first = next(m for m in messages if m.recipients == ["b@b.test"])
        assert words(first.mail_parameters)["ENVID"] == "Q+2B1"
        assert set(words(first.rcpt_parameters["b@b.test"])["NOTIFY"].split(",")) == {"DELAY", "FAILURE"}
        assert words(first.rcpt_parameters["b@b.test"])["ORCPT"] == "rfc822;x@y"
        assert any(m.sender == "jörg@a.test" and m.recipients == ["пётр@b.test"] for m in messages)
        events = server.wait_events(lambda e: e["event"] == "delivery", 52)
        assert all(event["tls"].endswith(" verified") for event in events)


def test_ringpost_to_ringpost(make_server, rich):
    """Every octet, by BDAT twice."""
    behind = make_server(rich)
    server = make_server(routes=({"domain": "*", "next_hop": f"127.0.0.1:{behind.port}"},))
    for body in BODIES.values():
        chunked(server, [BINARY + body])
    got = [received_field(received_field(message.content)[1])[1] for message in rich.wait(len(BODIES))]
    assert sorted(got) == sorted(BINARY + body for body in BODIES.values())
    assert all(message.chunked for message in rich.messages)
