"""A sender on a raw socket: it says exactly what it is told to, in the pieces it is told to."""
import re
import socket
import time

TIMEOUT = 15


class Closed(ConnectionError):
    """The server ended the connection where a reply was expected."""


class Reply:
    def __init__(self, lines):
        self.lines = lines
        self.code = int(lines[0][:3])
        self.text = "\n".join(line[4:] for line in lines)
        match = re.match(r"\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})\b", lines[-1])
        self.status = match.group(1) if match else None

    def __repr__(self):
        return " | ".join(self.lines)

    def __eq__(self, other):
        """Compares with a code, or with "code status"."""
        if isinstance(other, int):
            return self.code == other
        return isinstance(other, str) and f"{self.code} {self.status or ''}".strip() == other

    __hash__ = None


class Client:
    """`before` is sent first of all; `tls`, an ssl.SSLContext, makes the connection secure before the greeting. `port` may
    be the path of a unix socket."""

    def __init__(self, port, address="127.0.0.1", source=None, timeout=TIMEOUT, greeting=True, before=b"", tls=None,
                 name="mx.ringpost.test"):
        if isinstance(port, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(port)
        else:
            self.socket = socket.create_connection((address, port), timeout, (source, 0) if source else None)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if before:
            self.send(before)
        if tls:
            self.secure(tls, name)
        self.greeting = self.reply() if greeting else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes with a reset instead of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def line(self):
        while b"\r\n" not in self.buffer:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(f"the server closed; before: {self.buffer!r}")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        assert b"\n" not in line and b"\r" not in line, line
        return line.decode("ascii")

    def reply(self):
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
            assert lines[-1][:3] == lines[0][:3], lines
        assert all(re.match(r"[2-5]\d\d([ -]|$)", line) for line in lines), lines
        return Reply(lines)

    def command(self, line):
        self.send(line + "\r\n")
        return self.reply()

    def secure(self, context, name="mx.ringpost.test"):
        assert self.buffer == b""
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def start_tls(self, context, name="mx.ringpost.test"):
        """STARTTLS, handshake, EHLO."""
        assert self.command("STARTTLS") == "220 2.0.0"
        self.secure(context, name)
        return self.hello()

    def extensions(self, name="client.test"):
        """What EHLO announces: {keyword: rest of the line}."""
        lines = self.hello(name).lines[1:]
        return {line[4:].partition(" ")[0]: line[4:].partition(" ")[2] for line in lines}

    def hello(self, name="client.test"):
        reply = self.command(f"EHLO {name}")
        assert reply.code == 250, reply
        return reply

    def envelope(self, sender, recipients, parameters=""):
        """Up to 354; every recipient must be accepted."""
        reply = self.command(f"MAIL FROM:<{sender}>{parameters}")
        assert reply.code == 250, reply
        for recipient in recipients:
            reply = self.command(f"RCPT TO:<{recipient}>")
            assert reply.code == 250, reply
        reply = self.command("DATA")
        assert reply.code == 354, reply

    def message(self, sender, recipients, content, parameters="", code=250):
        """One command at a time; `content` is the message as its author wrote it, with CRLF."""
        if isinstance(recipients, str):
            recipients = [recipients]
        self.envelope(sender, recipients, parameters)
        self.send(stuffed(content))
        reply = self.reply()
        assert code is None or reply.code == code, reply
        return reply

    def at_end(self, seconds=TIMEOUT):
        """True when the server closes without saying more."""
        self.socket.settimeout(seconds)
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def stuffed(content):
    """As on the wire: dots doubled, ended by the final dot."""
    if isinstance(content, str):
        content = content.encode()
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def send(port, sender, recipients, content, **options):
    """One message on a connection of its own; the reply to its final dot."""
    with Client(port) as client:
        client.hello()
        reply = client.message(sender, recipients, content, **options)
        client.send("QUIT\r\n")
    return reply


def pipelined(sender, recipients, content):
    """Two pieces: the command group and the body; a sender may put the next group right behind the body."""
    head = f"MAIL FROM:<{sender}>\r\n" + "".join(f"RCPT TO:<{r}>\r\n" for r in recipients) + "DATA\r\n"
    return head.encode(), stuffed(content)


def trickle(client, data, delay):
    for octet in data:
        client.send(bytes([octet]))
        time.sleep(delay)
