"""Whether one version ever allows what another denies: proved, or shown by a case that runs."""

from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from app.determination.cases import read_cases, run_case
from app.determination.compare import ActionCompared, compare
from app.policy.version import Bound, EvaluationLine, PolicyVersion
from tests.determination.test_reading import BY_LINE, Json, policy, standard, threshold
from tests.laws.situations import law, policies


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


@given(policies())
@settings(law, max_examples=6)
def test_no_version_is_looser_than_itself(one: PolicyVersion) -> None:
    """It is searched all the same: a line that nothing rests on makes it another version."""
    unused = EvaluationLine(title="t", unit="u", riskier="higher", rule_out=Bound(below=Decimal(1)))
    other = one.model_copy(update={"version": "2", "lines": {**one.lines, "unused": unused}})

    assert compare(one, other).verdict != "found"
    assert compare(other, one).verdict != "found"
