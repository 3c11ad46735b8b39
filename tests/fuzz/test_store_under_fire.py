"""The store keeps what it has and shows nothing half, however its writers end and however many there are."""

import json
import subprocess
import sys
from pathlib import Path

from hypothesis import settings

KILLS = 1500 if settings.get_current_profile_name() == "fuzz" else 60


def test_writers_that_are_killed_or_many_leave_whole_entries_or_nothing(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path), str(KILLS), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    print(f"{KILLS} writers killed: {seen}")
    assert sum(seen.values()) == KILLS
    assert min(seen.values()) > 0  # the points lie on both sides of the rename
