"""docs/conformance.md names tests: each of them exists, and each line has one and a state."""
import os
import re

import pytest
from harness.server import ROOT

LEDGER = os.path.join(ROOT, "docs/conformance.md")


def rows():
    with open(LEDGER, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.startswith("|") and not re.match(r"\|(-|[^|]*\|[^|]*\| test \|)", line):
                yield number, [cell.strip() for cell in line.strip().strip("|").split("|")]


def missing(test):
    """None, or what is not there."""
    path, _, name = test.partition("::")
    if path.startswith("server/"):
        path = f"transcript/{path}.smtp"
    path = os.path.join(ROOT, "tests", path)
    if not os.path.isfile(path):
        return f"there is no {path}"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    pattern = rf"^def {name}\(" if path.endswith(".py") else rf"^static void {name}\("
    return None if not name or re.search(pattern, text, re.M) else f"{path} has no {name}"


def test_every_line_names_tests_that_exist_and_a_state():
    wrong, count = [], 0
    for number, cells in rows():
        count += 1
        if len(cells) != 4 or not re.match(r"(holds$|holds: |deviates: |not built)", cells[3]):
            wrong.append(f"{number}: four cells, the last of which is a state: {cells}")
            continue
        tests = re.findall(r"`([^`]+)`", cells[2])
        wrong += [f"{number}: no test"] if not tests else []
        wrong += [f"{number}: {missing(test)}" for test in tests if missing(test)]
    assert not wrong, "\n".join(wrong)
    assert count > 100


@pytest.mark.parametrize("test", ["e2e/test_nothing.py", "e2e/test_tls.py::test_nothing", "server/nothing",
                                  "unit/smtp/test_server.c::test_nothing"])
def test_what_does_not_exist_is_found(test):
    assert missing(test)
