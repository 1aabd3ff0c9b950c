"""Schemathesis against the running service: whatever the contract lets a caller send, and much that it
does not, is answered as the contract says.

Every check of it is on (`schemathesis.toml` says what each is told), links between operations included,
which it finds by itself. With ASLGATE_TORTURE all phases are run, for each role and for none.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.http.permissions import ROLES
from tests.hostile.conftest import Live
from tests.http.conftest import BOOTSTRAP_KEY
from tests.torture import FACTOR, LONG, at_most

HERE = Path(__file__).parent

EVERYBODY = ("(none)", *ROLES)
"""Who calls: nobody whom we know, or the holder of one role."""


def attack(live: Live, *options: str, seed: int, **environment: str) -> int:
    """How many requests were made; fails with all that schemathesis found."""
    arguments = [
        *(
            str(Path(sys.executable).with_name("st")),
            "--config-file",
            str(HERE / "schemathesis.toml"),
        ),
        *("run", f"{live.url}/openapi.json", "--checks", "all", "--seed", str(seed)),
        *("--continue-on-failure", "--no-color", "--generation-database", "none", "--no-shrink"),
        *options,
    ]
    done = subprocess.run(
        arguments,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])} | environment,
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    made = re.search(r"(\d+) generated", done.stdout)
    assert made is not None, done.stdout
    return int(made.group(1))


def failures(live: Live) -> list[str]:
    """What the service itself counts as its own fault."""
    lines = httpx.get(f"{live.url}/metrics").text.splitlines()
    return [one for one in lines if one.startswith("aslgate_requests_total") and '"500"' in one]


@pytest.mark.long
@pytest.mark.timeout(at_most(120))
def test_who_may_do_everything_finds_no_fault(live: Live) -> None:
    """One after the other, and along the links from what is recorded to where it is read."""
    key = f"Authorization: Bearer {BOOTSTRAP_KEY}"
    phases = "examples,coverage,fuzzing,stateful" if LONG else "fuzzing,stateful"
    examples = str(10 * FACTOR if LONG else 1)

    made = attack(live, "-H", key, "--phases", phases, "--max-examples", examples, seed=1)

    assert made > 100
    assert failures(live) == []


@pytest.mark.long
def test_no_caller_finds_a_fault(live: Live) -> None:
    """Each request comes from another of the roles, or without a key. What is refused for want of a
    permission is refused as documented, too.
    """
    keys = ["-", *(live.key(role) for role in ROLES)]

    made = attack(
        live,
        *("--phases", "fuzzing", "--max-examples", "2", "--exclude-checks", "ignored_auth"),
        seed=2,
        SCHEMATHESIS_HOOKS="tests.hostile.callers",
        ASLGATE_CALLERS=" ".join(keys),
    )

    assert made > 100
    assert failures(live) == []


@pytest.mark.skipif(not LONG, reason="takes minutes for each role: `make torture`")
@pytest.mark.timeout(at_most(120))
@pytest.mark.parametrize("role", EVERYBODY)
def test_no_role_finds_a_fault(
    live: Live, role: str, record_property: Callable[[str, object], None]
) -> None:
    keyed = [] if role == "(none)" else ["-H", f"Authorization: Bearer {live.key(role)}"]

    made = attack(live, *keyed, "--max-examples", str(2 * FACTOR), seed=3)

    record_property("figures", f"{made} requests")
    assert failures(live) == []
