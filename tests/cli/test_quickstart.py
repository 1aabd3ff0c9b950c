"""`aslgate quickstart` as a stranger runs it: twice, killed, beside another, and stopped."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from app.policy.language import policy_digest, read_policy
from tests.cli.conftest import POLICIES, Quickstart, QuickstartAt
from tests.faults.recorded import LedgerRead, read_ledger
from tests.faults.service import Service, environment, free_port

pytestmark = pytest.mark.long


@pytest.fixture
def base(server_folder: Path) -> Path:
    return server_folder / "aslgate"


def panel(said: str, model: str) -> str:
    """The box that shows the determination on *model*."""
    return said.partition(f"─ {model} ")[2].partition("╰")[0]


def row(panel: str, name: str) -> str:
    """What stands beside *name*, its blanks made one."""
    (line,) = (line for line in panel.splitlines() if line.strip("│ ").startswith(name + "  "))
    return " ".join(line.strip("│ ").split())


def evidence(ledger: LedgerRead) -> list[str]:
    return [entry.subject for entry in ledger.entries if entry.kind != "determination"]


def ledger_of(base: Path) -> LedgerRead:
    """The ledger of the Postgres that runs on *base*."""
    service = Service(base.parent)
    assert service.data_dir == base
    return read_ledger(service.address())


def stopped_cleanly(base: Path) -> bool:
    return Service(base.parent).postgres_stopped_cleanly()


def test_two_real_models_are_shown_with_what_the_policy_requires_of_them(
    running: Quickstart,
) -> None:
    """Opus 4 needs ASL-3 since CBRN-3 is not ruled out; Sonnet 4 needs ASL-2, and it is."""
    said = running.said()

    opus = panel(said, "claude-opus-4@20250514")
    assert row(opus, "decision") == "decision ALLOW"
    assert row(opus, "level required") == "level required ASL-3"
    assert row(opus, "policy") == "policy anthropic-rsp 2.2"
    assert row(opus, "CBRN-3").startswith("CBRN-3 not ruled out precaution asl-3-")
    assert row(opus, "asl-3-security") == "asl-3-security ASL-3 met -"

    sonnet = panel(said, "claude-sonnet-4@20250514")
    assert row(sonnet, "decision") == "decision ALLOW"
    assert row(sonnet, "level required") == "level required ASL-2"
    assert row(sonnet, "CBRN-3") == "CBRN-3 ruled out finding -"

    text = (POLICIES / "anthropic-rsp" / "2.2.yaml").read_bytes()
    digest = policy_digest(read_policy(text, "yaml"))
    assert digest in opus
    assert digest in sonnet


def test_a_person_sees_no_log_lines(running: Quickstart) -> None:
    """The log is in a file, one JSON object a line; the terminal is for what a person reads."""
    assert '{"event"' not in running.said()
    lines = (running.data_dir / "service.log").read_text().splitlines()
    assert lines
    assert all(json.loads(line)["event"] for line in lines)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_commands_that_it_prints_work_as_they_are(running: Quickstart) -> None:
    """Typed as they stand, with nothing replaced, they get the answers that were shown."""
    commands = running.commands()
    key = key_of(running)
    curls = [command for command in commands if command.startswith("curl")]

    answers = [
        json.loads(
            subprocess.run(
                ["/bin/sh", "-c", f"{key}\n{curl}"],
                check=True,
                capture_output=True,
                text=True,
                timeout=20,
                env=environment(),
            ).stdout
        )
        for curl in curls
    ]

    assert [(a["model"], a["decision"], a["level"]) for a in answers] == [
        ("claude-opus-4@20250514", "allow", "ASL-3"),
        ("claude-sonnet-4@20250514", "allow", "ASL-2"),
    ]


def test_ctrl_c_stops_the_service_and_then_the_database(
    base: Path, quickstart: QuickstartAt
) -> None:
    running = quickstart(base, free_port())
    running.wait_until_it_runs()

    assert running.send(signal.SIGINT) == 0
    assert stopped_cleanly(base)
    assert "Traceback" not in running.said()
    assert running.said().rstrip().endswith("nothing is lost.")


def test_sigterm_stops_it_too(base: Path, quickstart: QuickstartAt) -> None:
    running = quickstart(base, free_port())
    running.wait_until_it_runs()

    assert running.send(signal.SIGTERM) == 128 + 15
    assert stopped_cleanly(base)
    assert "Traceback" not in running.said()


def test_running_it_again_records_no_evidence_twice(base: Path, quickstart: QuickstartAt) -> None:
    """The second run finds everything as the first one left it, also after `kill -9`."""
    port = free_port()
    first = quickstart(base, port)
    first.wait_until_it_runs()
    recorded = evidence(ledger_of(base))
    assert first.send(signal.SIGKILL) == -9

    second = quickstart(base, port)
    said = second.wait_until_it_runs()

    assert row(panel(said, "claude-opus-4@20250514"), "decision") == "decision ALLOW"
    assert evidence(ledger_of(base)) == recorded
    assert key_of(second) == key_of(first)
    assert second.send(signal.SIGINT) == 0
    assert stopped_cleanly(base)


def key_of(running: Quickstart) -> str:
    (key,) = (command for command in running.commands() if command.startswith("export"))
    return key


def test_a_second_one_on_the_same_port_says_so_in_one_sentence(
    running: Quickstart, quickstart: QuickstartAt
) -> None:
    port = running.port
    second = quickstart(running.data_dir, port)

    assert second.ended() == 1
    (line,) = second.said().splitlines()
    assert line == f"aslgate: something already listens on port {port}: choose another with --port"


def test_a_second_one_on_the_same_data_shares_its_database(
    base: Path, quickstart: QuickstartAt
) -> None:
    """It attaches to the running Postgres, and leaves it running when it ends."""
    first = quickstart(base, free_port())
    first.wait_until_it_runs()
    second = quickstart(base, free_port())
    second.wait_until_it_runs()

    assert second.send(signal.SIGINT) == 0
    assert ledger_of(base).size > 0
    assert first.send(signal.SIGINT) == 0
    assert stopped_cleanly(base)
