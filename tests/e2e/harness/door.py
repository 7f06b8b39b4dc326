"""A front door with a listener of each kind, for tests that ask the same in clear text and inside TLS."""
from . import accounts
from .client import Client
from .maildir import Maildirs
from .server import free_port

HOST = "mx.ringpost.test"
WAYS = ("clear", "tls")
PASSWORD = "secret"


class Door:
    """One server; connect(way) is a client after the greeting."""

    def __init__(self, make_server, sink, authority, leaf, **changes):
        self.server = make_server(sink, start=False)
        self.authority = authority
        self.secure_port, self.mx_port, self.submission_port = free_port(), free_port(), free_port()
        directory = self.server.directory
        self.maildirs = Maildirs(directory)
        accounts.write(f"{directory}/passwords", accounts.line("ann@a.test", PASSWORD))
        listeners = changes.pop("listeners", {})
        common = {"error_delay": 0, "errors_max": 10000, **listeners}
        self.server.write_config(
            tls={"certificates": (leaf.item(),)}, auth={"passwords": f"{directory}/passwords"},
            domains=(self.maildirs.settings,), **changes,
            listeners=({"name": "in", "address": f"127.0.0.1:{self.server.port}", **common},
                       {"name": "secure", "address": f"127.0.0.1:{self.secure_port}", "tls": "implicit", **common},
                       {"name": "mx", "address": f"127.0.0.1:{self.mx_port}", "role": "mx", "error_delay": 0},
                       {"name": "submission", "address": f"127.0.0.1:{self.submission_port}", "role": "submission",
                        "tls": "implicit", "error_delay": 0}))
        self.server.start()

    def connect(self, way="clear", hello=True, **options):
        if way == "clear":
            client = Client(self.server.port, **options)
        else:
            client = Client(self.secure_port, tls=self.authority.context(), **options)
        if hello:
            client.hello()
        return client

    def connect_mx(self):
        client = Client(self.mx_port)
        client.hello()
        return client

    def connect_submission(self):
        client = Client(self.submission_port, tls=self.authority.context())
        client.hello()
        return client
