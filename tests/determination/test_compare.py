"""Whether one version ever allows what another denies: proved, or shown by a case that runs."""

import json
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
from app.policy.diff import diff
from app.policy.language import checked_policy
from app.policy.timeline import PolicyInForce
from app.policy.version import Bound, EvaluationLine, PolicyVersion
from app.vocabulary import Outcome
from tests.determination.test_reading import (
    BY_LINE,
    LINES,
    RULED_OUT,
    Json,
    policy,
    standard,
    threshold,
)
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


def test_what_both_ask_for_alike_needs_no_search() -> None:
    """Neither words, nor lines that settle nothing, levels, obligations or limitations deny."""
    otherwise = version(
        "2",
        levels=["L1", "L2", "L3"],
        lines=LINES | {"further": LINES["up"]},
        thresholds={
            "T": threshold(
                statement="Something else.",
                evidence=[],
                level="L3",
                limits=[{"id": "l", "actions": ["deploy"], "statement": "s", "clause": "c"}],
                obligations=[{"id": "o", "statement": "s", "clause": "c"}],
            )
        },
    )

    for a, b in ((PLAIN, otherwise), (otherwise, PLAIN)):
        compared = compare(a, b)
        assert compared.verdict == "never"
        assert [one.looked_at for one in compared.actions] == [0, 0]


def test_only_what_is_changed_is_searched() -> None:
    """Twelve further thresholds would be 2^12 ways to deny, if they were looked at together."""
    many = {f"T{i}": threshold() for i in range(12)}
    by_one = threshold(ruled_out={"finding": "ruled-out", "by": ["ceo"]})
    stricter, looser = version("1", thresholds=many), version("2", thresholds=many | {"T0": by_one})

    assert on("deploy", stricter, looser).verdict == "found"
    never = on("deploy", looser, stricter)
    assert (never.verdict, never.looked_at < 100) == ("never", True)


def test_a_search_that_ends_early_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stricter = STRICTER["one role more"]
    assert on("deploy", PLAIN, stricter).verdict == "never"

    monkeypatch.setattr("app.determination.compare._QUESTIONS", 1)

    assert on("deploy", PLAIN, stricter).verdict == "not-found"
    assert compare(PLAIN, stricter).verdict == "not-found"


def lined(label: str, **line: Any) -> PolicyVersion:
    """A version in which a line alone settles the threshold."""
    return version(
        label, lines=LINES | {"up": LINES["up"] | line}, thresholds={"T": threshold(**BY_LINE)}
    )


def test_a_result_may_be_told_in_the_unit_of_one_of_the_two() -> None:
    """It is held against the line of that one only: the other was told nothing."""
    found = on("deploy", lined("1"), lined("2", unit="w"))

    assert found.case is not None
    assessments = found.case["evidence"]["assessments"]
    assert "w" in [result["unit"] for one in assessments for result in one.get("results", ())]
    assert on("deploy", lined("1"), lined("2", title="Another title.")).looked_at == 0


def test_a_line_may_be_new() -> None:
    by_further = {"line": "further", "zone": "rule_out"}
    new = version(
        "2",
        lines=LINES | {"further": LINES["up"]},
        thresholds={"T": threshold(ruled_out={"any": [RULED_OUT, by_further]})},
    )

    assert on("deploy", PLAIN, new).verdict == "found"
    assert on("deploy", new, PLAIN).verdict == "never"


RENAMED = {"version": "1", "threshold": "T", "change": "renamed"}
GROUPS: dict[str, Json] = {
    "all": {"all": [{"threshold_ruled_out": "T"}]},
    "any": {"any": [{"threshold_ruled_out": "T"}, BY_LINE["ruled_out"]]},
    "at_least_k": {
        "at_least_k": {"k": "1", "of": [{"threshold_ruled_out": "T"}, BY_LINE["ruled_out"]]}
    },
}


@pytest.mark.parametrize("tree", GROUPS.values(), ids=GROUPS)
def test_a_threshold_that_is_renamed_is_the_same_one(tree: Json) -> None:
    """Also where others name it; what was found is asked about under both names."""
    named = version("1", thresholds={"T": threshold(), "W": threshold(ruled_out=tree)})
    renamed_tree = json.loads(json.dumps(tree).replace('"T"', '"U"'))
    renamed = version(
        "2",
        thresholds={
            "U": threshold(lineage=[RENAMED]),
            "W": threshold(ruled_out=renamed_tree),
        },
    )

    for a, b in ((named, renamed), (renamed, named)):
        compared = compare(a, b)
        assert (compared.verdict, compared.actions[0].looked_at) == ("never", 0)


def test_a_threshold_may_get_the_name_of_one_that_is_dropped() -> None:
    """Then that name is of two thresholds, and what the dropped one forbade is permitted."""
    forbids = [{"actions": ["deploy"], "statement": "s", "clause": "c"}]
    forbidding = threshold(prohibits=forbids)
    for old, gone in (("T", "U"), ("U", "T")):
        both = version("1", thresholds={old: threshold(), gone: forbidding})
        lineage = [RENAMED | {"threshold": old}]
        one = version("2", thresholds={gone: threshold(lineage=lineage)})

        assert on("deploy", both, one).verdict == "found"
        assert on("deploy", one, both).verdict == "never"


@given(policies(), st.data())
@settings(law, max_examples=15)
def test_where_the_diff_is_only_stricter_nothing_is_found(
    one: PolicyVersion, data: st.DataObject
) -> None:
    """Two ways to see the same: by the structure of the texts, and by what is decided."""
    changes = data.draw(st.lists(st.sampled_from(list(mutants(one))), max_size=8))
    for other in filter(None, map(readable, changes)):
        for a, b in ((one, other), (other, one)):
            effects = diff(a, b).effects
            if effects.stricter and not (effects.looser or effects.unknown):
                assert compare(a, b).verdict != "found"


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


def test_another_confidence_is_never_said_to_allow_nothing_more() -> None:
    """No made-up result shows what it does: each lies in its zone at any confidence."""
    sure = version("1", thresholds={"T": threshold(ruled_out=BY_LINE["ruled_out"])})
    bold = sure.model_copy(update={"version": "2", "confidence": Decimal("0.5")})

    assert on("deploy", sure, bold).verdict == "not-found"
    assert on("deploy", sure, sure.model_copy(update={"version": "2"})).verdict == "never"


@pytest.mark.parametrize(
    ("kinds", "verdict"),
    [(["comprehensive"], "found"), (["comprehensive", "quick"], "not-found")],
)
def test_nothing_is_proved_where_an_assessment_is_needed_that_cannot_be_made_up(
    kinds: list[str], verdict: str
) -> None:
    """An assessment counts with a finding in it, and made up are those of one kind."""
    since = [{"elapsed": {"at_least": "P20D", "since_assessment": kind}} for kind in kinds]

    def lasting(label: str, max_age: str) -> PolicyVersion:
        actions = signed(max_age=max_age)
        actions["deploy"]["needs"] = ["reassessment-not-due"]
        return version(label, reassess={"clause": "c", "when": {"any": since}}, actions=actions)

    assert on("deploy", lasting("1", "P10D"), lasting("2", "P20D")).verdict == verdict


def test_a_threshold_that_needs_an_assessment_is_made_up_with_it() -> None:
    fresh = {"assessment": "comprehensive", "max_age": "P20D"}
    found = {"finding": "ruled-out", "by": ["ceo"]}
    one = version("1", thresholds={"T": threshold(ruled_out={"all": [found, fresh]})})
    other = version(
        "2", thresholds={"T": threshold(ruled_out={"all": [found, fresh | {"max_age": "P10D"}]})}
    )

    assert on("deploy", one, other).verdict == "never"
    assert on("deploy", other, one).verdict == "found"
