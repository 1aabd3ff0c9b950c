"""What an older engine said can be recomputed; what was recorded after what it judges is flagged."""

from dataclasses import replace

import pytest

from app.assessment.assessment import Assessment
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.determination.decide import Question, decide
from app.determination.record import Determination
from app.parsing import parse
from app.policy.timeline import FirstRecorded, PolicyInForce, first_recorded
from app.vocabulary import JSON
from tests.determination.test_leaning import DUE, leaning, leans, pieces
from tests.determination.test_reading import (
    BY_LINE,
    MODEL,
    RULED_OUT,
    assessed,
    day,
    measured,
    policy,
    threshold,
)

EITHER = policy(thresholds={"T": threshold(ruled_out={"any": [RULED_OUT, BY_LINE["ruled_out"]]})})


def asked(
    *items: Assessment,
    first: FirstRecorded | None = None,
    index: int | None = None,
    semantics: int = 2,
) -> Determination:
    evidence = Evidence(tuple(Recorded(f"asm_{i}", "d", one, index) for i, one in enumerate(items)))
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = replace(
        PolicyInForce(EITHER, "sha256:0", EITHER.effective, None), first_recorded=first
    )
    question = Question("m@1", "deploy", "p", day(10))
    return decide(question, in_force, model, evidence, semantics)


@pytest.mark.parametrize("outcome", ["inconclusive", "not-ruled-out"])
def test_no_line_flips_a_judgement_that_is_as_new(outcome: str) -> None:
    """The first engine let it, and says so still when what it said is recomputed."""
    line = measured(2, "1")

    def status(at: float, semantics: int) -> str:
        return asked(line, assessed(at, {"T": outcome}), semantics=semantics).thresholds[0].status

    assert [status(at, 2) for at in (1, 2, 3)] == ["ruled_out", "not_ruled_out", "not_ruled_out"]
    assert [status(at, 1) for at in (1, 2, 3)] == ["ruled_out", "ruled_out", "ruled_out"]


def test_a_later_ruling_out_lets_the_line_speak_again() -> None:
    found = asked(
        measured(2, "1"), assessed(3, {"T": "inconclusive"}), assessed(4, {"T": "ruled-out"})
    )

    assert found.thresholds[0].status == "ruled_out"


@pytest.mark.parametrize(
    ("index", "flags"), [(4, ("line_after_result",)), (5, ()), (6, ()), (None, ())]
)
def test_a_line_that_came_after_its_result_is_flagged(
    index: int | None, flags: tuple[str, ...]
) -> None:
    first = FirstRecorded(lines={"up": 5})
    found = asked(measured(2, "1"), first=first, index=index)

    assert found.thresholds[0].flags == flags
    assert set(flags) <= set(found.flags)


@pytest.mark.parametrize(("index", "flagged"), [(4, True), (5, False), (None, False)])
def test_a_threshold_that_came_after_what_was_found_of_it_is_flagged(
    index: int | None, flagged: bool
) -> None:
    first = FirstRecorded(thresholds={"T": 5})
    found = asked(assessed(2, {"T": "ruled-out"}), first=first, index=index)

    assert ("threshold_after_result" in found.thresholds[0].flags) is flagged


def test_neither_is_said_where_nothing_is_recorded_nor_by_the_first_engine() -> None:
    late = FirstRecorded(lines={"up": 5}, thresholds={"T": 5})

    assert asked(measured(2, "1"), index=4).flags == ()
    assert asked(measured(2, "1"), first=late, index=4, semantics=1).flags == ()


def test_what_is_measured_is_first_recorded_with_the_first_version_that_measures_it_so() -> None:
    other = policy(version="2", thresholds={"T": threshold(statement="another", evidence=["up"])})

    assert first_recorded(other, [(other, 9), (EITHER, 3)]) == FirstRecorded(
        lines={"up": 3, "down": 3}, thresholds={"T": 9, "Z": 3}
    )


@pytest.mark.parametrize(("semantics", "due"), [(2, "no"), (3, "yes")])
def test_an_older_engine_ran_a_clock_from_what_no_longer_bore(semantics: int, due: str) -> None:
    """It was assessed there, and found to be reached: since the third meaning that is no start."""
    carries = {"carried_over": {"by": ["ceo"], "max_age": "P30D"}}
    version = leaning(carries, reassess=DUE)
    old = parse(MODEL, {"model": "old@1", "developer": "dev"}, JSON)
    evidence = Evidence(
        pieces("m", leans(9, "carried-over", "old@1")),
        others={"old@1": OtherModel(old, Evidence(pieces("old", assessed(1, {"T": "reached"}))))},
    )
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)

    found = decide(Question("m@1", "deploy", "p", day(10)), in_force, model, evidence, semantics)

    assert found.reassessment == due
