"""What a checker of TLS says of the STARTTLS and the implicit listener. Without it the test is skipped."""
import csv
import os
import subprocess

import pytest
from harness.certificates import Authority
from harness.door import HOST, Door
from harness.load import program

# Everything that needs nobody but the server: protocols, ciphers, forward secrecy, preferences, and the known attacks.
CHECKS = ("--protocols", "--std", "-f", "--server-preference", "--server-defaults", "--vulnerable")
# The authority is the test's own; the name is that of a host that no resolver knows.
OF_THE_TEST = ("cert", "chain", "ocsp", "dns", "clientsim", "trust", "scan", "engine")


@pytest.mark.parametrize("way, kind", [("starttls", "ecdsa"), ("implicit", "rsa")])
def test_nothing_is_weak(make_server, sink, tmp_path, way, kind):
    checker = program("testssl")
    authority = Authority(str(tmp_path / "ca"))
    door = Door(make_server, sink, authority, authority.issue(HOST, kind))
    target = ["--starttls", "smtp", f"127.0.0.1:{door.server.port}"] if way == "starttls" else [f"127.0.0.1:{door.secure_port}"]
    report = tmp_path / "report.csv"
    no_resolver = tmp_path / "host"  # it wants one to be there, even for an address
    no_resolver.write_text("#!/bin/sh\nexit 1\n")
    no_resolver.chmod(0o755)
    run = subprocess.run([checker, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--csvfile", str(report),
                          *CHECKS, *target],
                         capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL,
                         env={**os.environ, "PATH": f"{os.environ['PATH']}:{tmp_path}"})
    assert report.exists(), run.stdout + run.stderr
    with open(report, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    said = {row["id"]: row for row in rows}
    assert said.get("TLS1_2", {}).get("severity") in ("OK", "INFO") and said["TLS1_3"]["severity"] in ("OK", "INFO"), run.stdout
    for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        assert "not offered" in said[old]["finding"], said[old]
    weak = [row for row in rows if row["severity"] in ("MEDIUM", "HIGH", "CRITICAL") and not row["id"].startswith(OF_THE_TEST)]
    assert weak == [], run.stdout
    assert len(rows) > 40, run.stdout
