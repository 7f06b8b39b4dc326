"""`ringpost check --disk`: says what the spool is on, measures its syncs, and leaves nothing behind."""
import os
import re
import subprocess
import time

import pytest
from harness.server import BINARY, DIRECTORY


def check(*words):
    started = time.monotonic()
    done = subprocess.run([BINARY, "check", *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr, time.monotonic() - started


def mounted(words, place):
    """Mounts for the duration of a test; only root can."""
    place.mkdir(exist_ok=True)
    run = subprocess.run(["mount", *map(str, words), str(place)], capture_output=True, text=True)
    if run.returncode != 0 and os.getuid() != 0:
        pytest.skip("mounting needs root: " + run.stderr.strip())
    assert run.returncode == 0, run.stderr


@pytest.fixture
def mount():
    places = []

    def make(words, place):
        mounted(words, place)
        places.append(place)
        return place

    yield make
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True)


def test_measures(make_server, tmp_path):
    server = make_server(start=False)
    server.write_config()
    path = server.settings["spool"]["path"]
    code, out, error, seconds = check("--disk", "--config", server.config_path)
    assert code == 0, out + error
    assert seconds < 12, "about five seconds, on an idle machine"
    assert out.startswith(f"directory    {os.path.realpath(path)}\nfile system  ")
    rows = re.findall(r"^ +(\d+) KiB +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", out, re.M)
    assert [int(row[0]) for row in rows] == [4, 16, 64, 1024]
    for _, rate, p50, p99, longest, _ in rows:
        assert float(rate) > 0 and float(p50) <= float(p99) <= float(longest)
    assert len(re.findall(r"senders at once: up to +\d+ messages/s", out)) == 4
    assert os.listdir(path) == []


def test_memory_is_no_disk(mount, tmp_path):
    place = mount(["-t", "tmpfs", "-o", "size=64m", "tmpfs"], tmp_path / "memory")
    code, out, _, _ = check("--disk", place)
    assert code == 0 and "warning: memory: everything is lost with the power" in out and "no disk is that fast" in out
    assert check("--disk", "--strict", place)[0] == 78
    assert os.listdir(place) == []


def test_mount_options_and_layers(mount, tmp_path):
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    place = mount(["-o", "loop,nobarrier,data=writeback", image], tmp_path / "ext4")
    code, out, _, _ = check("--disk", place)
    assert code == 0 and "file system  ext4, /dev/loop" in out and "a file of another file system" in out
    assert re.search(r"warning: (nobarrier|barrier=0):", out) and "warning: data=writeback:" in out
    for name in ("lower", "upper", "work"):
        (place / name).mkdir()
    words = ["-t", "overlay", "overlay", "-o", f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"]
    layered = mount(words, tmp_path / "layered")
    assert "warning: a container's layer" in check("--disk", layered)[1]


def test_a_full_disk_cannot_be_measured(mount, tmp_path):
    place = mount(["-t", "tmpfs", "-o", "size=1m", "tmpfs"], tmp_path / "small")
    code, _, error, _ = check("--disk", place)
    assert code == 70 and "No space left on device" in error
    assert os.listdir(place) == []


@pytest.mark.parametrize("words, code, complaint", [
    (("--disk", "/nonexistent"), 70, "/nonexistent: No such file"),
    (("--disk", DIRECTORY, "x"), 64, "unexpected argument"),
    (("--disk", "--config", "/nonexistent"), 78, "/nonexistent"),
    ((DIRECTORY,), 64, "unexpected argument"),
])
def test_usage(words, code, complaint):
    status, _, error, _ = check(*words)
    assert status == code and complaint in error
