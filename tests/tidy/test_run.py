"""tests/run counts right: a runner that loses a failure hides every other one."""
import importlib.machinery
import importlib.util
import os
import time

import pytest

path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "run")
loader = importlib.machinery.SourceFileLoader("runner", path)
runner = importlib.util.module_from_spec(importlib.util.spec_from_loader("runner", loader))
loader.exec_module(runner)


@pytest.mark.parametrize("text, status, passed, failed, skipped", [
    ("1..2\nok 1 - a\nok 2 - b\n", 0, 2, 0, 0),
    ("1..2\nok 1 - a\nnot ok 2 - b\n", 1, 1, 1, 0),
    ("1..3\nok 1 - a\nok 2 # SKIP no tool\nok 3 - c\n", 0, 2, 0, 1),
    ("1..3\nok 1 - a\nnot ok 2 # SKIP b\nok 3 - c\n", 0, 2, 0, 1),  # cmocka
    ("1..1\nok 1 - a\n1..1\nok 1 - b\n", 0, 2, 0, 0),
    ("1..3\nok 1 - a\n", -11, 1, 1, 0),  # crashed half-way
    ("1..3\nok 1 - a\n", None, 1, 1, 0),  # hung
    ("1..1\nok 1 - a\n", 23, 1, 1, 0),  # a sanitizer's report after the last test
    ("1..0\n", 0, 0, 1, 0),  # nothing to run
    ("", 0, 1, 0, 0),  # no TAP: its status is its test
    ("", 1, 0, 1, 0),
    ("", -6, 0, 1, 0),
    ("", None, 0, 1, 0),
])
def test_tap(text, status, passed, failed, skipped):
    outcome = runner.tap_outcome(text, status)
    assert (outcome.passed, outcome.failed, outcome.skipped) == (passed, failed, skipped)


@pytest.mark.parametrize("attributes, status, passed, failed, skipped", [
    ('tests="5" failures="1" errors="1" skipped="1"', 1, 2, 2, 1),
    ('tests="5" failures="0" errors="0" skipped="0"', 0, 5, 0, 0),
    ('tests="0" failures="0" errors="0" skipped="0"', 5, 0, 1, 0),  # pytest's own status for "nothing collected"
    ('tests="3" failures="0" errors="0" skipped="0"', None, 3, 1, 0),
])
def test_junit(tmp_path, attributes, status, passed, failed, skipped):
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite {attributes}></testsuite></testsuites>")
    outcome = runner.junit_outcome(str(report), status)
    assert (outcome.passed, outcome.failed, outcome.skipped) == (passed, failed, skipped)


def test_no_report_is_a_failure(tmp_path):
    assert runner.junit_outcome(str(tmp_path / "none.xml"), 1).failed == 1


@pytest.fixture
def run(tmp_path):
    return runner.Run(str(tmp_path), ["make"])


def test_program_that_hangs_is_ended_with_its_children(run, tmp_path):
    pid_file = tmp_path / "child"
    status, _ = run.command(["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], str(tmp_path / "log"), seconds=1)
    assert status is None
    assert ends(pid_file.read_text().strip(), seconds=30)


def ends(pid, seconds):
    """Whether a process is gone, or dead and waiting for its parent, in time: a killed one still needs a core to die."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] in "ZX":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_target_that_does_not_build_is_a_failure_and_its_old_program_is_not_run(tmp_path, capsys):
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"{tmp_path}/good: ; @touch $@\n{tmp_path}/bad: force ; @false\nforce:\n")
    (tmp_path / "bad").write_text("an old program\n")
    run = runner.Run(str(tmp_path), ["make", "-f", str(makefile)])
    assert run.build_targets("step", {}, [f"{tmp_path}/good", f"{tmp_path}/bad"]) == [f"{tmp_path}/good"]
    assert run.total.failed == 1
    assert "build of" in capsys.readouterr().out
