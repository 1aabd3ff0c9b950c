"""What would settle it: each set that is named does what it says, and no part of it does."""

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings

from app.assessment.evidence import Evidence, Recorded
from app.determination.decide import Question
from app.determination.moves import Move, Placed, joined, piece
from app.determination.reading import Read
from app.determination.settling import Settling, settling
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.vocabulary import JSON
from tests.determination.test_reading import MODEL, SECOND, day, policy, reported
from tests.laws.situations import Situation, law, situations

few = settings(law, max_examples=60)


def then(situation: Situation, moves: tuple[Move, ...]) -> int:
    """How strict the answer is a moment later, with those moves on record."""
    read = Read(situation.version, situation.model, situation.evidence, situation.at)
    later = situation.at + SECOND
    made = [
        piece(read, situation.question.action, Placed(move, later), f"move_{i}")
        for i, move in enumerate(moves)
    ]
    return situation.decide(joined(situation.evidence, made), later).strictness


def settled(situation: Situation) -> Settling:
    return settling(situation.question, situation.policy, situation.model, situation.evidence)


def parts_of(moves: tuple[Move, ...]) -> Iterator[tuple[Move, ...]]:
    """The set without each of its members."""
    return combinations(moves, len(moves) - 1)


@given(situations())
@few
def test_each_set_that_clears_does_and_no_part_of_it_does(situation: Situation) -> None:
    now = situation.decide().strictness
    for moves in settled(situation).clears[:6]:
        assert then(situation, moves) < now, moves
        for part in parts_of(moves):
            assert then(situation, part) >= now, (moves, part)


@given(situations())
@few
def test_each_set_that_blocks_does_and_no_part_of_it_does(situation: Situation) -> None:
    now = situation.decide().strictness
    for moves in settled(situation).blocks[:6]:
        assert then(situation, moves) > now, moves
        for part in parts_of(moves):
            assert then(situation, part) <= now, (moves, part)


def asked(action: str = "deploy", known: bool = True) -> Settling:
    """What would settle it for a model of which nothing is known."""
    version = policy()
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON) if known else None
    return settling(Question("m@1", action, "p", day(1)), in_force, model, Evidence())


def test_either_the_threshold_is_ruled_out_or_the_standard_is_met() -> None:
    found = asked()
    kinds = {tuple(move.kind for move in moves) for moves in found.clears}

    assert found.decision == "deny"
    assert found.complete
    assert kinds == {("finding",), ("safeguard",)}
    assert found.blocks == ()


def test_what_is_allowed_is_cleared_by_nothing_and_blocked_by_each_thing_against_it() -> None:
    found = asked("train")

    assert found.decision == "allow"
    assert found.clears == ()
    assert {tuple(move.kind for move in moves) for moves in found.blocks} == {
        ("finding",),
        ("order",),
    }


@pytest.mark.parametrize(("action", "known"), [("flight", True), ("deploy", False)])
def test_no_evidence_opens_what_nobody_names(action: str, known: bool) -> None:
    found = asked(action, known)

    assert (found.decision, found.clears, found.blocks, found.complete) == ("deny", (), (), True)


def test_what_the_next_moment_settles_by_itself_needs_nothing() -> None:
    """A report that begins then clears it, and nothing more has to be recorded for that."""
    version = policy()
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    begins = reported(10).model_copy(update={"valid_from": day(10) + SECOND})
    evidence = Evidence(safeguards=(Recorded("sfg_1", "sha256:1", begins),))

    found = settling(Question("m@1", "deploy", "p", day(10)), in_force, model, evidence)

    assert (found.decision, found.clears, found.complete) == ("deny", (), True)
