"""What the server gives up: seen from outside in /proc, and from inside by what a reload may read."""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest
from harness.client import send
from harness.server import BINARY, MAY_LEAK, wait_until

BODY = "Subject: hello\r\n\r\nbody\r\n"
ROOT = os.geteuid() == 0
CONFIG = 78
as_root = pytest.mark.skipif(not ROOT, reason="only root can become somebody else")


def threads(server):
    """{name: {field: value}} of every thread that is ours; a ring's kernel threads borrow who they are."""
    found = {}
    for path in glob.glob(f"/proc/{server.process.pid}/task/*/status"):
        with open(path) as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        if not fields["Name"].startswith("iou-"):
            found[path] = fields
    return found


def parts(server):
    """The log's last word on the sandbox, {part: text}."""
    line = [line for line in server.log().splitlines() if 'msg="sandbox"' in line][-1]
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', line)}


def skip_without(server, part):
    if parts(server)[part].startswith("no: the kernel has none"):
        pytest.skip(f"{part}: neither here nor in this build")


def fails_to_start(server):
    server.start(wait=False)
    code = server.process.wait(20)
    server.process = None
    return code, server.log()


def reload(server, **changes):
    """Whether a reload took the changes over."""
    before = server.log().count("configuration reloaded"), server.log().count("configuration not reloaded")
    server.write_config(**changes)
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: (server.log().count("configuration reloaded"),
                        server.log().count("configuration not reloaded")) != before, 10, "the reload")
    return server.log().count("configuration reloaded") > before[0]


def test_every_thread_is_bound(make_server, sink):
    server = make_server(sink)
    skip_without(server, "calls")
    assert parts(server)["calls"] == "seccomp"
    send(server.port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    found = threads(server)
    assert {fields["Name"] for fields in found.values()} >= {"ringpost", "shard-0", "shard-1", "worker"}
    for fields in found.values():
        assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2", fields["Name"]


@pytest.fixture
def passwords(make_server, sink, tmp_path):
    """A server with its password file, and another file in a directory that it does not know."""
    outside = tmp_path / "passwords"
    outside.write_text("robot:-\n")
    server = make_server(sink, start=False)
    inside = os.path.join(server.directory, "passwords")
    shutil.copy(outside, inside)
    server.settings["auth"] = {"passwords": inside}
    return server, inside, str(outside)


def test_files_that_were_not_named_cannot_be_read(passwords):
    """By root: what is refused here is refused by Landlock."""
    server, inside, outside = passwords
    server.start()
    skip_without(server, "files")
    assert parts(server)["files"].startswith("landlock ")
    os.symlink(outside, inside + ".new")
    os.replace(inside + ".new", inside)
    wait_until(lambda: f"{inside}: cannot be opened: Permission denied" in server.log(), 20, "a look at the file")
    # What replaces a file that was named is read: its directory is open.
    shutil.copy(outside, inside + ".new")
    os.replace(inside + ".new", inside)
    assert reload(server)


def test_a_reload_that_names_others_is_refused(passwords, tmp_path):
    server, _, outside = passwords
    server.start()
    skip_without(server, "files")
    mail = str(tmp_path / "mail")
    assert not reload(server, auth={"passwords": outside})
    mailboxes = os.path.join(server.directory, "mailboxes")
    with open(mailboxes, "w") as file:
        file.write("postmaster\n")
    domain = {"name": "own.test", "mailboxes": mailboxes, "deliver": f"maildir:{mail}/%u"}
    assert not reload(server, auth={"passwords": server.settings["auth"]["passwords"]}, domains=(domain,))
    for path, access in ((os.path.dirname(outside), "read"), (mail, "write")):
        assert f'msg="the sandbox is closed for a path until a restart" path="{path}" access={access}' in server.log()
    server.restart()  # now it may


def test_off(passwords):
    server, _, outside = passwords
    server.start(sandbox="off")
    assert parts(server)["files"].startswith("no: sandbox is") and parts(server)["calls"].startswith("no: sandbox is")
    for fields in threads(server).values():
        assert fields["Seccomp"] == "0"
    assert reload(server, auth={"passwords": outside})


def test_a_relative_path_of_the_configuration(make_server, sink):
    server = make_server(sink, start=False)
    server.write_config()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen([BINARY, "serve", "--config", "ringpost.conf"], stdout=log, stderr=log,
                                          cwd=server.directory)
    server.wait_ready()
    assert reload(server, hostname="other.test")


@as_root
def test_the_user_and_its_port(make_server, sink):
    """From root with a port below 1024 to nobody with nothing."""
    port = next(port for port in range(600, 1023) if can_bind(port))
    server = make_server(sink, start=False, listeners={"address": f"127.0.0.1:{port}"}, user="nobody", sandbox="auto")
    server.write_config()
    for path in [server.directory, *glob.glob(server.directory + "/**", recursive=True)]:
        os.chown(path, 65534, 65534)
    server.start()
    assert parts(server)["user"] == "nobody" and parts(server)["capabilities"] == "none"
    send(port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(1)
    for fields in threads(server).values():
        assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {"65534"}
        assert int(fields["CapPrm"], 16) == int(fields["CapEff"], 16) == int(fields["CapInh"], 16) == 0, fields["Name"]
        assert int(fields["CapBnd"], 16) == 1 << 10
    assert reload(server, hostname="other.test")
    for path in glob.glob(server.directory + "/spool/**", recursive=True):
        assert os.stat(path).st_uid == 65534
    server.stop()
    server.start()  # the same again, on a spool that exists
    send(port, "a@a.test", ["b@b.test"], BODY)
    sink.wait(2)


def can_bind(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@as_root
def test_required(make_server, sink):
    server = make_server(sink, start=False, environment=MAY_LEAK, sandbox="required")
    code, log = fails_to_start(server)
    assert code == CONFIG and "it would run as root: set user" in log
    assert os.listdir(server.settings["spool"]["path"]) == []
    server.write_config(user="nobody")
    for path in [server.directory, *glob.glob(server.directory + "/**", recursive=True)]:
        os.chown(path, 65534, 65534)
    server.start(wait=False)
    try:
        server.wait_ready()
    except AssertionError:
        assert "missing=" in server.log()


@as_root
def test_a_user_that_is_not_there(make_server, sink):
    code, log = fails_to_start(make_server(sink, start=False, user="no-such-user"))
    assert code == CONFIG and "there is no user no-such-user" in log


def check(server, *words):
    server.write_config()
    done = subprocess.run([BINARY, "check", "--config", server.config_path, *words], capture_output=True, text=True, timeout=60)
    return done.returncode, re.search(r"\nsandbox\n(.*?)\n\n", done.stdout, re.S).group(1), done.stdout


def test_check_foresees_it(make_server, sink):
    server = make_server(sink, start=False)
    code, said, _ = check(server)
    rows = dict(re.match(r"  (user|capabilities|files|system calls) +(.*)$", line).groups() for line in said.splitlines())
    assert code == 0 and set(rows) == {"user", "capabilities", "files", "system calls"}
    server.start()
    assert rows["files"] == parts(server)["files"] and rows["system calls"] == parts(server)["calls"]
    assert rows["user"] == parts(server)["user"]
    server.stop()
    if ROOT:
        server.settings.update(sandbox="required")
        code, _, out = check(server, "--strict")
        assert code == CONFIG and 'sandbox is "required", and not all of it is to be had here' in out
        server.settings.update(user="nobody")
        assert "user           nobody" in check(server)[1]
        server.settings.update(user="no-such-user")
        assert "no: there is no user no-such-user" in check(server)[1]
