"""The laws of the determination, each a property of `decide` over random policies and evidence.

Some of the situations are under a shipped version.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.assessment.assessment import Assessment, Finding, Result
from app.assessment.evidence import Evidence, OtherModel, Recorded
from app.assessment.exceptions import Approved
from app.assessment.safeguards import SafeguardReport
from app.canonical import sha256_hex
from app.determination.record import Determination
from app.parsing import parse
from app.policy.version import PolicyVersion
from app.vocabulary import EARLIEST, JSON, LATEST, Decision, Outcome, write_instant
from tests.laws.recording import as_line, recorded_determination, replayed, stored
from tests.laws.situations import (
    A_SIGN_OFF,
    LAST,
    MODEL,
    Json,
    Situation,
    begun_in,
    instant,
    law,
    leans,
    less_by_one_that_permits,
    less_strict,
    order_on_record,
    parts,
    permits,
    places,
    recorded,
    report,
    situations,
    with_item,
    without,
)

ROOT = Path(__file__).parents[2]
T = TypeVar("T")

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


def shuffled(evidence: Evidence, random: Random) -> Evidence:
    """The same evidence in another order, on every model."""

    def other_order(pieces: Sequence[T]) -> tuple[T, ...]:
        return tuple(random.sample(pieces, len(pieces)))

    approvals_too = (
        replace(p, item=replace(p.item, approvals=other_order(p.item.approvals)))
        for p in evidence.exceptions
    )
    return Evidence(
        other_order(evidence.assessments),
        other_order(evidence.safeguards),
        other_order(evidence.sign_offs),
        other_order(tuple(approvals_too)),
        other_order(evidence.orders),
        other_order(evidence.fulfilments),
        {
            model: OtherModel(other.model, shuffled(other.evidence, random))
            for model, other in other_order(tuple(evidence.others.items()))
        },
    )


@given(situations(), st.randoms(use_true_random=False))
@law
def test_neither_order_nor_process_changes_a_byte(
    elsewhere: Callable[[Situation], str], situation: Situation, random: Random
) -> None:
    """Law 2, determinism."""
    document = recorded_determination(situation)
    same = replace(situation, evidence=shuffled(situation.evidence, random))

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
def test_fewer_roles_behind_what_permits_never_make_it_more_permissive(
    situation: Situation,
) -> None:
    """Law 3: a finding permits by the roles that made it."""
    whole = situation.decide()
    for own, put in parts(situation.evidence):
        for i, assessed in enumerate(own.assessments):
            for j, finding in enumerate(assessed.item.findings):
                if len(finding.by) > 1 and permits(situation, finding):
                    weaker = finding.model_copy(update={"by": finding.by[1:]})
                    less = situation.decide(put(with_finding(own, i, j, weaker)))
                    assert not less_strict(situation.version, less, whole), finding


@given(situations())
@law
def test_four_eyes_or_nothing(situation: Situation) -> None:
    """Law 3: approvals that one caller alone gave, or whoever asked for it, permit nothing."""
    evidence = situation.evidence
    none = situation.decide(replace(evidence, exceptions=()))
    for caller in ("key_0", "key_9"):
        alone = tuple(
            replace(p, item=replace(p.item, approvals=given_by(p.item.approvals, caller)))
            for p in evidence.exceptions
        )
        answer = situation.decide(replace(evidence, exceptions=alone))
        assert (answer.decision, answer.standards) == (none.decision, none.standards)
        assert answer.conditions == none.conditions


def given_by(approvals: Sequence[Approved], caller: str) -> tuple[Approved, ...]:
    """The approvals as if one caller had given them all."""
    return tuple(replace(a, item=a.item.model_copy(update={"by": caller})) for a in approvals)


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


LEANING = (Outcome.BOUNDED_BY, Outcome.CARRIED_OVER)


def judges(situation: Situation, findings: Iterable[Finding]) -> bool:
    """Whether an assessment with those findings counts as one: without any of its own it does not."""
    policy = situation.question.policy
    return any(f.policy == policy and f.outcome in WORSE_AND_WORSE for f in findings)


def worse(situation: Situation) -> Iterator[tuple[str, Evidence]]:
    """The evidence with more that counts against, on this model or on one that bears it: each value
    riskier, each finding worse, each growth larger, one order or reversal more.
    """
    for own, put in parts(situation.evidence):
        for what, more in worse_on_one(situation, own):
            yield what, put(more)
    evidence, action = situation.evidence, situation.question.action
    effects: tuple[Json, ...] = ({"effect": "stop"}, {"effect": "limit"})
    for effect in (*effects, *required_by_order(situation)):
        body = {"model": MODEL, "issuer": "i", "issued_by": "company", "statement": "s"} | effect
        further = order_on_record(99, body | {"begins_at": write_instant(situation.at)})
        yield f"with {effect}", replace(evidence, orders=(*evidence.orders, further))
    for role in situation.version.roles:
        sign_off = parse(
            A_SIGN_OFF,
            {
                "model": MODEL,
                "policy": situation.question.policy,
                "action": action,
                "role": role,
                "verb": "reversed",
                "given_at": write_instant(situation.at),
                "reason": "r",
            },
            JSON,
        )
        reversal = recorded("sgn", [sign_off], 9)
        yield f"reversed by {role}", replace(evidence, sign_offs=(*evidence.sign_offs, *reversal))


def required_by_order(situation: Situation) -> Iterator[Json]:
    """What orders may require: each standard, and one that nobody knows."""
    for standard in (*situation.version.standards, "unheard-of"):
        yield {
            "effect": "require",
            "policy": situation.question.policy,
            "standards": [standard],
        }


def worse_on_one(situation: Situation, evidence: Evidence) -> Iterator[tuple[str, Evidence]]:
    """The evidence on one model with one thing in it worse."""
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
            # One that leans puts off no assessment; as a judgement it would, unless others do.
            elif judges(situation, without(item.findings, j)) and permits(situation, finding):
                for outcome in WORSE_AND_WORSE[1:]:
                    alone = {"bounded_by": None, "carried_over_from": None}
                    bad = finding.model_copy(update={"outcome": outcome, **alone})
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
def test_a_bound_and_a_finding_carried_over_permit_nothing_where_no_policy_gives_them_use(
    situation: Situation,
) -> None:
    """Law 3: they are as if they were not there, or stricter, where the other model reached it."""
    assume(not leans(situation.version))
    whole = situation.decide()
    for i, assessed in enumerate(situation.evidence.assessments):
        for j, finding in enumerate(assessed.item.findings):
            findings = without(assessed.item.findings, j)
            if finding.outcome in LEANING and judges(situation, findings):
                item = assessed.item.model_copy(update={"findings": findings})
                less = situation.decide(with_assessment(situation.evidence, i, item))
                assert not less_strict(situation.version, whole, less)
                if permits(situation, finding):
                    assert settled(less) == settled(whole)


def only_under(evidence: Evidence, policy: str) -> Evidence:
    """The evidence without what speaks of another policy, on every model."""

    def judged(item: Assessment) -> Assessment:
        findings = tuple(f for f in item.findings if f.policy == policy)
        return item.model_copy(update={"findings": findings})

    return Evidence(
        tuple(replace(a, item=judged(a.item)) for a in evidence.assessments),
        tuple(s for s in evidence.safeguards if s.item.policy == policy),
        tuple(s for s in evidence.sign_offs if s.item.policy == policy),
        tuple(e for e in evidence.exceptions if e.item.request.policy == policy),
        tuple(o for o in evidence.orders if o.item.order.policy in (None, policy)),
        tuple(f for f in evidence.fulfilments if f.item.policy == policy),
        {
            model: OtherModel(other.model, only_under(other.evidence, policy))
            for model, other in evidence.others.items()
        },
    )


@given(situations())
@law
def test_evidence_under_another_policy_is_not_read(situation: Situation) -> None:
    ours = only_under(situation.evidence, situation.question.policy)

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
        # What is only recommended closes no gate, and may lapse unforeseen.
        [(s.id, s.met, s.before, s.missing) for s in answer.standards if s.required],
        sorted(condition.code for condition in answer.conditions),
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


CONDITIONS = ("interim-measures", "exception", "limitation", "order.limit")
REASONS = (
    "obligation.outstanding",
    "obligation.overdue",
    "obligation.unknown",
    "order.stop",
    "order.require",
    "policy.does_not_apply",
    "reassessment.due",
    "sign_off.reversed",
    "threshold.prohibits",
)


def test_the_gate_is_often_open() -> None:
    """The laws say "never more permissive": they are empty where everything is denied."""
    seen = Counter[object]()

    @given(situations())
    @settings(law, max_examples=1000, derandomize=True, database=None)
    def look(situation: Situation) -> None:
        answer = situation.decide()
        seen[answer.decision] += 1
        seen.update(f"{t.status} by {t.basis}" for t in answer.thresholds)
        seen.update(f"standard {s.met}" for s in answer.standards)
        seen["holds for a time"] += answer.valid_until is not None
        seen.update({condition.code.partition(":")[0] for condition in answer.conditions})
        seen.update({reason.code for reason in answer.reasons})
        seen.update(answer.flags)
        seen[answer.basis] += 1

    look()

    assert min(seen["allow"], seen["deny"]) > 100, seen
    assert seen["allow_with_conditions"] > 40, seen
    assert min(seen["ruled_out by bounded-by"], seen["ruled_out by carried-over"]) > 3, seen
    assert min(seen[code] for code in CONDITIONS) > 3, seen
    assert min(seen[code] for code in REASONS) > 3, seen
    assert min(seen["outside-policy"], seen["scope_unknown"]) > 10, seen
    assert min(seen[f"{status} by finding"] for status in ("ruled_out", "reached")) > 10, seen
    assert min(seen[f"{status} by lines"] for status in ("ruled_out", "reached")) > 3, seen
    assert min(seen[f"not_ruled_out by {b}"] for b in ("precaution", "unassessed")) > 50, seen
    assert min(seen[f"standard {met}"] for met in ("yes", "no", "unknown")) > 20, seen
    assert seen["holds for a time"] > 100, seen
