"""Small changes to the code of the three rooms, of which each should fail some test: `make mutants`.

mutmut makes the changes and runs the tests that reach each of them in a fork of one process. What a
module did when it was imported stays as it was there: so whatever survives is tried once more, in a
process of its own.

    python -m tests.mutants --share 0.1 --seed 1
    python -m tests.mutants app.policy.lint.x__zones__mutmut_3
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MADE = ROOT / "mutants"
KILLED = {1, 3}
"""How pytest ends where a test fails, also where the change does not let it start."""
SECONDS = 300


def configured() -> dict[str, Any]:
    said: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return dict(said["tool"]["mutmut"])


def mutmut(*names: str) -> None:
    program = Path(sys.executable).with_name("mutmut")
    subprocess.run([program, "run", "--max-children", "1", *names], cwd=ROOT, check=True)


def ends() -> dict[str, int | None]:
    """By mutant, how its tests ended; `None`: they were not run."""
    found: dict[str, int | None] = {}
    for kept in sorted(MADE.rglob("*.py.meta")):
        found.update(json.loads(kept.read_bytes())["exit_code_by_key"])
    return found


def survives(name: str) -> bool:
    """Whether it does in a process of its own too, that has imported nothing before."""
    said = configured()
    tests = [sys.executable, "-m", "pytest", "-x", "-q"]
    tests += said["pytest_add_cli_args"] + said["pytest_add_cli_args_test_selection"]
    try:
        ended = subprocess.run(
            tests,
            cwd=MADE,
            env={**os.environ, "MUTANT_UNDER_TEST": name},
            stdout=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode not in KILLED


def room(name: str) -> str:
    return ".".join(name.split(".")[1:3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="these mutants alone")
    parser.add_argument("--share", type=float, default=1.0, help="of all mutants, from 0 to 1")
    parser.add_argument("--seed", type=int, default=1, help="which share")
    asked = parser.parse_args()
    # The changes are made, and it is seen which test reaches what, before any can be chosen.
    mutmut("app.policy.timeline.*")
    every = sorted(ends())
    names = asked.names or random.Random(asked.seed).sample(every, round(len(every) * asked.share))
    mutmut(*(names if len(names) < len(every) else ()))
    ended = ends()
    left = [name for name in names if ended[name] not in KILLED and survives(name)]
    tried, alive = Counter(map(room, names)), Counter(map(room, left))
    for one in sorted(tried):
        sys.stdout.write(f"{one:30} {tried[one] - alive[one]:5} of {tried[one]:5} killed\n")
    sys.stdout.write(f"{len(names) - len(left)} of {len(names)} killed, of {len(every)}\n")
    sys.stdout.writelines(f"{name}\n" for name in left)


if __name__ == "__main__":
    main()
