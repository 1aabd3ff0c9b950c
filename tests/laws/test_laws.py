"""The laws of the determination, each a property of `decide` over random policies and evidence.

One in ten situations is under a shipped version.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.assessment.assessment import Assessment, Result
from app.assessment.evidence import Evidence, Recorded
from app.assessment.safeguards import SafeguardReport
from app.canonical import sha256_hex
from app.determination.record import Determination
from app.policy.version import PolicyVersion
from app.vocabulary import EARLIEST, LATEST, Decision, Outcome
from tests.laws.recording import as_line, recorded_determination, replayed, stored
from tests.laws.situations import (
    LAST,
    Situation,
    begun_in,
    instant,
    law,
    less_by_one_that_permits,
    less_strict,
    places,
    report,
    situations,
    with_item,
    without,
)

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(600)


# --- 1, 2 and 7: totality, determinism, replay -------------------------------------------------


@given(situations(), st.sampled_from((None, EARLIEST, LATEST)))
@law
def test_any_valid_input_gives_a_determination(situation: Situation, at: datetime | None) -> None:
    """Law 1, totality; at the ends of time too."""
    answer = situation.decide(at=at)

    assert Decision(answer.decision).value == answer.decision
    assert (answer.decision == "deny") == any(reason.blocks for reason in answer.reasons)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[[Situation], str]]:
    """Asks another process, with another hash seed, for the digest of an answer."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.laws.answer_elsewhere"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        asked, answered = child.stdin, child.stdout
        assert asked is not None
        assert answered is not None

        def ask(situation: Situation) -> str:
            asked.write(as_line(situation) + "\n")
            asked.flush()
            return answered.readline().strip()

        yield ask
        asked.close()


@given(situations(), st.randoms(use_true_random=False))
@law
def test_neither_order_nor_process_changes_a_byte(
    elsewhere: Callable[[Situation], str], situation: Situation, random: Random
) -> None:
    """Law 2, determinism."""
    document = recorded_determination(situation)
    evidence = situation.evidence
    shuffled = Evidence(
        tuple(random.sample(evidence.assessments, len(evidence.assessments))),
        tuple(random.sample(evidence.safeguards, len(evidence.safeguards))),
        tuple(random.sample(evidence.sign_offs, len(evidence.sign_offs))),
    )
    same = replace(situation, evidence=shuffled)

    assert recorded_determination(same) == document
    assert elsewhere(same) == sha256_hex(document)


@given(situations())
@law
def test_a_recorded_determination_is_recomputed_to_the_byte(situation: Situation) -> None:
    """Law 7, replay; from the document, and nothing but recorded bytes."""
    before = begun_in(situation.evidence, instant(-1), situation.at)
    first = recorded_determination(replace(situation, evidence=before), known_at=5, id="det_0")
    second = recorded_determination(situation, previous=first)
    store = stored(situation, first, second)

    assert replayed(first, store) == first
    assert replayed(second, store) == second


# --- 3: precaution -----------------------------------------------------------------------------


@given(situations())
@law
def test_taking_away_what_permits_never_makes_it_more_permissive(situation: Situation) -> None:
    """Law 3, precaution."""
    whole = situation.decide()
    for what, less in less_by_one_that_permits(situation):
        assert not less_strict(situation.version, situation.decide(less), whole), what


@given(situations())
@law
def test_fewer_roles_behind_a_ruling_out_never_make_it_more_permissive(
    situation: Situation,
) -> None:
    """Law 3: a finding permits by the roles that made it."""
    whole = situation.decide()
    for i, assessed in enumerate(situation.evidence.assessments):
        for j, finding in enumerate(assessed.item.findings):
            if finding.outcome is Outcome.RULED_OUT and len(finding.by) > 1:
                weaker = finding.model_copy(update={"by": finding.by[1:]})
                less = with_finding(situation.evidence, i, j, weaker)
                assert not less_strict(situation.version, situation.decide(less), whole)


@given(situations())
@law
def test_what_is_not_relied_on_permits_nothing(situation: Situation) -> None:
    """Law 3: neither such a result nor the mark itself opens anything."""
    whole = situation.decide()
    for i, assessed in enumerate(situation.evidence.assessments):
        for j, result in enumerate(assessed.item.results):
            if result.load_bearing:
                unmarked = result.model_copy(update={"load_bearing": False})
                marked = with_result(situation.evidence, i, j, unmarked)
                assert not less_strict(situation.version, situation.decide(marked), whole)
            else:
                results = without(assessed.item.results, j)
                item = assessed.item.model_copy(update={"results": results})
                less = with_assessment(situation.evidence, i, item)
                assert not less_strict(situation.version, whole, situation.decide(less))


# --- 4: risk -----------------------------------------------------------------------------------


def with_assessment(evidence: Evidence, position: int, item: Assessment) -> Evidence:
    """The evidence with another assessment in one place."""
    return replace(evidence, assessments=with_item(evidence.assessments, position, item))


def with_finding(evidence: Evidence, i: int, j: int, finding: object) -> Evidence:
    """The evidence with another finding in one place."""
    item = evidence.assessments[i].item
    findings = (*item.findings[:j], finding, *item.findings[j + 1 :])
    return with_assessment(evidence, i, item.model_copy(update={"findings": findings}))


def with_result(evidence: Evidence, i: int, j: int, result: Result) -> Evidence:
    """The evidence with another result in one place."""
    item = evidence.assessments[i].item
    results = (*item.results[:j], result, *item.results[j + 1 :])
    return with_assessment(evidence, i, item.model_copy(update={"results": results}))


def riskier(version: PolicyVersion, result: Result) -> Iterator[Result]:
    """The result with riskier values and the same form of uncertainty."""
    up = 1 if version.lines[result.line].riskier == "higher" else -1
    if result.successes is not None and result.trials is not None:
        successes = result.successes + up
        if 0 <= successes <= result.trials:
            value = Decimal(successes) / result.trials
            yield result.model_copy(update={"successes": successes, "value": value})
        return
    for by in (up, 2 * up, 4 * up):
        moved: dict[str, object] = {"value": result.value + by}
        if (interval := result.interval) is not None:
            ends = {"low": interval.low + by, "high": interval.high + by}
            moved["interval"] = interval.model_copy(update=ends)
        yield result.model_copy(update=moved)


WORSE_AND_WORSE = (
    Outcome.RULED_OUT,
    Outcome.INCONCLUSIVE,
    Outcome.NOT_RULED_OUT,
    Outcome.REACHED,
)


def worse(situation: Situation) -> Iterator[tuple[str, Evidence]]:
    """The evidence with each value riskier, each finding worse, each growth larger."""
    evidence = situation.evidence
    for i, assessed in enumerate(evidence.assessments):
        item = assessed.item
        for j, result in enumerate(item.results):
            for risky in riskier(situation.version, result):
                yield f"{result} -> {risky}", with_result(evidence, i, j, risky)
        for j, finding in enumerate(item.findings):
            if finding.outcome in WORSE_AND_WORSE:
                for outcome in WORSE_AND_WORSE[WORSE_AND_WORSE.index(finding.outcome) + 1 :]:
                    bad = finding.model_copy(update={"outcome": outcome})
                    yield f"{finding} -> {outcome}", with_finding(evidence, i, j, bad)
        if item.effective_compute_ratio != 4:
            grown = item.model_copy(update={"effective_compute_ratio": Decimal(4)})
            yield f"{assessed.id} at 4", with_assessment(evidence, i, grown)


@given(situations())
@law
def test_more_risk_never_makes_it_more_permissive(situation: Situation) -> None:
    """Law 4, risk monotony."""
    whole = situation.decide()
    for what, more in worse(situation):
        assert not less_strict(situation.version, situation.decide(more), whole), what


@given(situations())
@law
def test_a_bound_and_a_finding_carried_over_are_as_if_they_were_not_there(
    situation: Situation,
) -> None:
    """Law 4: until a policy gives them use they neither permit nor count against."""
    whole = situation.decide()
    for i, assessed in enumerate(situation.evidence.assessments):
        for j, finding in enumerate(assessed.item.findings):
            findings = without(assessed.item.findings, j)
            # An assessment without any finding under the policy is not counted at all.
            judges = any(f.policy == situation.question.policy for f in findings)
            if finding.outcome not in WORSE_AND_WORSE and judges:
                item = assessed.item.model_copy(update={"findings": findings})
                less = situation.decide(with_assessment(situation.evidence, i, item))
                assert settled(less) == settled(whole)


@given(situations())
@law
def test_evidence_under_another_policy_is_not_read(situation: Situation) -> None:
    evidence = situation.evidence
    mine = situation.question.policy
    ours = Evidence(
        tuple(
            replace(
                a,
                item=a.item.model_copy(
                    update={"findings": tuple(f for f in a.item.findings if f.policy == mine)}
                ),
            )
            for a in evidence.assessments
        ),
        tuple(s for s in evidence.safeguards if s.item.policy == mine),
        tuple(s for s in evidence.sign_offs if s.item.policy == mine),
    )

    assert situation.decide(ours) == situation.decide()


# --- 5: safeguards -----------------------------------------------------------------------------


@given(situations(), st.integers(0, LAST), st.sampled_from((None, 1, 3)))
@law
def test_a_further_safeguard_never_makes_it_stricter(
    situation: Situation, at: int, lasts: int | None
) -> None:
    """Law 5, safeguard monotony."""
    whole = situation.decide()
    for name in situation.version.standards:
        for place in places(situation.version, name):
            more = situation.decide(with_report(situation, name, place, at, lasts))
            assert not less_strict(situation.version, whole, more), (name, place)


def with_report(
    situation: Situation, name: str, place: str | None, at: int, lasts: int | None
) -> Evidence:
    """The evidence with one more report that something is met."""
    further: Recorded[SafeguardReport] = Recorded(
        "sfg_" + "f" * 32,
        "sha256:" + "f" * 64,
        report(situation.version, name, place, at, lasts=lasts),
    )
    evidence = situation.evidence
    return replace(evidence, safeguards=(*evidence.safeguards, further))


# --- 6: time -----------------------------------------------------------------------------------


def after(situation: Situation, until: datetime | None = None) -> Iterator[datetime]:
    """Instants after the question's, while its version is in force: steps, halves, and late."""
    ends = [end for end in (situation.policy.until, until) if end is not None]
    for at in (*(instant(half / 2) for half in range(2 * LAST + 14)), LATEST):
        if at > situation.at and all(at < end for end in ends):
            yield at


def settled(answer: Determination) -> object:
    """All that may not move before `valid_until`."""
    return (
        answer.decision,
        answer.level,
        answer.reassessment,
        [(t.id, t.status, t.binds) for t in answer.thresholds],
        [(s.id, s.met, s.before, s.missing) for s in answer.standards],
    )


@given(situations())
@law
def test_time_alone_never_makes_it_more_permissive(situation: Situation) -> None:
    """Law 6, time."""
    now = situation.decide()
    for at in after(situation):
        nothing_new = begun_in(situation.evidence, situation.at, at)
        then = situation.decide(nothing_new, at)
        assert not less_strict(situation.version, then, now), at


@given(situations())
@law
def test_nothing_moves_before_valid_until(situation: Situation) -> None:
    """Law 6: the answer holds until it says, as long as nothing begins."""
    now = situation.decide()
    for at in after(situation, now.valid_until):
        nothing_new = begun_in(situation.evidence, situation.at, at)
        assert settled(situation.decide(nothing_new, at)) == settled(now), at


@given(situations())
@law
def test_what_has_begun_makes_nothing_stricter_before_valid_until(situation: Situation) -> None:
    """Law 6, more: `valid_until` foresees known evidence that is still to begin."""
    now = situation.decide()
    for at in after(situation, now.valid_until):
        assert not less_strict(situation.version, now, situation.decide(at=at)), at


@given(situations())
@law
def test_valid_until_lies_ahead(situation: Situation) -> None:
    """Law 6: an answer that has lapsed as it is given would be none."""
    now = situation.decide()
    until = situation.policy.until

    assert now.valid_until is None or now.valid_until > situation.at
    assert until is None or (now.valid_until is not None and now.valid_until <= until)


# --- the generators ----------------------------------------------------------------------------


def test_the_gate_is_often_open() -> None:
    """The laws say "never more permissive": they are empty where everything is denied."""
    seen = Counter[object]()

    @given(situations())
    @settings(law, max_examples=500, derandomize=True, database=None)
    def look(situation: Situation) -> None:
        answer = situation.decide()
        seen[answer.decision] += 1
        seen.update(f"{t.status} by {t.basis}" for t in answer.thresholds)
        seen.update(f"standard {s.met}" for s in answer.standards)
        seen["holds for a time"] += answer.valid_until is not None

    look()

    assert min(seen["allow"], seen["deny"]) > 100, seen
    assert min(seen[f"{status} by finding"] for status in ("ruled_out", "reached")) > 10, seen
    assert min(seen[f"{status} by lines"] for status in ("ruled_out", "reached")) > 3, seen
    assert min(seen[f"not_ruled_out by {b}"] for b in ("precaution", "unassessed")) > 50, seen
    assert min(seen[f"standard {met}"] for met in ("yes", "no", "unknown")) > 20, seen
    assert seen["holds for a time"] > 100, seen
