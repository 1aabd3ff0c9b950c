"""What answers something that counts against: it must be newer, both in time and in the ledger."""

from typing import Any

import pytest

from app.assessment.assessment import Assessment
from app.assessment.evidence import Evidence, Recorded
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.determination.decide import Question, decide
from app.determination.reading import MOST_RULINGS_OUT, Read
from app.determination.record import Determination
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import JSON, Truth
from tests.determination.test_leaning import DUE, leaning, leans, on_t
from tests.determination.test_leaning import asked as asked_leaning
from tests.determination.test_reading import (
    BY_LINE,
    MODEL,
    RULED_OUT,
    Json,
    assessed,
    day,
    measured,
    policy,
    reported,
    signed,
    standard,
    threshold,
)

FOUND: Json = {"T": "ruled-out"}
DOES_NOT_BIND: Json = {"means": "does-not-bind", "clause": "c"}
WITH_LINE = policy(
    thresholds={
        "T": threshold(
            ruled_out={"all": [RULED_OUT, BY_LINE["ruled_out"] | {"max_age": "P9D"}]},
            not_ruled_out=DOES_NOT_BIND,
        )
    }
)
EITHER = policy(thresholds={"T": threshold(ruled_out={"any": [RULED_OUT, BY_LINE["ruled_out"]]})})
LINE_ALONE = policy(thresholds={"T": threshold(ruled_out=BY_LINE["ruled_out"])})


def asked(
    version: PolicyVersion,
    *pieces: tuple[int | None, Assessment | SafeguardReport | SignOff],
    at: float = 10,
    semantics: int = 3,
) -> Determination:
    """The answer where each piece lies at that place of the ledger."""

    def kept(kind: type, prefix: str) -> tuple[Recorded[Any], ...]:
        mine = ((index, item) for index, item in pieces if isinstance(item, kind))
        return tuple(Recorded(f"{prefix}_{i}", "d", item, p) for i, (p, item) in enumerate(mine))

    evidence = Evidence(kept(Assessment, "asm"), kept(SafeguardReport, "sfg"), kept(SignOff, "sgn"))
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    in_force = PolicyInForce(version, "sha256:0", version.effective, None)
    question = Question("m@1", "deploy", "p", day(at))
    return decide(question, in_force, model, evidence, semantics)


def status(*args: Any, **more: Any) -> str:
    return on_t(asked(*args, **more))[0]


@pytest.mark.parametrize("outcome", ["inconclusive", "not-ruled-out", "reached"])
def test_a_ruling_out_dated_ahead_does_not_outlive_what_was_recorded_after_it(outcome: str) -> None:
    """Nor does one answer what is reported late: whoever ruled it out could not know of it."""
    ahead, against = (1, assessed(6, FOUND)), (2, assessed(5, {"T": outcome}))

    assert status(policy(), ahead, against) != "ruled_out"
    assert status(policy(), ahead, against, semantics=2) == "ruled_out"
    assert status(policy(), (3, assessed(6, FOUND)), against) == "ruled_out"


def test_what_is_only_supposed_comes_after_all_that_is_recorded() -> None:
    assert status(policy(), (9, assessed(5, {"T": "reached"})), (None, assessed(6, FOUND))) == (
        "ruled_out"
    )
    assert status(policy(), (9, assessed(6, FOUND)), (None, assessed(5, {"T": "reached"}))) == (
        "reached"
    )


def test_each_of_two_rulings_out_answers_what_it_is_newer_than() -> None:
    """One is newer in time alone, the other in the ledger alone: together they answer nothing."""
    reached = (5, assessed(5, {"T": "reached"}))

    assert status(policy(), reached, (4, assessed(7, FOUND)), (6, assessed(4, FOUND))) == "reached"
    assert status(policy(), reached, (4, assessed(7, FOUND)), (6, assessed(6, FOUND))) == (
        "ruled_out"
    )


def test_a_report_dated_ahead_does_not_outlive_that_its_standard_is_not_met() -> None:
    ahead, unmet = (1, reported(6)), (2, reported(5, met=False))

    def met(*pieces: Any, **more: Any) -> str:
        (found,) = (s for s in asked(policy(), *pieces, **more).standards if s.id == "s")
        return found.met

    assert met(ahead, unmet) == "no"
    assert met(ahead, unmet, semantics=2) == "yes"
    assert met((3, reported(6)), unmet) == "yes"


def test_a_stronger_standard_s_report_dated_ahead_does_not_either() -> None:
    version = policy(standards={"s": standard(), "strong": standard(subsumes=["s"])})
    unmet = (2, reported(5, met=False))

    def met(index: int) -> str:
        pieces = (unmet, (index, reported(6, standard="strong")))
        (found,) = (s for s in asked(version, *pieces).standards if s.id == "s")
        return found.met

    assert [met(1), met(3)] == ["no", "yes"]


def test_an_approval_dated_ahead_does_not_outlive_its_reversal() -> None:
    approved = {"statement": "s", "clause": "c", "needs": ["required-standards"]}
    needed = {"sign_offs": [{"role": "ceo", "verb": "approved", "clause": "c"}]}
    reversal = {"may_reverse": [{"role": "ceo", "clause": "c"}]}
    for more, code in ((needed, "sign_off.missing"), (reversal, "sign_off.reversed")):
        version = policy(actions={"deploy": approved | more, "train": approved})

        def codes(index: int, version: PolicyVersion = version, **more: Any) -> list[str]:
            pieces = (index, signed(6)), (2, signed(5, verb="reversed"))
            return [reason.code for reason in asked(version, *pieces, **more).reasons]

        assert code in codes(1)
        assert code not in codes(1, semantics=2)
        assert code not in codes(3)


def test_a_ruling_out_whose_line_was_not_measured_clears_nothing() -> None:
    reached, ruled_out = (1, assessed(2, {"T": "reached"})), (2, assessed(3, FOUND))

    assert status(WITH_LINE, reached, ruled_out) == "reached"
    assert status(WITH_LINE, reached, ruled_out, semantics=2) == "not_ruled_out"
    crossed = (3, measured(4, "4"))
    assert status(WITH_LINE, reached, ruled_out, crossed) == "reached"


def test_a_ruling_out_that_held_when_it_was_found_clears_for_good() -> None:
    pieces = (1, assessed(2, {"T": "reached"})), (2, measured(3, "1")), (3, assessed(3, FOUND))

    assert status(WITH_LINE, *pieces) == "ruled_out"
    assert status(WITH_LINE, *pieces, at=20) == "not_ruled_out"
    assert status(WITH_LINE, *pieces, (4, assessed(5, {"T": "inconclusive"}))) == "not_ruled_out"


def test_a_number_that_is_reported_late_makes_no_older_ruling_out_hold() -> None:
    """Nobody knew of it when the threshold was ruled out; it helps as long as it is fresh itself."""
    pieces = (1, assessed(2, {"T": "reached"})), (2, assessed(3, FOUND)), (9, measured(3, "1"))

    assert status(WITH_LINE, *pieces) == "ruled_out"
    assert asked(WITH_LINE, *pieces).valid_until == day(12)
    assert status(WITH_LINE, *pieces, at=20) == "reached"


def test_of_hundreds_of_rulings_out_the_newest_are_asked_what_they_clear() -> None:
    """Each is read as it was when it was found, so that asking all would take time without end."""
    found = [assessed(1, {"T": "reached"}), *(assessed(1 + i / 1000, FOUND) for i in range(1, 500))]
    pieces = tuple(Recorded(f"asm_{i:03d}", "d", one, i) for i, one in enumerate(found))
    model = parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON)
    read = Read(WITH_LINE, model, Evidence(pieces), day(10))

    assert read.reached("T").truth is Truth.YES
    assert len(read.held) == MOST_RULINGS_OUT


def test_one_that_held_only_later_clears_as_long_as_it_holds() -> None:
    """A line that was measured after the finding lapses, and what was found stands again."""
    pieces = (1, assessed(2, {"T": "reached"})), (2, assessed(3, FOUND)), (3, measured(4, "1"))

    assert status(WITH_LINE, *pieces) == "ruled_out"
    assert asked(WITH_LINE, *pieces).valid_until == day(13)
    assert status(WITH_LINE, *pieces, at=12.9) == "ruled_out"
    assert status(WITH_LINE, *pieces, at=13) == "reached"


def test_an_alternative_to_judgement_helps_no_judgement_to_clear() -> None:
    """The line would do instead of all findings; it is not what the board's finding lacks."""
    board = {"all": [{"finding": "ruled-out", "by": ["rso"]}, {"fact": "f", "at_least": "1"}]}
    facts = {"f": {"title": "t", "unit": "u"}}
    for other in (BY_LINE["ruled_out"], {"threshold_ruled_out": "T"}):
        reached = threshold(
            ruled_out={"any": [board, RULED_OUT, other]}, not_ruled_out=DOES_NOT_BIND
        )
        version = policy(thresholds={"T": threshold(), "U": reached}, facts=facts)
        pieces = (
            (1, assessed(2, {"U": "reached"})),
            (2, measured(3, "1")),
            (3, assessed(4, {"U": "ruled-out"}, by=["rso"])),
        )
        (found,) = (one for one in asked(version, *pieces).thresholds if one.id == "U")

        assert found.status == "reached"


@pytest.mark.parametrize("outcome", ["inconclusive", "not-ruled-out", "reached"])
def test_no_number_answers_what_people_found_where_people_settle_it(outcome: str) -> None:
    against, line = (1, assessed(2, {"T": outcome}, by=["ceo"])), (2, measured(3, "1"))

    assert status(EITHER, against, line) != "ruled_out"
    assert status(EITHER, against, line, (3, assessed(4, FOUND))) == "ruled_out"
    if outcome != "reached":
        assert status(EITHER, against, line, semantics=2) == "ruled_out"


def test_a_newer_number_answers_it_where_only_lines_settle_it() -> None:
    against = (1, assessed(2, {"T": "inconclusive"}))

    assert status(LINE_ALONE, against, (2, measured(3, "1"))) == "ruled_out"
    assert status(LINE_ALONE, against, (2, measured(2, "1"))) == "not_ruled_out"


CARRIES: Json = {"carried_over": {"by": ["ceo"], "max_age": "P30D"}}


@pytest.mark.parametrize(("outcome", "due"), [("ruled-out", "no"), ("reached", "yes")])
def test_a_clock_runs_from_another_model_s_assessment_while_that_bears(
    outcome: str, due: str
) -> None:
    version = leaning(CARRIES, reassess=DUE)
    own, old = [leans(9, "carried-over", "old@1")], {"old@1": [assessed(1, {"T": outcome})]}

    assert asked_leaning(version, own, old).reassessment == due


def test_a_clock_does_not_run_from_what_was_assessed_there_after_it_was_carried_over() -> None:
    version = leaning(CARRIES, reassess=DUE)
    own = [leans(2, "carried-over", "old@1")]
    anew = {"old@1": [assessed(1, FOUND), assessed(9, FOUND)]}

    assert asked_leaning(version, own, anew).valid_until == day(21)
    assert asked_leaning(version, own, anew, at=21).reassessment == "yes"


def test_valid_until_foresees_that_a_carrying_over_will_not_bear() -> None:
    """What is found there later is on record already, with the time that it speaks for."""
    version = leaning(CARRIES, reassess=DUE)
    own = [leans(9, "carried-over", "old@1")]
    old = {"old@1": [assessed(1, FOUND), assessed(12, {"T": "reached"})]}

    assert asked_leaning(version, own, old).valid_until == day(12)
    assert asked_leaning(version, own, old, at=12).reassessment == "yes"


def test_what_was_found_outweighs_a_line_again_once_its_answer_lapses() -> None:
    """The finding clears only while the line beside it is fresh; the other line never lapses."""
    answered = {"all": [RULED_OUT, BY_LINE["ruled_out"] | {"max_age": "P9D"}]}
    other = {"line": "down", "zone": "rule_out"}
    version = policy(thresholds={"T": threshold(ruled_out={"any": [answered, other]})})
    pieces = (
        (1, assessed(2, {"T": "inconclusive"})),
        (2, assessed(3, FOUND)),
        (3, measured(4, "1")),
        (4, measured(4, "9", line="down")),
    )

    assert status(version, *pieces) == "ruled_out"
    assert asked(version, *pieces).valid_until == day(13)
    assert status(version, *pieces, at=13) == "not_ruled_out"


def test_a_bound_found_at_the_instant_of_what_speaks_against_it_bears_nothing() -> None:
    version = leaning({"bounded_by": {"by": ["ceo"]}})
    big = {"big@1": [assessed(1, FOUND)]}

    def found(at: float) -> str:
        own = [assessed(10, {"T": "inconclusive"}), leans(at, "bounded-by", "big@1")]
        return on_t(asked_leaning(version, own, big, at=11))[0]

    assert [found(10), found(10.5)] == ["not_ruled_out", "ruled_out"]
    own = [assessed(10, {"T": "inconclusive"}), leans(9, "bounded-by", "big@1")]
    assert on_t(asked_leaning(version, own, big, at=10))[0] == "not_ruled_out"


@pytest.mark.parametrize(("unit", "status_"), [(None, "ruled_out"), ("u", "ruled_out")])
def test_a_result_counts_in_the_unit_of_its_line(unit: str | None, status_: str) -> None:
    said = {} if unit is None else {"unit": unit}

    assert status(LINE_ALONE, (1, measured(2, "1", **said))) == status_
    assert status(LINE_ALONE, (1, measured(2, "1", unit="percent"))) == "not_ruled_out"


def test_a_standard_that_a_stronger_one_stands_for_is_met_until_that_lapses() -> None:
    version = policy(standards={"s": standard(), "strong": standard(subsumes=["s"])})
    found = asked(version, (1, reported(5, standard="strong", until=20)))
    (s,) = (one for one in found.standards if one.id == "s")

    assert s.met == "yes"
    assert found.valid_until == day(20)
