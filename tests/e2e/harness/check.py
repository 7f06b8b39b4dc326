"""Comparisons that several tests make."""
import re

RECEIVED = re.compile(
    rb"Received: from (?P<helo>\S+)(?: \(\[(?P<peer>[^\]]+)\]\))?\r\n"
    rb"(?:\t\(using (?P<tls>TLSv1\.[23]) with cipher (?P<cipher>\w+) \((?P<bits>\d+) bits\)\)\r\n)?"
    rb"\tby (?P<host>\S+) with (?P<protocol>\S+) id (?P<id>[0-9a-zA-Z]+)"
    rb"(?:\r\n\tfor <(?P<recipient>[^>]+)>)?(?:\r\n\tPRIORITY (?P<priority>-?\d))?;\r\n"
    rb"\t[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n")


def received_field(content):
    """The Received field that the server put in front, which is all that it may add; and what follows it."""
    match = RECEIVED.match(content)
    assert match, content[:400]
    return match, content[match.end():]


def assert_relayed(message, sender, recipients, content):
    """Envelope and bytes as they were given to the server, one Received field in front."""
    if isinstance(content, str):
        content = content.encode()
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    assert message.sender == sender
    assert sorted(message.recipients) == sorted(recipients)
    field, rest = received_field(message.content)
    assert rest == content
    return field
