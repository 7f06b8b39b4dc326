"""`ringpost check` refuses what `ringpost serve` would refuse on this machine, and says where to look."""
import os
import subprocess

import pytest
from harness.accounts import line
from harness.server import BINARY, free_port

OK, CONFIG = 0, 78


def check(directory, text, *words):
    """The exit code, and the lines with findings."""
    path = os.path.join(directory, "ringpost.conf")
    with open(path, "w") as file:
        file.write(f'spool = {{ path = "{directory}/spool"; segment_bytes = "16M"; }}; events = {{ path = ""; }};\n'
                   'hostname = "mail.example.com";\n' + text)
    done = subprocess.run([BINARY, "check", "--config", path, *words], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, [found.strip() for found in done.stdout.splitlines() if "error:" in found or "warning:" in found]


def admin(directory, listen="off"):
    return f'admin = {{ listen = "{listen}"; socket = "{directory}/control.sock"; }};\n'


def listener(**keys):
    return "listeners = ( { " + "; ".join(f'{key} = "{value}"' for key, value in keys.items()) + "; } );\n"


def cases(directory):
    with open(os.path.join(directory, "broken"), "w") as file:
        file.write("no colon\n")
    tls = f'tls = {{ certificates = ( {{ certificate = "{directory}/none.pem"; }} ); }};\n'
    port = f"127.0.0.1:{free_port()}"
    yield admin(directory) + tls + listener(name="in", address=port), "error: listener in: ", "none.pem"
    yield (admin(directory) + f'auth = {{ passwords = "{directory}/broken"; }};\n' + listener(address=port),
           f"error: {directory}/broken:1: there is no ':'", "expected NAME:VERIFIER")
    yield (admin(directory) + f'auth = {{ passwords = "{directory}/none"; }};\n' + listener(address=port),
           f"error: {directory}/none: cannot be opened", "No such file")
    yield (admin(directory) + listener(name="l", address=f"unix:{directory}/l", socket_owner="root:no-such-group"),
           'error: listener l: socket_owner "root:no-such-group"', "no user and group")
    if os.geteuid() == 0:
        yield (admin(directory) + 'user = "no-such-user";\n' + listener(address=port), "error: user: there is no user", "")
        yield (admin(directory, "127.0.0.1:925") + 'user = "nobody";\n' + listener(address=port),
               "error: admin.listen: port 925 is root's", "expected 1024 or above")


@pytest.mark.parametrize("number", range(6))
def test_what_would_not_start_is_an_error(tmp_path, number):
    found = list(cases(str(tmp_path)))
    if number >= len(found):
        pytest.skip("needs root")
    text, begin, inside = found[number]
    code, findings = check(str(tmp_path), text)
    errors = [finding for finding in findings if finding.startswith("error:")]
    assert code == CONFIG and len(errors) == 1 and errors[0].startswith(begin) and inside in errors[0], findings
    os.chmod(tmp_path, 0o777)  # for the one that is nobody
    serve = subprocess.run([BINARY, "serve", "--config", str(tmp_path / "ringpost.conf")], capture_output=True, text=True,
                           timeout=60)
    assert serve.returncode == CONFIG, serve.stderr


def test_directories_that_the_server_makes_need_no_warning(tmp_path):
    with open(tmp_path / "passwords", "w") as file:
        file.write(line("ann@a.test") + "\n")
    text = admin(str(tmp_path)) + f'auth = {{ passwords = "{tmp_path}/passwords"; }};\n'
    code, findings = check(str(tmp_path), text + listener(address=f"127.0.0.1:{free_port()}"))
    assert code == OK and not [finding for finding in findings if "directory" in finding], findings


def test_a_name_that_receivers_refuse_is_warned_about(tmp_path):
    path = tmp_path / "F"
    path.write_text('hostname = "mail";')
    done = subprocess.run([BINARY, "check", "--config", str(path)], capture_output=True, text=True, timeout=60)
    assert 'warning: hostname is "mail", expected a full name' in done.stdout and done.returncode == OK


def test_no_server_there_says_what_to_look_at(tmp_path):
    done = subprocess.run([BINARY, "queue", "--socket", str(tmp_path / "none")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 69
    assert done.stderr.endswith("none: No such file or directory (is the server running, and is this its admin.socket?)\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_looks_with_the_rights_of_the_user(tmp_path):
    text = admin(str(tmp_path)) + 'user = "nobody";\n' + listener(address=f"127.0.0.1:{free_port()}")
    code, findings = check(str(tmp_path), text)
    assert code == OK and any("spool.path" in finding and "Permission denied" in finding for finding in findings)
    with open(tmp_path / "passwords", "w") as file:
        file.write(line("ann@a.test"))
    os.chmod(tmp_path / "passwords", 0o600)
    code, findings = check(str(tmp_path), text + f'auth = {{ passwords = "{tmp_path}/passwords"; }};\n')
    assert code == CONFIG and any("error:" in finding and "Permission denied" in finding for finding in findings)
