"""A receiver that keeps every byte and can be told to misbehave at any point.

A fault is what it does instead of, or before, its usual reply at a phase:

    sink.on("RCPT", "550 5.1.1 no such user", match="bad@")     another reply
    sink.on("DATA", Close())                                    closes without a reply
    sink.on(".", Close("421 4.3.2 going down"), times=1)        replies, then closes; only once
    sink.on("MAIL", Stall(3))                                   waits, then replies as usual
    sink.on("BODY", Close(), after=1000)                        when so many bytes of the body have come

Phases: CONNECT (the greeting), EHLO (LHLO too), HELO, STARTTLS, TLS (instead of the handshake), MAIL, RCPT, DATA, BDAT (before
the chunk is read), BODY, "." (the body is complete), RSET, QUIT. `match` is looked for in the command line; from DATA on in
"<sender> to <recipient> <recipient>, N bytes", and at the "." of LMTP in the recipient.
With `tls`, a certificate (certificates.py), STARTTLS is offered in the clear; `secret` are extensions that are only offered inside.
With `lmtp` it is a mail store, at a socket `path` if there is one: each recipient has a "." of its own.
A message counts as received (`sink.messages`) only if its final dot was answered with 2yz; `sink.seen` has all whose final
dot came. smtp-sink, in contrast, writes LF line ends and hides CR.
"""
import os
import socket
import ssl
import struct
import threading
import time

from .server import free_port, wait_until


class Close:
    def __init__(self, reply=None, reset=False):
        self.reply, self.reset = reply, reset


class Stall:
    """`seconds` may be changed meanwhile."""

    def __init__(self, seconds, then=None):
        self.seconds, self.then = seconds, then


class Raw:
    """Bytes as they are, in place of a reply."""

    def __init__(self, data):
        self.data = data


class Gone(Exception):
    pass


class Message:
    def __init__(self, session, sender, mail_parameters):
        self.session, self.sender, self.mail_parameters = session, sender, mail_parameters
        self.recipients, self.refused, self.rcpt_parameters = [], [], {}
        self.chunked = False
        self.wire = b""
        self.time = 0.0

    @property
    def content(self):
        """Without dot-stuffing and final dot."""
        if self.chunked:
            return self.wire
        body = self.wire[:-3]
        if body.startswith(b"."):
            body = body[1:]
        return body.replace(b"\r\n..", b"\r\n.")

    def __repr__(self):
        return f"<{self.sender}> to {' '.join(f'<{r}>' for r in self.recipients)}, {len(self.wire)} bytes"


class Fault:
    def __init__(self, phase, action, match, times, after):
        self.phase, self.action, self.match, self.times, self.after = phase, action, match, times, after


class Sink:
    def __init__(self, address="127.0.0.1", port=None, extensions=("PIPELINING", "8BITMIME", "SIZE 0"), name="sink.test",
                 tls=None, secret=(), lmtp=False, path=None):
        self.extensions, self.name, self.secret, self.lmtp, self.path = list(extensions), name, list(secret), lmtp, path
        self.address, self.port = address, port or (None if path else free_port(address))
        self.tls = None
        if tls:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(tls.certificate, tls.key)
        self.lock = threading.Lock()
        self.faults, self.messages, self.seen, self.sessions = [], [], [], []
        self.listener = None
        self.open()

    @property
    def endpoint(self):
        if self.path:
            return f"lmtp:unix:{self.path}"
        return self.host_and_port if not self.lmtp else "lmtp:" + self.host_and_port

    @property
    def host_and_port(self):
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def open(self):
        if self.path:
            if os.path.exists(self.path):
                os.unlink(self.path)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.path)
        else:
            self.listener = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((self.address, self.port))
        self.listener.listen(1000)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def close(self):
        """No new connections, and the open ones are reset."""
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for session in list(self.sessions):
            session.end(reset=True)

    def on(self, phase, action, match=None, times=None, after=0):
        with self.lock:
            self.faults.append(Fault(phase, action, match, times, after))
        return self

    def heal(self):
        with self.lock:
            self.faults.clear()

    def wait(self, count, seconds=20):
        """The messages, once there are so many; more than that is for the caller to see."""
        wait_until(lambda: len(self.messages) >= count, seconds,
                   lambda: f"{count} messages at the sink; it has {len(self.messages)}: {self.messages[-5:]}; "
                           f"last session: {self.sessions[-1].commands if self.sessions else None}")
        return list(self.messages)

    def recipients(self):
        """Every recipient of every received message, as often as received."""
        with self.lock:
            return [recipient for message in self.messages for recipient in message.recipients]

    def find_fault(self, phase, text, size=0):
        with self.lock:
            for fault in self.faults:
                if fault.phase == phase and fault.times != 0 and size >= fault.after and \
                        (fault.match is None or fault.match in text):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault.action
        return None

    def next_body_fault(self):
        with self.lock:
            return any(fault.phase == "BODY" and fault.times != 0 for fault in self.faults)

    def _accept(self, listener):
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            session = Session(self, connection, peer)
            with self.lock:
                self.sessions.append(session)
            threading.Thread(target=session.run, daemon=True).start()


class Session:
    """One connection: its commands as they came, and whether it ended with QUIT."""

    def __init__(self, sink, connection, peer):
        self.sink, self.connection, self.peer = sink, connection, peer
        self.buffer, self.commands, self.message = b"", [], None
        self.closed = False
        self.cipher, self.server_name = None, None  # once TLS is on
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self):
        try:
            self.answer("CONNECT", "", f"220 {self.sink.name} ESMTP sink")
            while self.command(self.line()):
                pass
        except (Gone, OSError, ssl.SSLError):
            pass
        finally:
            self.end()

    def end(self, reset=False):
        if self.closed:
            return
        self.closed = True
        try:
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.connection.close()

    def read(self):
        data = self.connection.recv(262144)
        if not data:
            raise Gone
        return data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.buffer += self.read()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("utf-8", "surrogateescape")

    def say(self, text):
        self.connection.sendall(text.encode() + b"\r\n")

    def fault(self, phase, text, size=0):
        """None, or the reply that stands in for the usual one."""
        action = self.sink.find_fault(phase, text, size)
        if isinstance(action, Stall):
            begin = time.monotonic()
            while time.monotonic() < begin + action.seconds and not self.closed:
                time.sleep(0.02)
            action = action.then
        if isinstance(action, Close):
            if action.reply:
                self.say(action.reply)
            if not action.reset:
                time.sleep(0.01)
            self.end(action.reset)
            raise Gone
        return action

    def answer(self, phase, text, usual):
        """Replies; returns the first digit of the reply."""
        reply = self.fault(phase, text) or usual
        if isinstance(reply, Raw):
            self.connection.sendall(reply.data)
            return reply.data[:1].decode("latin-1")
        self.say(reply)
        return reply[0]

    def command(self, line):
        self.commands.append(line)
        verb = line.split(" ")[0].split(":")[0].upper()
        handler = getattr(self, "do_" + verb.lower(), None)
        if handler is None:
            self.say("500 5.5.2 unknown")
            return True
        return handler(line)

    def do_ehlo(self, line):
        if self.sink.lmtp:
            self.say("500 5.5.1 LHLO, please")
            return True
        return self.hello(line)

    def do_lhlo(self, line):
        if not self.sink.lmtp:
            self.say("500 5.5.1 EHLO, please")
            return True
        return self.hello(line)

    def hello(self, line):
        self.message = None
        words = [self.sink.name, *self.sink.extensions]
        if self.cipher:
            words += self.sink.secret
        elif self.sink.tls:
            words.append("STARTTLS")
        usual = "\r\n".join(f"250{'-' if i < len(words) - 1 else ' '}{word}" for i, word in enumerate(words))
        self.answer("EHLO", line, usual)
        return True

    def do_helo(self, line):
        self.message = None
        self.answer("HELO", line, f"250 {self.sink.name}")
        return True

    def do_starttls(self, line):
        if self.sink.tls is None or self.cipher:
            self.say("502 5.5.1 not here")
            return True
        if self.answer("STARTTLS", line, "220 2.0.0 go") != "2":
            return True
        self.fault("TLS", line)
        self.connection = self.sink.tls.wrap_socket(self.connection, server_side=True)
        self.cipher, self.buffer, self.message = self.connection.cipher(), b"", None
        return True

    def do_mail(self, line):
        if self.message is not None:
            self.say("503 5.5.1 nested MAIL")
            return True
        path, _, parameters = line[len("MAIL FROM:"):].strip().partition("> ")
        if self.answer("MAIL", line, "250 2.1.0 ok") == "2":
            self.message = Message(self, path.strip("<> "), parameters)
        return True

    def do_rcpt(self, line):
        if self.message is None:
            self.say("503 5.5.1 no MAIL")
            return True
        path, _, parameters = line[len("RCPT TO:"):].strip().partition("> ")
        address = path.strip("<> ")
        self.message.rcpt_parameters[address] = parameters
        accepted = self.answer("RCPT", line, "250 2.1.5 ok") == "2"
        (self.message.recipients if accepted else self.message.refused).append(address)
        return True

    def do_data(self, line):
        if self.message is None or not self.message.recipients:
            self.say("503 5.5.1 no valid recipients")
            return True
        if self.answer("DATA", f"{line} {self.message}", "354 go on") == "3":
            self.body()
        return True

    def body(self):
        message, self.message = self.message, None
        checked = not self.sink.next_body_fault()
        data = bytearray(self.buffer)
        searched = 0
        while not (data.startswith(b".\r\n") or data.find(b"\r\n.\r\n", max(0, searched - 4)) >= 0):
            searched = len(data)
            if not checked:
                reply = self.fault("BODY", str(message), len(data))
                if reply:
                    self.say(reply)
                    checked = True
            data += self.read()
        end = 3 if data.startswith(b".\r\n") else data.find(b"\r\n.\r\n", max(0, searched - 4)) + 5
        message.wire, self.buffer = bytes(data[:end]), bytes(data[end:])
        self.received(message)

    def do_bdat(self, line):
        """Whatever is wrong, the chunk is read (RFC 3030 2)."""
        words = line.split()
        self.fault("BDAT", line)
        while len(self.buffer) < int(words[1]):
            self.buffer += self.read()
        chunk, self.buffer = self.buffer[:int(words[1])], self.buffer[int(words[1]):]
        message = self.message
        if message is None or not message.recipients:
            self.say("503 5.5.1 no valid recipients")
            return True
        message.wire, message.chunked = message.wire + chunk, True
        if words[2:] == ["LAST"]:
            self.message = None
            self.received(message)
        else:
            self.say("250 2.0.0 go on")
        return True

    def received(self, message):
        """The body is complete."""
        message.time = time.monotonic()
        with self.sink.lock:
            self.sink.seen.append(message)
        if self.sink.lmtp:
            wanted, message.recipients = message.recipients, []
            try:
                for recipient in wanted:
                    if self.answer(".", recipient, "250 2.1.5 kept") == "2":
                        message.recipients.append(recipient)
            finally:
                if message.recipients:
                    with self.sink.lock:
                        self.sink.messages.append(message)
            return
        reply = self.fault(".", str(message)) or "250 2.0.0 kept"
        if isinstance(reply, str) and reply.startswith("2"):
            with self.sink.lock:
                self.sink.messages.append(message)
        if isinstance(reply, Raw):
            self.connection.sendall(reply.data)
        else:
            self.say(reply)

    def do_rset(self, line):
        self.message = None
        self.answer("RSET", line, "250 2.0.0 ok")
        return True

    def do_noop(self, line):
        self.answer("NOOP", line, "250 2.0.0 ok")
        return True

    def do_quit(self, line):
        self.answer("QUIT", line, "221 2.0.0 bye")
        return False
