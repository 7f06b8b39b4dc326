"""Programs that are not ours, started on free ports."""
import os
import re
import subprocess
import tempfile

from .load import program
from .server import free_port, wait_until
from .client import Client


class SmtpSink:
    """postfix's smtp-sink with the given fault options."""

    def __init__(self, *options):
        self.port = free_port()
        self.output = tempfile.TemporaryFile()
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        words = [program("smtp-sink"), "-4", "-c", *user, *options, f"127.0.0.1:{self.port}", "1000"]
        self.process = subprocess.Popen(words, stdout=self.output, stderr=subprocess.STDOUT)
        wait_until(self._listens, 5, "smtp-sink to listen")

    def _listens(self):
        try:
            Client(self.port, greeting=False).close()
            return True
        except OSError:
            return False

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def messages(self):
        """How many final dots it has seen, by its own running count."""
        self.output.flush()
        text = os.pread(self.output.fileno(), 1 << 30, 0).decode(errors="replace")
        return max(map(int, re.findall(r"mesg=(\d+)", text)), default=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(5)
        self.output.close()
