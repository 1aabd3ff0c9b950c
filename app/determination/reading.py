"""How each kind of condition reads the evidence on a model, at one instant.

The rules that make the laws hold are all here: what permits needs evidence that has begun and has
not lapsed; what counts against never lapses, and only something newer that permits replaces it.
Where two pieces speak for the same instant, the stricter one counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from app.assessment.assessment import Assessment, Finding, ModelVersion, Result
from app.assessment.evidence import Evidence, Recorded
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.determination.record import LineAnswer, Zone
from app.policy.conditions import (
    AssessedWithin,
    ComputeRatio,
    Elapsed,
    FindingIs,
    Leaf,
    LineIn,
    ModelFact,
    Polarity,
    Reading,
    ReassessmentNotDue,
    SignedOff,
    ThresholdRuledOut,
    truth_of,
    walk,
)
from app.policy.version import PolicyVersion, Standard, Threshold
from app.vocabulary import LATEST, Duration, Outcome, Truth, Verb, write_number

NEVER = Reading(Truth.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Said:
    """One finding, with the assessment that it came in."""

    id: str
    at: datetime
    finding: Finding


@dataclass(frozen=True, slots=True)
class Measured:
    """One result, with the assessment that it came in."""

    id: str
    at: datetime
    result: Result


@dataclass(frozen=True)
class Read:
    """The evidence on one model version as one policy version sees it at one instant."""

    policy: PolicyVersion
    model: ModelVersion
    evidence: Evidence
    at: datetime

    # --- what is there -------------------------------------------------------------------------

    @cached_property
    def _assessments(self) -> list[Recorded[Assessment]]:
        return sorted(self.evidence.assessments, key=lambda a: (a.item.conducted_at, a.id))

    @cached_property
    def _findings(self) -> Mapping[str, list[Said]]:
        """By threshold, oldest first; those that have not begun are still in it."""
        by_threshold: dict[str, list[Said]] = {}
        for assessment in self._assessments:
            for finding in assessment.item.findings:
                if finding.policy == self.policy.policy:
                    said = Said(assessment.id, assessment.item.conducted_at, finding)
                    by_threshold.setdefault(finding.threshold, []).append(said)
        return by_threshold

    @cached_property
    def _results(self) -> Mapping[str, list[Measured]]:
        by_line: dict[str, list[Measured]] = {}
        for assessment in self._assessments:
            for result in assessment.item.results:
                measured = Measured(assessment.id, assessment.item.conducted_at, result)
                by_line.setdefault(result.line, []).append(measured)
        return by_line

    @cached_property
    def _sign_offs(self) -> list[tuple[datetime, str, SignOff]]:
        mine = (s for s in self.evidence.sign_offs if s.item.policy == self.policy.policy)
        return sorted((_given(s.item), s.id, s.item) for s in mine if s.item.given_at is not None)

    # --- conditions ----------------------------------------------------------------------------

    @cached_property
    def reassessment(self) -> Reading | None:
        """Whether the policy wants the model assessed anew; `None` where it says nothing of it."""
        if self.policy.reassess is None:
            return None
        return truth_of(
            self.policy.reassess.when, lambda leaf: self._leaf(leaf, None), Polarity.COUNTS_AGAINST
        )

    @cached_property
    def _settled(self) -> dict[tuple[str, Polarity], Reading]:
        return {}

    def reached(self, name: str) -> Reading:
        """Whether the threshold is reached."""
        return self._threshold(name, Polarity.COUNTS_AGAINST)

    def ruled_out(self, name: str) -> Reading:
        """Whether the threshold is ruled out; it is not where it is reached."""
        return self._threshold(name, Polarity.PERMITS)

    def _threshold(self, name: str, towards: Polarity) -> Reading:
        """Either condition, read once however many others ask for it."""
        known = self._settled.get((name, towards))
        if known is None:
            threshold = self.policy.thresholds[name]
            tree = threshold.ruled_out if towards is Polarity.PERMITS else threshold.reached
            known = truth_of(tree, lambda leaf: self._leaf(leaf, name), towards)
            self._settled[name, towards] = known
        return known

    def _leaf(self, leaf: Leaf, threshold: str | None) -> Reading:
        match leaf:
            case FindingIs():
                return self._finding(leaf, threshold)
            case LineIn():
                return self._rules_out(leaf) if leaf.zone == "rule_out" else self._rules_in(leaf)
            case AssessedWithin():
                return self._assessed(leaf)
            case ThresholdRuledOut():
                return self._other_threshold(leaf.threshold_ruled_out)
            case ReassessmentNotDue():
                due = self.reassessment
                return NEVER if due is None else Reading(~due.truth, due.evidence, due.turns)
            case Elapsed():
                return self._elapsed(leaf)
            case ComputeRatio():
                return self._compute_ratio(leaf)
            case SignedOff():
                return self._signed_off(leaf)
            case ModelFact():
                return self._fact(leaf)

    def _other_threshold(self, name: str) -> Reading:
        if self.reached(name).truth is Truth.YES:
            return NEVER
        ruled_out = self.ruled_out(name)
        if ruled_out.truth is not Truth.YES:
            return NEVER
        return ruled_out

    def _finding(self, leaf: FindingIs, threshold: str | None) -> Reading:
        """A `reached` stands until a later `ruled-out` by the right roles; a `ruled-out` stands
        until anything worse is found at the same time or later.
        """
        said = self._findings.get(threshold or "", [])
        begun = [s for s in said if s.at <= self.at]
        if leaf.finding is Outcome.RULED_OUT:
            against = [s for s in said if s.finding.outcome in _AGAINST]
            worst = max((s.at for s in against if s.at <= self.at), default=None)
            standing = [
                s
                for s in begun
                if _rules_out_by(s.finding, leaf.by) and (worst is None or s.at > worst)
            ]
            if not standing:
                return NEVER
            turns = min((s.at for s in against if s.at > self.at), default=None)
            return Reading(Truth.YES, frozenset({standing[-1].id}), turns, _FINDING)
        cleared = max((s.at for s in begun if self._clears(s.finding, threshold)), default=None)
        reached = [
            s
            for s in said
            if s.finding.outcome is Outcome.REACHED and set(leaf.by) <= set(s.finding.by)
        ]
        standing = [s for s in reached if s.at <= self.at and (cleared is None or s.at >= cleared)]
        if standing:
            return Reading(Truth.YES, frozenset({standing[-1].id}), None, _FINDING)
        turns = min((s.at for s in reached if s.at > self.at), default=None)
        return Reading(Truth.UNKNOWN, frozenset(), turns)

    def _clears(self, finding: Finding, threshold: str | None) -> bool:
        """Whether the policy lets this finding rule the threshold out."""
        tree = self.policy.thresholds[threshold or ""].ruled_out
        return any(
            _rules_out_by(finding, leaf.by)
            for _, leaf in walk(tree)
            if isinstance(leaf, FindingIs) and leaf.finding is Outcome.RULED_OUT
        )

    def _assessed(self, leaf: AssessedWithin) -> Reading:
        fresh = [
            (leaf.max_age.after(a.item.conducted_at), a.id)
            for a in self._begun(leaf.assessment)
            if self.at < leaf.max_age.after(a.item.conducted_at)
        ]
        if not fresh:
            return NEVER
        turns, id = max(fresh)
        return Reading(Truth.YES, frozenset({id}), turns)

    def _begun(self, kind: str) -> list[Recorded[Assessment]]:
        return [
            a for a in self._assessments if a.item.kind == kind and a.item.conducted_at <= self.at
        ]

    def _elapsed(self, leaf: Elapsed) -> Reading:
        assessed = self._begun(leaf.elapsed.since_assessment)
        if not assessed:
            return Reading(Truth.YES)
        due = max(leaf.elapsed.at_least.after(a.item.conducted_at) for a in assessed)
        evidence = frozenset({assessed[-1].id})
        if self.at >= due:
            return Reading(Truth.YES, evidence)
        return Reading(Truth.NO, evidence, due)

    def _compute_ratio(self, leaf: ComputeRatio) -> Reading:
        assessed = self._begun(leaf.compute_ratio.since_assessment)
        if not assessed:
            return NEVER
        last = assessed[-1].item.conducted_at
        above = [
            a
            for a in self._assessments
            if a.item.effective_compute_ratio is not None
            and a.item.effective_compute_ratio >= leaf.compute_ratio.at_least
            and a.item.conducted_at > last
        ]
        begun = [a for a in above if a.item.conducted_at <= self.at]
        if begun:
            return Reading(Truth.YES, frozenset({begun[-1].id}))
        turns = min((a.item.conducted_at for a in above), default=None)
        return Reading(Truth.NO, frozenset({assessed[-1].id}), turns)

    def _signed_off(self, leaf: SignedOff) -> Reading:
        given = [
            (at, id)
            for at, id, sign_off in self._sign_offs
            if sign_off.role == leaf.by and sign_off.verb is leaf.sign_off
        ]
        if leaf.sign_off is Verb.REASSESS and leaf.since_assessment is not None:
            assessed = self._begun(leaf.since_assessment)
            if assessed:
                given = [(at, id) for at, id in given if at > assessed[-1].item.conducted_at]
        begun = [id for at, id in given if at <= self.at]
        if begun:
            return Reading(Truth.YES, frozenset({begun[-1]}))
        if leaf.sign_off is Verb.REASSESS:
            return Reading(Truth.NO, turns=min((at for at, _ in given), default=None))
        return NEVER

    def _fact(self, leaf: ModelFact) -> Reading:
        value = self.model.training_compute_flop
        if value is None:
            return NEVER
        if leaf.at_least is not None:
            holds = value >= leaf.at_least
        else:
            holds = leaf.below is not None and value < leaf.below
        return Reading(Truth.YES if holds else Truth.NO)

    # --- lines ---------------------------------------------------------------------------------

    def current_results(self, line: str, *, load_bearing: bool) -> list[Measured]:
        """The newest results of each variant that have begun; several where they are of one time.

        With *load_bearing*, those that are marked as not relied on are left out.
        """
        newest: dict[str | None, list[Measured]] = {}
        for measured in self._results.get(line, []):
            if measured.at > self.at or (load_bearing and not measured.result.load_bearing):
                continue
            variant = newest.setdefault(measured.result.variant, [])
            if variant and variant[0].at < measured.at:
                variant.clear()
            variant.append(measured)
        return [measured for variant in newest.values() for measured in variant]

    def _rules_out(self, leaf: LineIn) -> Reading:
        """YES where one fresh result lies surely in the zone and no current one lies elsewhere."""
        current = self.current_results(leaf.line, load_bearing=True)
        sure = [m for m in current if self._surely_in(m.result, leaf) is Truth.YES]
        if len(sure) < len(current):
            outside = any(self._surely_in(m.result, leaf) is Truth.NO for m in current)
            return Reading(Truth.NO if outside else Truth.UNKNOWN, _ids(current), None, _LINES)
        fresh = [m for m in sure if leaf.max_age is None or self.at < leaf.max_age.after(m.at)]
        if not fresh:
            return NEVER
        turns = _latest_lapse(fresh, leaf.max_age)
        return Reading(Truth.YES, _ids(fresh), turns, _LINES)

    def _rules_in(self, leaf: LineIn) -> Reading:
        """YES where any current result lies in the zone; a bare value is taken as it stands."""
        current = self.current_results(leaf.line, load_bearing=False)
        truths = [(self._surely_in(m.result, leaf), m) for m in current]
        inside = [m for truth, m in truths if truth is Truth.YES]
        if inside:
            return Reading(Truth.YES, _ids(inside), None, _LINES)
        later = (m for m in self._results.get(leaf.line, []) if m.at > self.at)
        turns = min(
            (m.at for m in later if self._surely_in(m.result, leaf) is Truth.YES), default=None
        )
        unsure = any(truth is Truth.UNKNOWN for truth, _ in truths) or not truths
        return Reading(Truth.UNKNOWN if unsure else Truth.NO, _ids(current), turns, _LINES)

    def _surely_in(self, result: Result, leaf: LineIn) -> Truth:
        line = self.policy.lines[leaf.line]
        bound = line.rule_out if leaf.zone == "rule_out" else line.rule_in
        if bound is None:
            return Truth.UNKNOWN
        range_ = result.at_confidence(self.policy.confidence)
        if range_ is None:
            inside = bound.holds(result.value)
            if leaf.zone == "rule_out" and inside and not line.point_value_suffices:
                return Truth.UNKNOWN
            return Truth.YES if inside else Truth.NO
        ends = bound.holds(range_.low), bound.holds(range_.high)
        if all(ends):
            return Truth.YES
        return Truth.UNKNOWN if any(ends) else Truth.NO

    def line_answers(self, threshold: Threshold) -> tuple[LineAnswer, ...]:
        """On which side of its line each current result lies, for all lines of the threshold."""
        return tuple(
            self._line_answer(name, measured)
            for name in threshold.evidence
            for measured in sorted(
                self.current_results(name, load_bearing=False),
                key=lambda m: (m.result.variant or "", m.id, m.result.value),
            )
        )

    def _line_answer(self, name: str, measured: Measured) -> LineAnswer:
        line = self.policy.lines[name]
        result = measured.result
        zone: Zone = "none"
        established = False
        for candidate, bound in (("rule_out", line.rule_out), ("rule_in", line.rule_in)):
            if bound is not None and bound.holds(result.value):
                zone = "rule_out" if candidate == "rule_out" else "rule_in"
                range_ = result.at_confidence(self.policy.confidence)
                established = range_ is not None and all(map(bound.holds, (range_.low, range_.high)))
        if zone == "none" and line.rule_out is not None:
            zone = "middle" if line.rule_in is not None else "crossed"
        elif zone == "none" and line.rule_in is not None:
            zone = "middle"
        return LineAnswer(
            line=name,
            value=write_number(result.value),
            unit=line.unit,
            zone=zone,
            established=established,
            load_bearing=result.load_bearing,
            variant=result.variant,
            evidence=measured.id,
        )

    def assessed_at_all(self, name: str) -> bool:
        """Whether anything at all was found or measured of the threshold by now."""
        lines = self.policy.thresholds[name].evidence
        return bool(self.findings_on(name)) or any(
            self.current_results(line, load_bearing=False) for line in lines
        )

    def findings_on(self, name: str) -> list[str]:
        """The assessments that found anything on the threshold by now."""
        return [s.id for s in self._findings.get(name, []) if s.at <= self.at]

    def lapsed_ruling_out(self, name: str) -> bool:
        """Whether a finding once ruled the threshold out."""
        said = self._findings.get(name, [])
        return any(s.finding.outcome is Outcome.RULED_OUT and s.at <= self.at for s in said)

    # --- what is in place ----------------------------------------------------------------------

    def met(self, name: str) -> tuple[Reading, tuple[str, ...]]:
        """Whether the standard is met, and which of its criteria are not known to be.

        A standard is met too where a stronger one that subsumes it is.
        """
        standard = self.policy.standards[name]
        own, missing = self._criteria_met(name, standard)
        for stronger, other in self.policy.standards.items():
            if name in other.subsumes:
                reading, _ = self.met(stronger)
                if reading.truth is Truth.YES and own.truth is Truth.YES:
                    turns = _later(own.turns, reading.turns)
                    own = Reading(Truth.YES, own.evidence | reading.evidence, turns)
                elif reading.truth is Truth.YES:
                    own, missing = reading, ()
        return own, missing

    def _criteria_met(self, name: str, standard: Standard) -> tuple[Reading, tuple[str, ...]]:
        if standard.criteria is None:
            reading = self._reported(name, standard, (None,))
            return reading, () if reading.truth is Truth.YES else ("judgement",)
        readings: list[tuple[str, Reading]] = []
        for criterion, content in standard.criteria.items():
            for part in content.parts or (None,):
                place = criterion if part is None else f"{criterion}/{part}"
                covering = (None, criterion) if part is None else (None, criterion, place)
                readings.append((place, self._reported(name, standard, covering)))
        missing = tuple(place for place, reading in readings if reading.truth is not Truth.YES)
        truths = {reading.truth for _, reading in readings}
        evidence = frozenset[str]().union(*(reading.evidence for _, reading in readings))
        if truths == {Truth.YES}:
            turns = min((r.turns for _, r in readings if r.turns is not None), default=None)
            return Reading(Truth.YES, evidence, turns), ()
        return Reading(Truth.NO if Truth.NO in truths else Truth.UNKNOWN, evidence), missing

    def _reported(
        self, name: str, standard: Standard, covering: Iterable[str | None]
    ) -> Reading:
        """Met where a report that covers it has begun, has not lapsed, and is newer than any
        report that it is not met.
        """
        reports = [
            (r.item.valid_from, r.id, r.item)
            for r in self.evidence.safeguards
            if r.item.policy == self.policy.policy
            and r.item.standard == name
            and r.item.criterion in covering
        ]
        unmet = [(at, id) for at, id, report in reports if not report.met]
        last_unmet = max((u for u in unmet if u[0] <= self.at), default=None)
        counting = [
            (_lapse(report, standard.review), id)
            for at, id, report in reports
            if report.met
            and at <= self.at < _lapse(report, standard.review)
            and (last_unmet is None or at > last_unmet[0])
            and (not standard.undefined or report.stated_by in standard.attested_by)
        ]
        if counting:
            turns, id = max(counting)
            begins = [at for at, _ in unmet if at > self.at]
            return Reading(Truth.YES, frozenset({id}), _ever(min([turns, *begins])))
        if last_unmet is not None:
            return Reading(Truth.NO, frozenset({last_unmet[1]}))
        return NEVER

    def signed(self, action: str, role: str, verb: Verb, max_age: Duration | None) -> Reading:
        """Whether the role did that about the action."""
        given = [
            (_forever(at, max_age), id)
            for at, id, sign_off in self._sign_offs
            if (sign_off.action, sign_off.role, sign_off.verb) == (action, role, verb)
            and at <= self.at < _forever(at, max_age)
        ]
        if not given:
            return NEVER
        turns, id = max(given)
        return Reading(Truth.YES, frozenset({id}), None if max_age is None else turns)


_AGAINST = frozenset({Outcome.INCONCLUSIVE, Outcome.NOT_RULED_OUT, Outcome.REACHED})
"""`bounded-by` and `carried-over` neither permit nor count against until a policy gives them use."""

_FINDING = frozenset({"finding"})
_LINES = frozenset({"lines"})


def _rules_out_by(finding: Finding, roles: Iterable[str]) -> bool:
    return finding.outcome is Outcome.RULED_OUT and set(roles) <= set(finding.by)


def _given(sign_off: SignOff) -> datetime:
    assert sign_off.given_at is not None, "the server's time is filled in before it is recorded"
    return sign_off.given_at


def _ids(measured: Iterable[Measured]) -> frozenset[str]:
    return frozenset(m.id for m in measured)


def _latest_lapse(fresh: Iterable[Measured], max_age: Duration | None) -> datetime | None:
    return None if max_age is None else max(max_age.after(m.at) for m in fresh)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else max(one, other)


def _ever(instant: datetime) -> datetime | None:
    """`None` for the end of time, where nothing lapses."""
    return instant if instant < LATEST else None


def _lapse(report: SafeguardReport, review: Duration | None) -> datetime:
    ends = [LATEST]
    if report.valid_until is not None:
        ends.append(report.valid_until)
    if review is not None:
        ends.append(review.after(report.valid_from))
    return min(ends)


def _forever(at: datetime, max_age: Duration | None) -> datetime:
    return LATEST if max_age is None else max_age.after(at)
