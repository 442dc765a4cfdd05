"""Random actions, in a process of their own: what others have filled grows and shrinks by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_random_actions() -> None:
    actions = Path(__file__).with_name("random_actions.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(actions)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=actions.parents[2])
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1 passed" in done.stdout
