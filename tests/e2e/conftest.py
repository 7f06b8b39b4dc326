"""Fixtures of the end-to-end tests. A failing test leaves its server's files and shows the end of its log."""
import os

import pytest
from harness.names import NameServer
from harness.server import Ringpost
from harness.sink import Sink

os.environ["PATH"] += ":/usr/sbin:/sbin"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    item.failed = getattr(item, "failed", False) or report.failed
    if report.failed:
        for server in getattr(item, "servers", []):
            report.sections.append((f"the server's log, files in {server.directory}", server.log_tail(60)))


@pytest.fixture
def make_sink():
    sinks = []

    def make(*arguments, **options):
        sinks.append(Sink(*arguments, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


@pytest.fixture
def sink(make_sink):
    return make_sink()


@pytest.fixture
def make_server(request):
    """Starts servers; at the end each that runs is stopped, must end well, and its log must be clean."""
    servers = request.node.servers = []

    def make(*arguments, start=True, **options):
        server = Ringpost(*arguments, **options)
        servers.append(server)
        return server.start() if start else server

    yield make
    try:
        for server in servers:
            if server.process is not None:
                server.stop()
            server.assert_log_clean()
    except AssertionError:
        request.node.failed = True
        raise
    finally:
        for server in servers:
            server.close(keep=getattr(request.node, "failed", False))


@pytest.fixture
def server(make_server, sink):
    """A server with two shards whose mail all goes to `sink`."""
    return make_server(sink)


@pytest.fixture
def name_server():
    servers = []

    def make(names):
        servers.append(NameServer(names))
        return servers[-1]

    yield make
    for server in servers:
        server.close()
