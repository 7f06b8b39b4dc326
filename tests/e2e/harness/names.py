"""A name server on UDP that answers from a dictionary, or misbehaves as the dictionary says.

    NameServer({"example.test": {"MX": [(10, "mx1.example.test")], "A": ["127.0.0.2"]}, "broken.test": "SERVFAIL"})

A name that is not there does not exist (NXDOMAIN). Instead of a dictionary a name may have SERVFAIL, REFUSED or SILENT (no
answer at all). The next `lost` questions of any name get no answer, all others theirs after `late` seconds.
"""
import contextlib
import socket
import struct
import threading

from .server import free_port

TYPES = {"A": 1, "CNAME": 5, "MX": 15, "AAAA": 28}
TTL = 300
RECEIVE_BYTES = 4 * 2**20
SO_RCVBUFFORCE = 33  # Linux


def encoded(name):
    labels = [label for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def data_of(kind, value):
    if kind == "A":
        return socket.inet_aton(value)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, value)
    if kind == "MX":
        return struct.pack("!H", value[0]) + encoded(value[1])
    return encoded(value)


class NameServer:
    def __init__(self, names):
        self.names, self.questions, self.lost, self.late = names, [], 0, 0
        self.port = free_port()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(PermissionError):  # it is slow: a thousand questions at once have to wait, not get lost
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        self.socket.bind(("127.0.0.1", self.port))
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.socket.close()

    def _run(self):
        while True:
            try:
                packet, peer = self.socket.recvfrom(4096)
                answer = self.answer(packet)
            except OSError:
                return
            if answer and self.late:
                threading.Timer(self.late, self._send, (answer, peer)).start()
            elif answer:
                self._send(answer, peer)

    def _send(self, answer, peer):
        with contextlib.suppress(OSError):  # closed meanwhile
            self.socket.sendto(answer, peer)

    def answer(self, packet):
        identity, flags = struct.unpack("!HH", packet[:4])
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode())
            at += packet[at] + 1
        question, name = packet[12:at + 5], ".".join(labels).lower()
        number = struct.unpack("!H", packet[at + 1:at + 3])[0]
        kind = {value: key for key, value in TYPES.items()}.get(number, str(number))
        self.questions.append((name, kind))
        zone = self.names.get(name)
        if self.lost > 0:
            self.lost -= 1
            return None
        if zone == "SILENT":
            return None
        code = {"SERVFAIL": 2, "REFUSED": 5}.get(zone, 3 if zone is None else 0) if not isinstance(zone, dict) else 0
        records = self._records(name, kind) if code == 0 else []
        header = struct.pack("!HHHHHH", identity, 0x8180 | flags & 0x0100 | code, 1, len(records), 0, 0)
        return header + question + b"".join(records)

    def _records(self, name, kind):
        """Follows CNAME as a resolver would."""
        zone = self.names.get(name)
        if not isinstance(zone, dict):
            return []
        if "CNAME" in zone and kind != "CNAME":
            return [record(name, "CNAME", zone["CNAME"]), *self._records(zone["CNAME"], kind)]
        return [record(name, kind, value) for value in zone.get(kind, [])]


def record(name, kind, value):
    data = data_of(kind, value)
    return encoded(name) + struct.pack("!HHIH", TYPES[kind], 1, TTL, len(data)) + data
