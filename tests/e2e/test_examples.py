"""Every configuration in docs/examples.md passes `ringpost check`, with the mailboxes and aliases that stand there."""
import os
import re
import subprocess

import pytest
from harness import accounts
from harness.certificates import Authority
from harness.server import BINARY

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEXT = open(os.path.join(ROOT, "docs", "examples.md"), encoding="utf-8").read()


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def etc(tmp_path_factory):
    """What the examples find in /etc/ringpost and elsewhere."""
    directory = str(tmp_path_factory.mktemp("etc"))
    Authority(directory).issue("mail.example.com", file="mail")
    accounts.write(os.path.join(directory, "passwords"), accounts.line("alice@example.com"))
    for kind in ("mailboxes", "aliases"):
        with open(os.path.join(directory, kind), "w", encoding="utf-8") as file:
            file.write("".join(blocks(kind)))
    return directory


def check(etc, text):
    path = os.path.join(etc, "ringpost.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("/etc/ringpost/", etc + "/"))
    return subprocess.run([BINARY, "check", "--config", path], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", range(len(blocks("conf"))))
def test_example_is_good(etc, number):
    run = check(etc, blocks("conf")[number])
    assert (run.returncode, run.stderr) == (0, ""), run.stdout


def test_there_are_examples_and_the_test_can_fail(etc):
    assert len(blocks("conf")) == 5 and len(blocks("mailboxes")) == len(blocks("aliases")) == 1
    assert check(etc, blocks("conf")[0].replace("listeners", "listener")).returncode == 78
    assert check(etc, blocks("conf")[2].replace("mail.key", "none.key")).returncode == 78
