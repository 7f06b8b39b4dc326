"""A mail filter that does what it is told, well or badly: the milter protocol's other side, on a socket of its own.

    milter.on("R", b"y550 5.7.1 no\\0")            the answer to a step (its letter): the packet without its length
    milter.on("E", b"hX-A\\0b\\0", b"c")            several packets
    milter.on("E", Raw(b"\\xff\\xff\\xff\\xff"))     octets as they are
    milter.on("M", Hang(60)); milter.on("M", Drop()); milter.on("B", Silence())

`answers` may be a function of the step's data, which returns the same. Answers not given are "continue". All that was
said is in `milter.sessions`, one list of (letter, data) each; macros are ("D", {...}).
"""
import os
import socket
import struct
import threading
import time

from .server import free_port, wait_until

ACTIONS = 0x1ff


class Raw:
    def __init__(self, data):
        self.data = data


class Hang:
    def __init__(self, seconds):
        self.seconds = seconds


class Drop:
    """Closes the connection."""


class Silence:
    """No answer, but it goes on reading."""


def packet(data):
    return struct.pack(">I", len(data)) + data


def texts(data):
    return [text.decode("utf-8", "surrogateescape") for text in data.split(b"\0")[:-1]]


class Milter:
    def __init__(self, path=None, steps=0, actions=ACTIONS, version=6):
        self.steps, self.actions, self.version = steps, actions, version
        self.answers, self.sessions, self.sockets = {}, [], []
        self.path = path
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            os.chmod(path, 0o666)
            self.endpoint = f"unix:{path}"
        else:
            port = free_port()
            self.listener = socket.create_server(("127.0.0.1", port))
            self.endpoint = f"inet:127.0.0.1:{port}"
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def item(self, name="m", **more):
        return {"name": name, "socket": self.endpoint, **more}

    def on(self, letter, *answers):
        self.answers[letter] = answers
        return self

    def accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.sockets.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        said = []
        self.sessions.append(said)
        try:
            with connection, connection.makefile("rb") as stream:
                while self.step(connection, stream, said):
                    pass
        except (OSError, EOFError):
            pass

    def step(self, connection, stream, said):
        head = stream.read(4)
        if len(head) < 4:
            said.append(("end", b""))
            return False
        data = stream.read(struct.unpack(">I", head)[0])
        letter, data = data[:1].decode(), data[1:]
        if letter == "D":
            pairs = texts(data[1:])
            said.append(("D", dict(zip(pairs[::2], pairs[1::2]))))
            return True
        said.append((letter, data))
        if letter in "AQ":
            return letter == "A"
        default = (b"O" + struct.pack(">III", self.version, self.actions, self.steps),) if letter == "O" else (b"c",)
        answers = self.answers.get(letter, default)
        if callable(answers[0]):
            answers = answers[0](data)
            answers = answers if isinstance(answers, tuple) else (answers,)
        elif letter not in self.answers and self.silent(letter):
            answers = ()
        for answer in answers:
            if isinstance(answer, Hang):
                time.sleep(answer.seconds)
            elif isinstance(answer, Drop):
                return False
            elif isinstance(answer, Raw):
                connection.sendall(answer.data)
            elif isinstance(answer, bytes):
                connection.sendall(packet(answer))
        return True

    def silent(self, letter):
        bits = {"L": 0x80, "C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000, "N": 0x40000, "B": 0x80000}
        return (self.steps & bits.get(letter, 0)) != 0

    def letters(self, session=-1):
        return "".join(letter for letter, _ in self.sessions[session] if letter != "D")

    def said(self, letter, session=-1):
        return [data for what, data in self.sessions[session] if what == letter]

    def macros(self, session=-1):
        merged = {}
        for macros in self.said("D", session):
            merged.update(macros)
        return merged

    def wait_letters(self, letters, session=-1):
        wait_until(lambda: self.sessions and self.letters(session) == letters, 10,
                   lambda: f"{letters}, not {self.letters(session) if self.sessions else None}")

    def close(self):
        self.listener.close()
        for connection in self.sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if self.path:
            os.unlink(self.path)
