"""Load in quantity: bench/load_source and bench/load_sink, and what their logs say."""
import os
import shutil
import signal
import subprocess
from collections import defaultdict

import pytest

from .client import Client
from .server import PLAIN_BINARY, free_port, wait_until


def tool(name):
    """A program of bench/, which the Makefile builds beside the server."""
    path = os.path.join(os.path.dirname(PLAIN_BINARY), "bench", name)
    assert os.path.exists(path), f"{path} is missing: `make tools` builds it"
    return path


def program(name):
    """A program of another package; a machine without it skips the test and says so."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


class LoadSink:
    """`options` are load_sink's own, by name."""

    def __init__(self, log=None, delay_ms=0, port=None, **options):
        self.log_path, self.port = log, port or free_port()
        words = [tool("load_sink"), "--listen", f"127.0.0.1:{self.port}", "--delay", str(delay_ms)]
        for name, value in options.items():
            words += [f"--{name}", str(value)]
        self.process = subprocess.Popen([*words, *(["--log", log] if log else [])], stdout=subprocess.DEVNULL)
        wait_until(self._answers, 5, "load_sink to listen")

    def _answers(self):
        try:
            Client(self.port).close()
            return True
        except OSError:
            return False

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(5)

    def counts(self):
        """(connections, messages, recipients, bytes) so far."""
        with Client(self.port) as client:
            return tuple(map(int, client.command("XSTAT").lines[0].split()[1:5]))

    def arrivals(self):
        """{recipient: [(bytes, hash), ...]}, an item for each copy."""
        result = defaultdict(list)
        with open(self.log_path, encoding="ascii") as file:
            for line in file:
                recipient, size, digest = line.split()
                result[recipient].append((int(size), digest))
        return result


class SourceRun:
    """`fates` maps A, R, U and N of load_source to {message number: what the line says of it}."""

    def __init__(self, output, log):
        counts = output.split()
        self.accepted, self.refused, self.unknown, self.unfinished = map(int, counts[:4])
        self.seconds = float(counts[4])
        self.fates = {letter: {} for letter in "ARUN"}
        if log is None:
            return
        with open(log, encoding="ascii") as file:
            for line in file:
                letter, number, *rest = line.split()
                self.fates[letter][int(number)] = (int(rest[0]), rest[1]) if rest else None
        for letter, count in zip("ARUN", (self.accepted, self.refused, self.unknown, self.unfinished)):
            assert len(self.fates[letter]) == count


def source_words(port, log=None, plain=False, **options):
    words = [tool("load_source"), "--to", f"127.0.0.1:{port}"]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words + (["--plain"] if plain else []) + (["--log", str(log)] if log else [])


def load_source(port, log=None, ok=True, seconds=120, **options):
    """Runs to its end. With `ok` every message must have been accepted."""
    run = subprocess.run(source_words(port, log, **options), stdout=subprocess.PIPE, text=True, timeout=seconds)
    result = SourceRun(run.stdout, log)
    assert not ok or run.returncode == 0, run.stdout
    return result
