"""The soak runs, for a few seconds, and finds nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What measures time is not run in asyncio's debug mode, which tells of each step that takes long.
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}


@pytest.mark.parametrize("options", [(), ("--loop", "uvloop"), ("--tls",)], ids=["asyncio", "uvloop", "tls"])
def test_a_short_soak_leaves_nothing_behind(options):
    # Memory that is made once is made in the first minutes: how it grows is for a longer one to say.
    command = [sys.executable, "-m", "tests.soak", "--seconds", "3", "--clients", "20", "--growth", "100"]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, env=BARE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["at", "rest,", "before", "highest", "trend", "at", "rest,", "after"]
    assert [row.split()[0] for row in rows[:3]] == ["memory", "descriptors", "tasks"]
