"""A log that the service wrote is verified by programs that share no code with it, and with one
another, and each refuses it once anything in it is changed.

This is `benchmarks/third_party/run.py`, which by itself takes 70,000 entries and 200 changes, in a
form that a test run has time for: twelve tiles of the lowest level, and one above them.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "third_party" / "run.py"
ENTRIES, MUTATIONS = 3_000, 40


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(importlib.util.find_spec("go") is None, reason="there is no Go toolchain here")
def test_others_verify_the_log_and_refuse_every_change_to_it() -> None:
    """Go's x/mod, tlog-scales and pymerkle; 8 changes each of a tile, an entry, the note, its size
    and a proof, and as many of a consistency proof, which pymerkle does not read.
    """
    ran = subprocess.run(
        [sys.executable, str(RUN), f"--entries={ENTRIES}", f"--mutations={MUTATIONS}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=RUN.parents[2],
        timeout=280,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    refused = {
        name: counts.split()
        for line in ran.stdout.splitlines()
        for name, counts in [(line[:14].strip(), line[14:])]
        if name in ("Go", "tlog-scales", "pymerkle") and "accepts" not in line
    }
    each = str(MUTATIONS // 5)
    assert refused == {
        "Go": [each] * 6,
        "tlog-scales": [each] * 6,
        "pymerkle": [*[each] * 5, "-"],
    }
    assert ran.stdout.endswith("every change was refused by each\n")
