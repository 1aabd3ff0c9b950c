"""The laws of the determination, each a property of `decide` over random policies and evidence."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from app.assessment.assessment import Assessment, Result
from app.assessment.evidence import Evidence, Recorded
from app.determination.record import Determination
from app.policy.version import PolicyVersion
from app.vocabulary import Outcome
from tests.laws.situations import (
    LAST,
    Situation,
    begun_in,
    instant,
    less_by_one_that_permits,
    less_strict,
    places,
    report,
    situations,
    with_item,
)

laws = settings(settings.get_profile("laws"))


@given(situations())
@laws
def test_any_valid_input_gives_a_determination(situation):
    """Law 1, totality."""
    assert situation.decide().decision in ("allow", "deny")


@given(situations())
@laws
def test_taking_away_what_permits_never_makes_it_more_permissive(situation):
    """Law 3, precaution."""
    whole = situation.decide()
    for what, less in less_by_one_that_permits(situation):
        assert not less_strict(situation.version, situation.decide(less), whole), what


def riskier(version, result):
    up = 1 if version.lines[result.line].riskier == "higher" else -1
    if result.trials is not None:
        successes = result.successes + up
        if 0 <= successes <= result.trials:
            from decimal import Decimal
            yield result.model_copy(update={"successes": successes, "value": Decimal(successes) / result.trials})
        return
    for by in (up, 2*up, 4*up):
        moved = {"value": result.value + by}
        if result.interval is not None:
            moved["interval"] = result.interval.model_copy(update={"low": result.interval.low + by, "high": result.interval.high + by})
        yield result.model_copy(update=moved)


def worse(situation):
    ev, v = situation.evidence, situation.version
    for i, a in enumerate(ev.assessments):
        for j, r in enumerate(a.item.results):
            for w in riskier(v, r):
                rs = (*a.item.results[:j], w, *a.item.results[j+1:])
                yield f"{r} -> {w}", replace(ev, assessments=with_item(ev.assessments, i, a.item.model_copy(update={"results": rs})))
        order = [Outcome.RULED_OUT, Outcome.INCONCLUSIVE, Outcome.NOT_RULED_OUT, Outcome.REACHED]
        for j, f in enumerate(a.item.findings):
            if f.outcome in order:
                for o in order[order.index(f.outcome)+1:]:
                    fs = (*a.item.findings[:j], f.model_copy(update={"outcome": o}), *a.item.findings[j+1:])
                    yield f"{f} -> {o}", replace(ev, assessments=with_item(ev.assessments, i, a.item.model_copy(update={"findings": fs})))


@given(situations())
@laws
def test_4(situation):
    whole = situation.decide()
    for what, w in worse(situation):
        assert not less_strict(situation.version, situation.decide(w), whole), what


@given(situations())
@laws
def test_nlb(situation):
    whole = situation.decide()
    ev = situation.evidence
    for i, a in enumerate(ev.assessments):
        for j, r in enumerate(a.item.results):
            if r.load_bearing:
                rs = (*a.item.results[:j], r.model_copy(update={"load_bearing": False}), *a.item.results[j+1:])
                w = replace(ev, assessments=with_item(ev.assessments, i, a.item.model_copy(update={"results": rs})))
                assert not less_strict(situation.version, situation.decide(w), whole), r
            else:
                rs = (*a.item.results[:j], *a.item.results[j+1:])
                w = replace(ev, assessments=with_item(ev.assessments, i, a.item.model_copy(update={"results": rs})))
                assert not less_strict(situation.version, whole, situation.decide(w)), r


@given(situations(), st.integers(0, LAST), st.sampled_from([None, 1, 3]))
@laws
def test_5(situation, at, lasts):
    whole = situation.decide()
    for name in situation.version.standards:
        for place in places(situation.version, name):
            more = Recorded("sfg_" + "f"*32, "sha256:" + "f"*64, report(name, place, at, lasts=lasts))
            ev = replace(situation.evidence, safeguards=(*situation.evidence.safeguards, more))
            assert not less_strict(situation.version, whole, situation.decide(ev)), (name, place)


def steps_after(s):
    for half in range(2*LAST+14):
        t = instant(half/2)
        if t > s.at and (s.policy.until is None or t < s.policy.until):
            yield t


@given(situations())
@laws
def test_6a(situation):
    whole = situation.decide()
    for t in steps_after(situation):
        ev = begun_in(situation.evidence, situation.at, t)
        assert not less_strict(situation.version, situation.decide(ev, t), whole), t


def fixed(d):
    return (d.decision, d.level, d.reassessment, tuple((t.id, t.status, t.binds) for t in d.thresholds), tuple((s.id, s.met, s.before, s.missing) for s in d.standards))


@given(situations())
@laws
def test_6b(situation):
    whole = situation.decide()
    for t in steps_after(situation):
        if whole.valid_until is not None and t >= whole.valid_until:
            break
        ev = begun_in(situation.evidence, situation.at, t)
        assert fixed(situation.decide(ev, t)) == fixed(situation.decide(ev)), t


@given(situations())
@laws
def test_6c(situation):
    whole = situation.decide()
    for t in steps_after(situation):
        if whole.valid_until is not None and t >= whole.valid_until:
            break
        assert not less_strict(situation.version, whole, situation.decide(at=t)), t

seen = Counter()
@given(situations())
@laws
def test_open(situation):
    d = situation.decide()
    seen[d.decision] += 1
    for t in d.thresholds: seen[t.status, t.basis] += 1
    for t in d.standards: seen["std", t.met] += 1
    if d.valid_until: 
        seen["until"] += 1
        if d.valid_until == situation.policy.until: seen["policy until"] += 1
        else:
            l = situation.decide(at=d.valid_until)
            seen["at until", bool(less_strict(situation.version, d, l)), bool(less_strict(situation.version, l, d))] += 1

def test_zz():
    print(seen)
    assert 0
