"""Whether one version ever allows what another denies: proved, or shown by a case that runs."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.assessment.evidence import Evidence
from app.determination.cases import read_cases, run_case
from app.determination.compare import ActionCompared, compare
from app.determination.coverage import Mutant, mutants
from app.errors import InvalidDocument
from app.policy.language import checked_policy
from app.policy.timeline import PolicyInForce
from app.policy.version import Bound, EvaluationLine, PolicyVersion
from app.vocabulary import Outcome
from tests.determination.test_reading import BY_LINE, Json, policy, standard, threshold
from tests.laws.situations import Situation, law, policies, recorded, situations


def version(label: str, **more: Any) -> PolicyVersion:
    return policy(version=label, **more)


def signed(**more: Any) -> Json:
    """The actions, of which `deploy` must be signed off."""
    plain = {"statement": "s", "clause": "c", "needs": ["required-standards"]}
    sign_off = {"role": "ceo", "verb": "approved", "clause": "c"} | more
    return {"deploy": plain | {"sign_offs": [sign_off]}, "train": plain}


PLAIN = version("1")
STRICTER = {
    "one role more": version(
        "2",
        roles={"ceo": "c", "rso": "r", "board": "b"},
        thresholds={
            "T": threshold(ruled_out={"finding": "ruled-out", "by": ["ceo", "rso", "board"]})
        },
    ),
    "one criterion more": version(
        "2",
        standards={"s": standard(criteria={n: {"statement": "s", "clause": "c"} for n in "ab"})},
    ),
    "a sign-off": version("2", actions=signed()),
    "a shorter life": version(
        "2",
        thresholds={
            "T": threshold(
                ruled_out={"finding": "ruled-out", "by": ["ceo", "rso"], "max_age": "P6M"}
            )
        },
    ),
    "reports that lapse": version("2", standards={"s": standard(review="P1Y")}),
    "a prohibition": version(
        "2",
        thresholds={
            "T": threshold(prohibits=[{"actions": ["deploy"], "statement": "s", "clause": "c"}])
        },
    ),
    "a higher line": version(
        "2",
        thresholds={"T": threshold(reached={"any": [{"finding": "reached"}, BY_LINE["reached"]]})},
    ),
}


def as_compared(situation: Situation) -> Situation:
    """Without what is not looked at: findings that lean on other models, orders that require."""
    evidence = situation.evidence
    leaning = (Outcome.BOUNDED_BY, Outcome.CARRIED_OVER)
    assessments = [
        one.item.model_copy(
            update={"findings": tuple(f for f in one.item.findings if f.outcome not in leaning)}
        )
        for one in evidence.assessments
    ]
    kept = Evidence(
        recorded("asm", assessments),
        evidence.safeguards,
        evidence.sign_offs,
        evidence.exceptions,
        tuple(one for one in evidence.orders if one.item.order.effect != "require"),
    )
    return replace(situation, evidence=kept)


def readable(mutant: Mutant) -> PolicyVersion | None:
    """The changed version, unless the language refuses it."""
    try:
        return checked_policy(mutant.document)
    except InvalidDocument:
        return None


def under(version: PolicyVersion, situation: Situation) -> str:
    """What is decided as if that version were in force."""
    in_force = PolicyInForce(version, "", version.effective, situation.policy.until)
    return replace(situation, policy=in_force).decide().decision


def on(action: str, a: PolicyVersion, b: PolicyVersion) -> ActionCompared:
    """What is said of that action."""
    (found,) = (one for one in compare(a, b).actions if one.action == action)
    return found


@pytest.mark.parametrize("stricter", STRICTER.values(), ids=STRICTER)
def test_a_stricter_version_is_never_looser_and_the_plain_one_is(stricter: PolicyVersion) -> None:
    assert compare(PLAIN, stricter).verdict == "never"
    assert on("deploy", stricter, PLAIN).verdict == "found"


@pytest.mark.parametrize("stricter", STRICTER.values(), ids=STRICTER)
def test_a_case_that_is_found_shows_it_when_it_is_run(stricter: PolicyVersion) -> None:
    """By the reader of cases, under each of the two versions."""
    found = on("deploy", stricter, PLAIN)
    assert found.case is not None
    text = yaml.safe_dump({"policy": "p@1", "cases": [found.case]})
    (case,) = read_cases(text.encode()).cases

    assert run_case(case, PLAIN) == ()
    (difference,) = run_case(case, stricter)
    assert (difference.path, difference.got) == ("/decision", "deny")
    assert found.because


def test_an_action_that_the_other_lacks_it_denies() -> None:
    more = signed() | {
        "flight": signed()["deploy"],
    }
    flies = version("2", actions=more)

    assert on("flight", PLAIN, flies).verdict == "found"
    assert compare(PLAIN, version("2", actions=signed())).verdict == "never"


def test_versions_of_two_policies_are_not_compared() -> None:
    with pytest.raises(ValueError, match="two policies"):
        compare(PLAIN, version("1", policy="q"))


@given(situations().map(as_compared), st.data())
@settings(law, max_examples=100)
def test_what_is_never_allowed_is_not_allowed_on_other_evidence_either(
    situation: Situation, data: st.DataObject
) -> None:
    """A version and others with one small change to it, on evidence that was not made for them."""
    one, action = situation.version, situation.question.action
    changes = data.draw(st.lists(st.sampled_from(list(mutants(one))), max_size=8))
    for other in filter(None, map(readable, changes)):
        for a, b in ((one, other), (other, one)):
            if under(a, situation) == "deny" != under(b, situation):
                assert on(action, a, b).verdict != "never"


@given(policies())
@settings(law, max_examples=6)
def test_no_version_is_looser_than_itself(one: PolicyVersion) -> None:
    """It is searched all the same: a line that nothing rests on makes it another version."""
    unused = EvaluationLine(title="t", unit="u", riskier="higher", rule_out=Bound(below=Decimal(1)))
    other = one.model_copy(update={"version": "2", "lines": {**one.lines, "unused": unused}})

    assert compare(one, other).verdict != "found"
    assert compare(other, one).verdict != "found"
