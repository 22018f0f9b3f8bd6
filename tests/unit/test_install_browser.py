"""tools/install-browser says in one line what is the matter, on machines made of stubs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "install-browser"
INSTALLS = """case "$*" in
  *install*chromium*) echo > "$(dirname "$0")/chromium"; /bin/chmod +x "$(dirname "$0")/chromium" ;;
esac"""
REAL = ("dirname", "env")


@pytest.mark.parametrize(
    ("stubs", "code", "said"),
    [
        ({"chromium": ""}, 0, "chromium is there"),
        ({"google-chrome": ""}, 0, "google-chrome is there"),
        ({}, 1, "no apt-get to install it with"),
        ({"apt-get": INSTALLS, "id": "echo 0"}, 0, "chromium is installed"),
        ({"apt-get": "echo no route; exit 100", "id": "echo 0"}, 1, "apt-get could not install chromium"),
        ({"apt-get": INSTALLS, "id": "echo 1000"}, 1, "needs root; run: sudo apt-get install chromium"),
        ({"apt-get": INSTALLS, "id": "echo 1000", "sudo": "exit 1"}, 1, "needs root; run: sudo apt-get install"),
        ({"apt-get": INSTALLS, "id": "echo 1000", "sudo": 'shift; "$@"'}, 0, "chromium is installed"),
    ],
)
def test_it_says_what_it_did_or_what_is_missing(tmp_path: Path, stubs: dict[str, str], code: int, said: str) -> None:
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for name in REAL:
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    bash = str(shutil.which("bash"))
    done = subprocess.run([bash, SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    lines = (done.stdout + done.stderr).splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("browser: ")
