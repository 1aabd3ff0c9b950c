"""`aslgate policy diff`: what a version says otherwise than another."""

import json
from pathlib import Path

from tests.cli.conftest import Cli

RSP = Path(__file__).parents[2] / "policies" / "anthropic-rsp"


def test_the_changes_are_told_for_people(cli: Cli) -> None:
    ran = cli("policy", "diff", RSP / "2.1.yaml", RSP / "2.2.yaml")

    assert ran.code == 0
    assert ran.out.splitlines()[0] == "anthropic-rsp 2.1 -> anthropic-rsp 2.2"
    assert "neither   line `kernel-speedup` is added\n" in ran.out


def test_the_changes_as_json(cli: Cli) -> None:
    """Each with its pointer, and how many do what."""
    ran = cli("policy", "diff", RSP / "2.2.yaml", RSP / "3.0.yaml", "--json")

    assert ran.code == 0
    said = json.loads(ran.out)
    assert (said["older"]["version"], said["newer"]["version"]) == ("2.2", "3.0")
    assert sum(said["effects"].values()) == len(said["changes"])
    assert {one["effect"] for one in said["changes"]} == set(said["effects"])


def test_no_change_is_said_as_such(cli: Cli) -> None:
    ran = cli("policy", "diff", RSP / "2.2.yaml", RSP / "2.2.yaml")

    assert (ran.code, ran.out.splitlines()[-1]) == (0, "no change")


def test_a_faulty_document_is_refused_with_its_faults(cli: Cli, tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text((RSP / "2.2.yaml").read_text() + "\nsurprise: 1\n")

    ran = cli("policy", "diff", RSP / "2.2.yaml", faulty)

    assert ran.code == 1
    assert "/surprise" in ran.err
