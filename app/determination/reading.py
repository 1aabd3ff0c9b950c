"""How each kind of condition reads the evidence on a model, at one instant.

The rules that make the laws hold are all here: what permits needs evidence that has begun and has
not lapsed; what counts against never lapses, and only something newer that permits replaces it.
Where two pieces speak for the same instant, the stricter one counts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, Literal

from app.assessment.assessment import Assessment, ModelVersion, Result
from app.assessment.evidence import Evidence, Measured, Recorded, Said, Signed
from app.assessment.exceptions import INTERIM_MEASURES, RequestedException
from app.assessment.orders import OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.determination.obligations import obligation_id
from app.determination.record import SEMANTICS, LineAnswer, Zone
from app.policy.conditions import (
    AnyOf,
    AssessedWithin,
    BoundedBy,
    ByOthers,
    CarriedOver,
    ComputeRatio,
    Condition,
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
    fact_holds,
    truth_of,
    walk,
)
from app.policy.version import Obligation, PolicyVersion, Standard, Threshold
from app.vocabulary import EARLIEST, Duration, Outcome, Status, Truth, Verb, write_number

NEVER = Reading(Truth.UNKNOWN)

_SECOND: Final = 2
_THIRD: Final = 3

MOST_RULINGS_OUT: Final = 64
"""How many rulings out of a threshold, the newest, are asked what they clear: each is read as it was
when it was found.
"""

LONGEST_LEANING: Final = 8
"""How many models may lean on one another in a row."""


@dataclass(frozen=True)
class Read:
    """The evidence on one model version as one policy version sees it at one instant."""

    policy: PolicyVersion
    model: ModelVersion
    evidence: Evidence
    at: datetime
    semantics: int = SEMANTICS
    """Under which meaning the evidence is read; older ones stay, so that what they said can be
    recomputed.
    """
    depth: int = 0
    """How many models lean on this one in a row, from the one that is asked about."""
    elsewhere: dict[tuple[str, int], "Read"] = field(default_factory=dict)
    """Each other model is read once at each depth, however many findings lean on it."""
    held: dict[tuple[str, str, datetime, int | None], bool] = field(default_factory=dict)
    """Whether each ruling out held when it was found: of each model it is looked at once."""

    def _said(self, threshold: str | None) -> Sequence[Said]:
        """What was found of a threshold, oldest first; what has not begun is still in it."""
        return self.evidence.findings.get((self.policy.policy, threshold or ""), ())

    @property
    def _sign_offs(self) -> Sequence[Signed]:
        return self.evidence.signed.get(self.policy.policy, ())

    def _age(self, at: datetime, index: int | None) -> "_Age":
        """How new a piece is. Of what is recorded nowhere it is supposed that it comes last."""
        return _Age(at, 0 if self.semantics < _THIRD else _LAST if index is None else index)

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
                if leaf.zone == "rule_in":
                    return self._rules_in(leaf)
                return self._unless_found_otherwise(self._rules_out(leaf), leaf, threshold)
            case AssessedWithin():
                return self._assessed(leaf)
            case ThresholdRuledOut():
                return self._other_threshold(leaf.threshold_ruled_out, threshold)
            case ReassessmentNotDue():
                due = self.reassessment
                return NEVER if due is None else Reading(~due.truth, due.evidence, due.turns)
            case Elapsed():
                return self._elapsed(leaf)
            case ComputeRatio():
                return self._compute_ratio(leaf)
            case SignedOff():
                return self._signed_off(leaf)
            case BoundedBy():
                bound = leaf.bounded_by
                return self._leans_on(Outcome.BOUNDED_BY, bound, threshold or "", _BOUNDED)
            case CarriedOver():
                carried = leaf.carried_over
                return self._leans_on(Outcome.CARRIED_OVER, carried, threshold or "", _CARRIED)
            case ModelFact():
                return self._fact(leaf)

    def _other_threshold(self, weaker: str, threshold: str | None) -> Reading:
        """A weaker threshold that is ruled out speaks for this one too, unless people found
        otherwise of this one: what was found of it itself outranks what follows from another.
        """
        ruled_out = self.ruled_out(weaker)
        if ruled_out.truth is not Truth.YES:
            return NEVER
        turns = [ruled_out.turns]
        # What follows from the weaker one falls for all when it is contradicted by any.
        for name in {weaker, threshold or weaker, *self._follow_from(weaker)}:
            reached = self.reached(name)
            against = self._found_against(name)
            if reached.truth is Truth.YES or any(at <= self.at for at in against):
                return NEVER
            turns += [reached.turns, *against]
        ends = [at for at in turns if at is not None]
        return Reading(Truth.YES, ruled_out.evidence, min(ends, default=None), ruled_out.rests_on)

    def _found_against(self, name: str) -> list[datetime]:
        """When people found against the threshold, as far as no later ruling out clears it."""
        cleared = self._cleared(name)
        ends = [] if cleared.until is None else [cleared.until]
        return [age.at for age, _ in self._against(name) if not cleared.outdates(age)] + ends

    def _follow_from(self, weaker: str) -> set[str]:
        """The thresholds that the ruling out of *weaker* rules out, also through others."""
        following: set[str] = set()
        left = [weaker]
        while left:
            for name in self._ruled_out_with.get(left.pop(), ()):
                if name not in following:
                    following.add(name)
                    left.append(name)
        return following

    @cached_property
    def _ruled_out_with(self) -> Mapping[str, list[str]]:
        """By threshold, those whose conditions name its ruling out."""
        naming: dict[str, list[str]] = {}
        for name, threshold in self.policy.thresholds.items():
            for _, leaf in walk(threshold.ruled_out):
                if isinstance(leaf, ThresholdRuledOut):
                    naming.setdefault(leaf.threshold_ruled_out, []).append(name)
        return naming

    def _finding(self, leaf: FindingIs, threshold: str | None) -> Reading:
        """A `reached` stands until a later `ruled-out` by the right roles; a `ruled-out` stands
        until anything worse is found at the same time or later.
        """
        if leaf.finding is Outcome.RULED_OUT:
            return self._found_ruled_out(leaf, threshold or "")
        reached = [
            (self._age(s.at, s.index), s)
            for s in self._said(threshold)
            if s.finding.outcome is Outcome.REACHED and set(leaf.by) <= set(s.finding.by)
        ]
        cleared = self._cleared(threshold or "") if reached else _CLEARED_BY_NONE
        standing = [s for age, s in reached if age.at <= self.at and not cleared.outdates(age)]
        if standing:
            return Reading(Truth.YES, frozenset({standing[-1].id}), None, _FINDING)
        to_come = [age.at for age, _ in reached if age.at > self.at]
        ends = [at for at in (cleared.until, *to_come) if at is not None]
        return Reading(Truth.UNKNOWN, frozenset(), min(ends, default=None))

    def _found_ruled_out(self, leaf: FindingIs, threshold: str) -> Reading:
        against = [age for age, _ in self._against(threshold)]
        worst = _newest(age for age in against if age.at <= self.at)
        standing = [
            s
            for s in self._said(threshold)
            if s.at <= self.at
            and _rules_out(s, leaf)
            and self._age(s.at, s.index).outdates(worst)
            and (leaf.max_age is None or self.at < leaf.max_age.after(s.at))
        ]
        if not standing:
            return NEVER
        ends = [age.at for age in against if age.at > self.at]
        if leaf.max_age is not None:
            ends.append(max(leaf.max_age.after(s.at) for s in standing))
        turns = min(ends, default=None)
        return Reading(Truth.YES, frozenset({standing[-1].id}), turns, _FINDING)

    def _against(self, name: str) -> "list[tuple[_Age, Said]]":
        """What was found against the threshold, and from when on: also what is carried over from a
        model on which it is not ruled out.
        """
        if name not in self._found_by:
            self._found_by[name] = list(self._speaking_against(name))
        return self._found_by[name]

    @cached_property
    def _found_by(self) -> "dict[str, list[tuple[_Age, Said]]]":
        return {}

    def _speaking_against(self, name: str) -> "Iterator[tuple[_Age, Said]]":
        for said in self._said(name):
            carried_over_from = said.finding.carried_over_from
            if said.finding.outcome in _AGAINST:
                yield self._age(said.at, said.index), said
            elif carried_over_from is not None:
                # As it is on that model; one that cannot be read may have reached it.
                other = self.other(carried_over_from)
                holds, turns = (False, None) if other is None else other.surely_ruled_out(name)
                if not holds:
                    yield self._age(said.at, said.index), said
                elif turns is not None:
                    yield self._age(max(said.at, turns), said.index), said

    def _cleared(self, name: str) -> "_Cleared":
        """The rulings out, by now, that the policy lets clear what was found against the threshold.

        One that held when it was found, as far as that was on record then, clears for good, however
        old it is. Since the third meaning, one that did not (a further condition failed then) clears
        only as long as all holds now.
        """
        if name not in self._cleared_by:
            self._cleared_by[name] = self._clearing(name)
        return self._cleared_by[name]

    @cached_property
    def _cleared_by(self) -> "dict[str, _Cleared]":
        return {}

    def _clearing(self, name: str) -> "_Cleared":
        leaves = self._ruling_out(name)
        rulings_out = [
            said
            for said in reversed(self._said(name))
            if said.at <= self.at and any(_rules_out(said, leaf) for leaf in leaves)
        ]
        if self.semantics < _THIRD:
            return _Cleared(tuple(self._age(said.at, said.index) for said in rulings_out))
        against = self._against(name)
        if not against:
            return _CLEARED_BY_NONE
        worst = _newest(age for age, _ in against if age.at <= self.at)
        now: Reading | None = None
        ages, until = [], None
        for said in rulings_out[:MOST_RULINGS_OUT]:
            age = self._age(said.at, said.index)
            if self._held(name, said):
                if age.outdates(worst):
                    return _Cleared((age,))
            else:
                now = now or self.by_itself(name)
                if now.truth is not Truth.YES:
                    continue
                until = now.turns
            ages.append(age)
        return _Cleared(tuple(ages), until)

    def _held(self, name: str, said: Said) -> bool:
        """Whether the threshold was ruled out by judgement when that was found.

        Only what was on record by then can have been known, and nothing that leans on other models
        bears: each of them would have to be read again as it was then.
        """
        place = self.model.model, name, said.at, said.index
        if place not in self.held:
            then = replace(
                self, at=said.at, evidence=self.evidence.alone_by(said.index), elsewhere={}
            )
            self.held[place] = then.by_itself(name).truth is Truth.YES
        return self.held[place]

    def _ruling_out(self, name: str) -> list[FindingIs]:
        """The findings that the policy lets rule the threshold out."""
        return [
            leaf
            for _, leaf in walk(self.policy.thresholds[name].ruled_out)
            if isinstance(leaf, FindingIs) and leaf.finding is Outcome.RULED_OUT
        ]

    def by_itself(self, name: str) -> Reading:
        """Whether the threshold is ruled out by judgement: by what people found of it, with all that
        the policy asks beside that, and neither by a mere alternative nor by what follows from
        another threshold.
        """
        tree = self.policy.thresholds[name].ruled_out
        alternatives = _alternatives_to_judgement(tree)

        def leaf_of(leaf: Leaf) -> Reading:
            if id(leaf) in alternatives or isinstance(leaf, ThresholdRuledOut):
                return NEVER
            return self._rules_out(leaf) if isinstance(leaf, LineIn) else self._leaf(leaf, name)

        return truth_of(tree, leaf_of, Polarity.PERMITS)

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
        """The assessments of that kind by now. One that judges nothing under this policy is none:
        a record without a finding must not put off the next assessment.
        """
        return [
            a
            for a in self.evidence.assessed
            if a.item.kind == kind
            and a.item.conducted_at <= self.at
            and any(
                finding.policy == self.policy.policy and finding.outcome in _JUDGES
                for finding in a.item.findings
            )
        ]

    def last_assessed(self, kind: str) -> tuple[list[Recorded[Assessment]], datetime | None]:
        """The assessments of that kind by now from which clocks run, oldest first: its own, and those
        of the models from which findings are carried over where the policy lets them be. And until
        when these count, as far as it is known.

        Since the third meaning a carrying over counts only while it bears (the threshold is ruled
        out there), and brings along only what was assessed there before it was carried over.
        """
        assessed = {one.id: one for one in self._begun(kind)}
        ends: list[datetime] = []
        for name, threshold in self.policy.thresholds.items():
            leaves = [one for _, one in walk(threshold.ruled_out) if isinstance(one, CarriedOver)]
            for said in self._said(name) if leaves else ():
                counts = any(
                    set(leaf.carried_over.by) <= set(said.finding.by)
                    and leaf.carried_over.in_assessment in (None, said.kind)
                    for leaf in leaves
                )
                other = self.other(said.finding.carried_over_from)
                if not counts or said.at > self.at or other is None:
                    continue
                there, until = other.last_assessed(kind)
                if self.semantics >= _THIRD:
                    bears, until_then = other.surely_ruled_out(name)
                    there = [a for a in there if bears and a.item.conducted_at <= said.at]
                    ends += [at for at in (until, until_then) if at is not None]
                assessed.update((one.id, one) for one in there)
        in_order = sorted(assessed.values(), key=lambda one: (one.item.conducted_at, one.id))
        return in_order, min(ends, default=None)

    def _elapsed(self, leaf: Elapsed) -> Reading:
        assessed, until = self.last_assessed(leaf.elapsed.since_assessment)
        if not assessed:
            return Reading(Truth.YES)
        due = max(leaf.elapsed.at_least.after(a.item.conducted_at) for a in assessed)
        evidence = frozenset({assessed[-1].id})
        if self.at >= due:
            return Reading(Truth.YES, evidence)
        return Reading(Truth.NO, evidence, min(due, until or due))

    def _compute_ratio(self, leaf: ComputeRatio) -> Reading:
        kind = leaf.compute_ratio.since_assessment
        assessed, until = self.last_assessed(kind)
        last = assessed[-1].item.conducted_at if assessed else None
        above = [
            a
            for a in self.evidence.assessed
            if a.item.effective_compute_ratio is not None
            and a.item.effective_compute_ratio >= leaf.compute_ratio.at_least
            and (last is None or a.item.conducted_at >= last)
            # An assessment of that kind answers the growth that it reports itself.
            and (a.item.conducted_at != last or a.item.kind != kind)
        ]
        begun = [a for a in above if a.item.conducted_at <= self.at]
        if begun:
            return Reading(Truth.YES, frozenset({begun[-1].id}))
        ends = [a.item.conducted_at for a in above] + ([] if until is None else [until])
        turns = min(ends, default=None)
        if not assessed:
            return Reading(Truth.UNKNOWN, turns=turns)
        return Reading(Truth.NO, frozenset({assessed[-1].id}), turns)

    def _signed_off(self, leaf: SignedOff) -> Reading:
        given = [
            (one.at, one.id)
            for one in self._sign_offs
            if one.sign_off.role == leaf.by
            and one.sign_off.verb is leaf.sign_off
            and not self._taken_back(one)
        ]
        ends: list[datetime] = []
        if leaf.sign_off is Verb.REASSESS and leaf.since_assessment is not None:
            assessed, until = self.last_assessed(leaf.since_assessment)
            ends += [] if until is None else [until]
            if assessed:
                given = [(at, id) for at, id in given if at >= assessed[-1].item.conducted_at]
        begun = [id for at, id in given if at <= self.at]
        if leaf.sign_off is Verb.REASSESS:
            if begun:
                return Reading(Truth.YES, frozenset({begun[-1]}))
            return Reading(Truth.NO, turns=min([*ends, *(at for at, _ in given)], default=None))
        if begun:
            return Reading(Truth.YES, frozenset({begun[-1]}), self._next_reversal({leaf.by}))
        return NEVER

    def _taken_back(self, given: Signed) -> bool:
        """Whether the role reversed by now what it signed of the action, and not before."""
        age, signed = self._age(given.at, given.index), given.sign_off
        return signed.verb not in (Verb.REASSESS, Verb.REVERSED) and any(
            one.at <= self.at
            and (one.sign_off.role, one.sign_off.action) == (signed.role, signed.action)
            and not age.outdates(self._age(one.at, one.index))
            for one in self._reversals
        )

    @cached_property
    def _reversals(self) -> Sequence[Signed]:
        return [one for one in self._sign_offs if one.sign_off.verb is Verb.REVERSED]

    def _next_reversal(self, roles: set[str]) -> datetime | None:
        """When the next reversal by any of *roles* begins, of those on record."""
        to_come = (
            one.at for one in self._reversals if one.at > self.at and one.sign_off.role in roles
        )
        return min(to_come, default=None)

    def reversed(self, action: str, role: str) -> Reading:
        """Whether the role reversed what others approved of the action, and did not approve since.

        It counts against, and only a later approval of the same role ends it.
        """
        on_it = [
            (self._age(one.at, one.index), one)
            for one in self._sign_offs
            if (one.sign_off.action, one.sign_off.role) == (action, role) and one.at <= self.at
        ]
        approved = [age for age, one in on_it if one.sign_off.verb is Verb.APPROVED]
        standing = [
            one.id
            for age, one in on_it
            if one.sign_off.verb is Verb.REVERSED
            and not any(later.outdates(age) for later in approved)
        ]
        if standing:
            return Reading(Truth.YES, frozenset({standing[-1]}))
        return Reading(Truth.NO, turns=self._next_reversal({role}))

    def _fact(self, leaf: ModelFact) -> Reading:
        value = self.model.fact(leaf.fact)
        return NEVER if value is None else Reading(fact_holds(leaf, value))

    # --- other models --------------------------------------------------------------------------

    def _leans_on(
        self, outcome: Outcome, leaf: ByOthers, threshold: str, rests_on: frozenset[str]
    ) -> Reading:
        """YES where a finding of that kind stands and, on the model that it names, the threshold is
        ruled out. Whatever counts against here and is no older outweighs it.
        """
        said = self._said(threshold)
        against = [age for age, _ in self._against(threshold)]
        worst = _newest(age for age in against if age.at <= self.at)
        bearing: list[tuple[datetime, str, frozenset[str]]] = []
        for one in said:
            if (
                one.finding.outcome is not outcome
                or one.at > self.at
                or not self._age(one.at, one.index).outdates(worst)
                or not set(leaf.by) <= set(one.finding.by)
                or leaf.in_assessment not in (None, one.kind)
                or self.at >= _forever(one.at, leaf.max_age)
                or (other := self.other(one.finding.other_model)) is None
            ):
                continue
            holds, ends = other.surely_ruled_out(threshold)
            if holds:
                until = min(ends or _NOT_AT_ALL, _forever(one.at, leaf.max_age))
                bearing.append((until, one.id, other.ruled_out(threshold).evidence))
        if not bearing:
            return NEVER
        until, id, evidence = max(bearing, key=lambda one: one[:2])
        turns = min([until, *(age.at for age in against if age.at > self.at)])
        return Reading(Truth.YES, evidence | {id}, _ever(turns), rests_on)

    def surely_ruled_out(self, name: str) -> tuple[bool, datetime | None]:
        """Whether the threshold is ruled out and not reached, and when that may end."""
        reached, ruled_out = self.reached(name), self.ruled_out(name)
        if reached.truth is Truth.YES or ruled_out.truth is not Truth.YES:
            return False, None
        return True, min((at for at in (reached.turns, ruled_out.turns) if at), default=None)

    def other(self, model: str | None) -> "Read | None":
        """The evidence on another model version under the same policy version, at this instant.

        `None` where it is not known, or too many models lean on one another in a row: so models
        that lean on one another in a circle bear nothing.
        """
        known = self.evidence.others.get(model or "")
        if known is None or self.depth == LONGEST_LEANING:
            return None
        place = known.model.model, self.depth + 1
        if place not in self.elsewhere:
            evidence = replace(known.evidence, others=self.evidence.others)
            self.elsewhere[place] = replace(
                self, model=known.model, evidence=evidence, depth=self.depth + 1
            )
        return self.elsewhere[place]

    def leans(self, name: str) -> "tuple[Outcome, Status | None] | None":
        """The newest finding on the threshold, where it leans on another model, with what the
        threshold is there: no status where nothing is known of it there.
        """
        begun = [s for s in self._said(name) if s.at <= self.at]
        if not begun or begun[-1].finding.outcome not in (Outcome.BOUNDED_BY, Outcome.CARRIED_OVER):
            return None
        outcome, other = begun[-1].finding.outcome, self.other(begun[-1].finding.other_model)
        if other is None or not other.assessed_at_all(name):
            return outcome, None
        if other.reached(name).truth is Truth.YES:
            return outcome, Status.REACHED
        ruled_out = other.ruled_out(name).truth is Truth.YES
        return outcome, Status.RULED_OUT if ruled_out else Status.NOT_RULED_OUT

    # --- lines ---------------------------------------------------------------------------------

    def current_results(self, line: str) -> list[Measured]:
        """The results that have begun and that no newer one of their variant replaces.

        Several of a variant where they are of one time. One that is not relied on replaces none,
        for else a mark on it would take away what counts against.
        """
        if line not in self._current:
            begun = [
                m
                for m in self.evidence.measured(line, self.policy.lines[line].unit)
                if m.at <= self.at
            ]
            newest = {m.result.variant: m.at for m in begun if m.result.load_bearing}
            self._current[line] = [
                m for m in begun if m.at >= newest.get(m.result.variant, EARLIEST)
            ]
        return self._current[line]

    @cached_property
    def _current(self) -> dict[str, list[Measured]]:
        """Each line is read once, however many conditions ask for it."""
        return {}

    def _rules_out(self, leaf: LineIn) -> Reading:
        """YES where one fresh result that is relied on lies surely in the zone, and none elsewhere."""
        current = self.current_results(leaf.line)
        truths = [(self._surely_in(m.result, leaf), m) for m in current]
        outside = [truth for truth, _ in truths if truth is not Truth.YES]
        if outside:
            truth = Truth.NO if Truth.NO in outside else Truth.UNKNOWN
            return Reading(truth, _ids(current), None, _LINES)
        fresh = [
            m
            for m in current
            if m.result.load_bearing
            and (leaf.max_age is None or self.at < leaf.max_age.after(m.at))
        ]
        if not fresh:
            return NEVER
        ends = [
            m.at
            for m in self._to_come(leaf.line)
            if self._surely_in(m.result, leaf) is not Truth.YES
        ]
        if leaf.max_age is not None:
            ends.append(max(leaf.max_age.after(m.at) for m in fresh))
        return Reading(Truth.YES, _ids(fresh), min(ends, default=None), _LINES)

    def _unless_found_otherwise(
        self, by_line: Reading, leaf: LineIn, threshold: str | None
    ) -> Reading:
        """No number flips a judgement: what people found against the threshold outweighs the line.

        Where no finding rules the threshold out, lines settle it: there only what was found no
        earlier than the newest result does. Semantics 1 knew none of this, 2 the latter alone.
        """
        if threshold is None or by_line.truth is not Truth.YES or self.semantics < _SECOND:
            return by_line
        newest = max(m.at for m in self.current_results(leaf.line))
        judged = self.semantics >= _THIRD and bool(self._ruling_out(threshold))
        against = [at for at in self._found_against(threshold) if judged or at >= newest]
        if any(at <= self.at for at in against):
            return NEVER
        turns = min([by_line.turns or _NOT_AT_ALL, *against])
        return replace(by_line, turns=_ever(turns))

    def _to_come(self, line: str) -> Iterable[Measured]:
        return (
            m for m in self.evidence.measured(line, self.policy.lines[line].unit) if m.at > self.at
        )

    def _rules_in(self, leaf: LineIn) -> Reading:
        """YES where any current result lies in the zone; a bare value is taken as it stands."""
        current = self.current_results(leaf.line)
        truths = [(self._surely_in(m.result, leaf), m) for m in current]
        inside = [m for truth, m in truths if truth is Truth.YES]
        if inside:
            return Reading(Truth.YES, _ids(inside), None, _LINES)
        # A plain NO lets "reassessment is not due" permit, so it needs a result that is relied on.
        relied_on = any(m.result.load_bearing for m in current)
        unsure = any(truth is Truth.UNKNOWN for truth, _ in truths) or not relied_on
        stricter = {Truth.YES} if unsure else {Truth.YES, Truth.UNKNOWN}
        turns = min(
            (m.at for m in self._to_come(leaf.line) if self._surely_in(m.result, leaf) in stricter),
            default=None,
        )
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
                self.current_results(name),
                key=lambda m: (m.result.variant or "", m.id, m.result.value),
            )
        )

    def _line_answer(self, name: str, measured: Measured) -> LineAnswer:
        line = self.policy.lines[name]
        result = measured.result
        zone: Zone = "none"
        established = False
        range_ = result.at_confidence(self.policy.confidence)
        for candidate, bound in (("rule_out", line.rule_out), ("rule_in", line.rule_in)):
            if bound is not None and bound.holds(result.value):
                zone = "rule_out" if candidate == "rule_out" else "rule_in"
                established = range_ is not None and all(
                    map(bound.holds, (range_.low, range_.high))
                )
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
            interval=None if range_ is None else ("computed" if range_.ours else "published"),
            load_bearing=result.load_bearing,
            variant=result.variant,
            evidence=measured.id,
        )

    def assessed_at_all(self, name: str) -> bool:
        """Whether anything at all was found or measured of the threshold by now."""
        lines = self.policy.thresholds[name].evidence
        return bool(self.findings_on(name)) or any(self.current_results(line) for line in lines)

    def findings_on(self, name: str) -> list[str]:
        """The assessments that found anything on the threshold by now."""
        return [s.id for s in self._said(name) if s.at <= self.at]

    def lapsed_ruling_out(self, name: str) -> bool:
        """Whether a finding once ruled the threshold out."""
        said = self._said(name)
        return any(s.finding.outcome is Outcome.RULED_OUT and s.at <= self.at for s in said)

    # --- what is in place ----------------------------------------------------------------------

    def met(self, name: str) -> tuple[Reading, tuple[str, ...]]:
        """Whether the standard is met, and which of its criteria are not known to be.

        A standard is met too where a stronger one that subsumes it is, by reports that are newer
        than any that it is not met itself.
        """
        return self._met_since(name, _OLDEST)

    def _met_since(self, name: str, after: "_Age") -> tuple[Reading, tuple[str, ...]]:
        key = name, after
        if key not in self._read_met:
            own, missing = self._criteria_met(name, self.policy.standards[name], after)
            unmet = self._unmet(name)
            last = _newest([after, *(age for age in unmet if age.at <= self.at)])
            since = last if own.truth is Truth.NO else after
            to_come = min((age.at for age in unmet if age.at > self.at), default=None)
            for stronger in self._stronger.get(name, ()):
                reading, _ = self._met_since(stronger, since)
                if reading.truth is not Truth.YES:
                    continue
                # Once its own reports lapse, those that it is not met stand again.
                lasting, _ = self._met_since(stronger, last)
                lasts = lasting.truth is Truth.YES
                if own.truth is Truth.YES and not lasts:
                    continue
                turning = (lasting.turns, to_come) if lasts else (reading.turns, to_come, own.turns)
                turns = min((at for at in turning if at is not None), default=None)
                if own.truth is Truth.YES:
                    turns = _later(own.turns, turns)
                    own = Reading(Truth.YES, own.evidence | reading.evidence, turns)
                else:
                    own, missing = Reading(Truth.YES, reading.evidence, turns), ()
            self._read_met[key] = own, missing
        return self._read_met[key]

    def _unmet(self, name: str) -> "list[_Age]":
        """From when on the standard, or any of it, was reported not to be met."""
        return [
            self._age(r.item.valid_from, r.index)
            for r in self.evidence.reports.get((self.policy.policy, name), ())
            if not r.item.met
        ]

    @cached_property
    def _read_met(self) -> "dict[tuple[str, _Age], tuple[Reading, tuple[str, ...]]]":
        """Each is read once, however many ways lead to it."""
        return {}

    @cached_property
    def _stronger(self) -> Mapping[str, list[str]]:
        """By standard, those that subsume it."""
        stronger: dict[str, list[str]] = {}
        for name, standard in self.policy.standards.items():
            for weaker in standard.subsumes:
                stronger.setdefault(weaker, []).append(name)
        return stronger

    def _criteria_met(
        self, name: str, standard: Standard, after: "_Age"
    ) -> tuple[Reading, tuple[str, ...]]:
        readings: list[tuple[str, Reading]] = []
        for role in standard.attested_by:
            # No text says what would meet it, so each named judge must have said that it is met.
            place = f"judgement:{role}"
            readings.append((place, self._reported(name, standard, (None,), after, judge=role)))
        for criterion, content in (standard.criteria or {}).items():
            for part in content.parts or (None,):
                place = criterion if part is None else f"{criterion}/{part}"
                covering = (None, criterion) if part is None else (None, criterion, place)
                readings.append((place, self._reported(name, standard, covering, after)))
        missing = tuple(place for place, reading in readings if reading.truth is not Truth.YES)
        truths = {reading.truth for _, reading in readings}
        evidence = frozenset[str]().union(*(reading.evidence for _, reading in readings))
        # Where some are missing already, one more that lapses is stricter still.
        turns = min((r.turns for _, r in readings if r.turns is not None), default=None)
        if truths == {Truth.YES}:
            return Reading(Truth.YES, evidence, turns), ()
        truth = Truth.NO if Truth.NO in truths else Truth.UNKNOWN
        return Reading(truth, evidence, turns), missing

    def _reported(
        self,
        name: str,
        standard: Standard,
        covering: Iterable[str | None],
        after: "_Age",
        judge: str | None = None,
    ) -> Reading:
        """Met where a report that covers it has begun, has not lapsed, and is newer than any
        report that it is not met.
        """
        reports = [
            (self._age(r.item.valid_from, r.index), r.id, r.item)
            for r in self.evidence.reports.get((self.policy.policy, name), ())
            if r.item.criterion in covering
        ]
        unmet = [(age, id) for age, id, report in reports if not report.met]
        begun = [(age, id) for age, id in unmet if age.at <= self.at]
        since = _newest([after, *(age for age, _ in begun)])
        counting = [
            (_lapse(report, standard.review), id)
            for age, id, report in reports
            if report.met
            and age.at <= self.at < _lapse(report, standard.review)
            and age.outdates(since)
            and (judge is None or report.stated_by == judge)
        ]
        if counting:
            turns, id = max(counting)
            begins = [age.at for age, _ in unmet if age.at > self.at]
            return Reading(Truth.YES, frozenset({id}), _ever(min([turns, *begins])))
        if begun:
            _, last = max(begun, key=lambda one: (one[0].at, one[1]))
            return Reading(Truth.NO, frozenset({last}))
        return NEVER

    def signed(self, action: str, role: str, verb: Verb, max_age: Duration | None) -> Reading:
        """Whether the role did that about the action."""
        given = [
            (_forever(one.at, max_age), one.id)
            for one in self._sign_offs
            if (one.sign_off.action, one.sign_off.role, one.sign_off.verb) == (action, role, verb)
            and one.at <= self.at < _forever(one.at, max_age)
            and not self._taken_back(one)
        ]
        if not given:
            return NEVER
        turns, id = max(given)
        ends = [] if max_age is None else [turns]
        reversal = self._next_reversal({role})
        ends += [] if reversal is None else [reversal]
        return Reading(Truth.YES, frozenset({id}), min(ends, default=None))

    def approvals(self, action: str, verbs: Set[Verb]) -> list[str]:
        """The sign-offs by any role that did one of *verbs* about the action and stand: none that was
        taken back, nor is older than the version lets that of its role be.
        """
        lasting = {one.role: one.max_age for one in self.policy.actions[action].sign_offs}
        return [
            one.id
            for one in self._sign_offs
            if one.sign_off.action == action
            and one.sign_off.verb in verbs
            and one.at <= self.at < _forever(one.at, lasting.get(one.sign_off.role))
            and not self._taken_back(one)
        ]

    # --- binding obligations -------------------------------------------------------------------

    def owed(self, place: str, obligation: Obligation) -> "Owed":
        """How a binding obligation stands that the action or threshold at *place* asks for.

        Every assessment from which its clock runs asks for it anew, and what was done no earlier than
        that answers it. One that was missed stays missed, whatever is assessed later: else a new
        assessment would put off what is late.
        """
        id = obligation_id(self.model.model, self.policy.policy, place, obligation.id)
        done = next(
            (d for d in self.evidence.fulfilled.get(id, ()) if d.item.done <= self.at), None
        )
        kind, due = obligation.since_assessment, obligation.due
        if kind is None:
            return Owed("outstanding") if done is None else Owed("done", done.id)
        asking = [one for one in self.evidence.assessed if one.item.kind == kind]
        begun = [one for one in asking if one.item.conducted_at <= self.at]
        if not begun:
            # Nobody may gain by taking away what it runs from.
            return Owed("unknown")

        def by(assessed: Recorded[Assessment]) -> datetime:
            at = assessed.item.conducted_at
            return due.after(at) if isinstance(due, Duration) else at

        missed = [one for one in begun if done is None or one.item.conducted_at > done.item.done]
        # Of all that is missed the oldest is due first, and of what is to come too.
        running = [*missed, *asking[len(begun) :]]
        turns = by(running[0]) if running else None
        if turns is not None and turns <= self.at:
            late: Literal["overdue", "outstanding"]
            late = "overdue" if isinstance(due, Duration) else "outstanding"
            return Owed(late, running[0].id, turns)
        return Owed("open" if missed else "done", begun[-1].id, turns)

    # --- exceptions and orders -----------------------------------------------------------------

    def excepted(self, standard: str, action: str) -> "Excepted | None":
        """The exception under which the action may go ahead without the standard, if one counts;
        of several, the one that lasts longest.
        """
        counting = []
        for recorded in self.evidence.exceptions:
            request = recorded.item.request
            if (request.policy, request.standard, request.action) != (
                self.policy.policy,
                standard,
                action,
            ):
                continue
            permitted = self._permitted(request.exception, standard, action)
            if permitted is None:
                continue
            roles, at_most, clause, place = permitted
            approved = recorded.item.approved_since(roles)
            begins = request.valid_from
            assert begins is not None, "the server's time is filled in before it is recorded"
            ends = (
                request.valid_until
                if at_most is None
                else min(request.valid_until, at_most.after(begins))
            )
            if approved is not None and max(begins, approved) <= self.at < ends:
                ids = frozenset({recorded.id, *(given.id for given in recorded.item.approvals)})
                counting.append((ends, recorded.id, Excepted(request, ids, ends, clause, place)))
        return max(counting, key=lambda one: one[:2])[2] if counting else None

    def _permitted(
        self, exception: str, standard: str, action: str
    ) -> tuple[tuple[str, ...], Duration | None, str, tuple[str | int, ...]] | None:
        """Who must approve the exception, for how long at most, its clause, and where it stands."""
        if exception == INTERIM_MEASURES:
            interim = self.policy.standards[standard].interim_measures
            if interim is None:
                return None
            place = ("standards", standard, "interim_measures")
            return interim.approved_by, interim.at_most, interim.clause, place
        permitted = (self.policy.exceptions or {}).get(exception)
        if (
            permitted is None
            or standard not in permitted.stands_for
            or (permitted.actions is not None and action not in permitted.actions)
        ):
            return None
        return (
            permitted.approved_by,
            permitted.at_most,
            permitted.clause,
            ("exceptions", exception),
        )

    def orders(self, action: str) -> tuple[list[Recorded[OrderOnRecord]], datetime | None]:
        """The orders that stand on the action, oldest first, and when the next one begins."""
        on_it = sorted(
            (
                one
                for one in self.evidence.orders
                if one.item.is_about(action) and one.item.order.policy in (None, self.policy.policy)
            ),
            key=lambda one: (one.item.begins, one.id),
        )
        standing = [one for one in on_it if one.item.stands(self.at)]
        to_come = (one.item.begins for one in on_it if one.item.begins > self.at)
        return standing, min(to_come, default=None)


@dataclass(frozen=True, slots=True)
class Excepted:
    """An exception that counts: its request, the evidence of it, until when, and the policy's own
    words that permit it.
    """

    request: RequestedException
    evidence: frozenset[str]
    until: datetime
    clause: str
    place: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Owed:
    """How a binding obligation stands: `open` is not done and not due yet.

    `evidence`: the assessment from which its clock runs, or what answers one without a clock. `due`:
    from when on it is late, or may be next; `None`: time alone does not make it so.
    """

    standing: Literal["done", "open", "outstanding", "overdue", "unknown"]
    evidence: str | None = None
    due: datetime | None = None

    @property
    def closes(self) -> bool:
        """Whether the action is denied for it."""
        return self.standing in ("outstanding", "overdue", "unknown")


@dataclass(frozen=True, slots=True)
class _Age:
    """How new a piece is: the instant that it speaks for, and its place in the ledger."""

    at: datetime
    place: int

    def outdates(self, other: "_Age") -> bool:
        """Whether it is newer in both: what is dated ahead must not outlive what was recorded after
        it, nor answer what nobody knew of when it was recorded.
        """
        return self.at > other.at and self.place >= other.place


@dataclass(frozen=True, slots=True)
class _Cleared:
    """The rulings out that clear what was found before, and until when all of them do."""

    ages: tuple[_Age, ...] = ()
    until: datetime | None = None

    def outdates(self, age: _Age) -> bool:
        return any(one.outdates(age) for one in self.ages)


_OLDEST: Final = _Age(datetime.min.replace(tzinfo=UTC), 0)
_LAST: Final = 2**63 - 1
"""No place in a ledger is beyond it."""
_CLEARED_BY_NONE: Final = _Cleared()


def _newest(ages: Iterable[_Age]) -> _Age:
    """What outdates this outdates each of them."""
    at, place = _OLDEST.at, _OLDEST.place
    for age in ages:
        at, place = max(at, age.at), max(place, age.place)
    return _Age(at, place)


_AGAINST = frozenset({Outcome.INCONCLUSIVE, Outcome.NOT_RULED_OUT, Outcome.REACHED})
"""`bounded-by` and `carried-over` permit only where a policy gives them use."""

_JUDGES = _AGAINST | {Outcome.RULED_OUT}

_FINDING = frozenset({"finding"})
_LINES = frozenset({"lines"})
_BOUNDED = frozenset({"bounded-by"})
_CARRIED = frozenset({"carried-over"})


def _rules_out(said: Said, leaf: FindingIs) -> bool:
    """Whether it is a ruling out by those roles, in an assessment of that kind."""
    return (
        said.finding.outcome is Outcome.RULED_OUT
        and (leaf.in_assessment is None or said.kind == leaf.in_assessment)
        and all(role in said.finding.by for role in leaf.by)
    )


def _alternatives_to_judgement(tree: Condition) -> set[int]:
    """The leaves, by identity, that may rule out in place of every finding of that."""
    return {
        id(leaf)
        for _, node in walk(tree)
        if isinstance(node, AnyOf)
        for child in node.any
        if not any(isinstance(below, FindingIs) for _, below in walk(child))
        for _, leaf in walk(child)
    }


def _ids(measured: Iterable[Measured]) -> frozenset[str]:
    return frozenset(m.id for m in measured)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else max(one, other)


_NOT_AT_ALL = datetime.max.replace(tzinfo=UTC)
"""When that lapses which has no end: after every instant that there is."""


def _ever(instant: datetime) -> datetime | None:
    return instant if instant < _NOT_AT_ALL else None


def _lapse(report: SafeguardReport, review: Duration | None) -> datetime:
    ends = [_NOT_AT_ALL]
    if report.valid_until is not None:
        ends.append(report.valid_until)
    if review is not None:
        ends.append(review.after(report.valid_from))
    return min(ends)


def _forever(at: datetime, max_age: Duration | None) -> datetime:
    return _NOT_AT_ALL if max_age is None else max_age.after(at)
