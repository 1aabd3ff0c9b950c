"""What is proved of one policy version: that no rule of it opens a gate on silence, and that more
evidence moves each rule only the way it should.

`app.policy.lint` refuses what could break a law by its form. Here the same is shown the other way,
by what the engine answers: each condition is asked under every valuation of its leaves, each leaf
and each action with no evidence at all. Where a tree has too many leaves for that, the answer
follows from its structure, and the proof says so.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise, product
from math import prod
from typing import Final, Literal

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence
from app.decoding import pointer
from app.determination.coverage import Coverage
from app.determination.decide import Question, decide
from app.determination.moves import Placed, joined, permitting, piece, smallest_sets
from app.determination.reading import Read
from app.determination.record import SEMANTICS, Determination
from app.policy.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    Condition,
    Leaf,
    ModelFact,
    Not,
    Polarity,
    Reading,
    ReassessmentNotDue,
    ThresholdRuledOut,
    children,
    polarity,
    truth_of,
    walk,
)
from app.policy.language import policy_digest
from app.policy.timeline import PolicyInForce
from app.policy.version import PolicyVersion
from app.vocabulary import EARLIEST, Document, Truth, write_number

MOST_VALUATIONS: Final = 60_000
"""Up to so many valuations are tried one by one; beyond, the structure of the tree is argued."""

_AT: Final = datetime(2100, 1, 1, tzinfo=UTC)
_FRESH: Final = timedelta(hours=1)

Rule = Literal["reached", "ruled_out", "reassess", "scope"]
Method = Literal["exhaustive", "structural"]
Allows = Literal["allow", "allow_with_conditions"]
Path = tuple[str | int, ...]


class LeafProved(Document):
    """A leaf of a tree: what it is, which way it may move, and what it says of nothing."""

    pointer: str
    """Where it stands first."""
    condition: str
    """The leaf as JSON."""
    polarity: Literal["permits", "counts-against", "fact"]
    without_evidence: tuple[str, ...]
    """What it may read with no evidence, whatever is known of the model."""


class TreeProved(Document):
    """What is proved of one condition of the version.

    `method` is `exhaustive` where all `valuations` of the leaves were tried. `well_formed`: no group
    is empty, none counts to less than one or more than it has, and `not` stands over facts alone.
    `monotone`: each leaf moves the tree only in its polarity. `silent`: nothing at all never
    rules out; of other trees nothing is asked but what they then say (`without_evidence`).
    `against`: why one of these does not hold.
    """

    pointer: str
    rule: Rule
    method: Method
    valuations: int
    leaves: tuple[LeafProved, ...]
    well_formed: bool
    monotone: bool
    silent: bool
    without_evidence: tuple[str, ...]
    against: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether all of it is proved."""
        return self.well_formed and self.monotone and self.silent


class Witness(Document):
    """What, recorded together, lets an action go ahead: none of it can be left out."""

    decision: Allows
    facts: dict[str, str]
    """The facts about the model that it was found for; none: nothing is known of it."""
    evidence: tuple[str, ...]


class ActionProved(Document):
    """What is proved of one action.

    `guarded`: with no evidence it is denied for every one of `models` sorts of model, or nothing that
    the version asks for stands before it, and then `open_by` are the clauses that leave it open.
    `witness` is `null` where it is unreachable: with all that could be recorded, `closed_by` deny it.
    """

    action: str
    models: int
    exhaustive: bool
    """Whether these are all sorts of model that the version tells apart."""
    without_evidence: tuple[str, ...]
    guarded: bool
    open_by: tuple[str, ...]
    witness: Witness | None
    closed_by: tuple[str, ...]


class TableProved(Document):
    """How many small changes to the document its decision table sees, and where it sees none."""

    mutants: int
    killed: int
    survivors: tuple[str, ...]


class Proof(Document):
    """What is proved of one policy version, under one meaning of the engine.

    `decision_table` is `null` where it was not measured. `holds`: every tree is proved and every
    action guarded. An action that nothing can open is told, and is no fault.
    """

    schema_: Literal["aslgate/proof/v1"]
    policy: str
    version: str
    digest: str
    semantics: int
    holds: bool
    trees: tuple[TreeProved, ...]
    actions: tuple[ActionProved, ...]
    decision_table: TableProved | None


def prove(version: PolicyVersion) -> Proof:
    """Prove what can be proved of *version* alone. Total: a version that lint would refuse too has
    a proof, which does not hold and says why.
    """
    search = _Proving(version)
    trees = tuple(search.tree(*one) for one in _trees(version))
    actions = tuple(search.action(name) for name in version.actions)
    return Proof(
        schema_="aslgate/proof/v1",
        policy=version.policy,
        version=version.version,
        digest=policy_digest(version),
        semantics=SEMANTICS,
        holds=all(tree.holds for tree in trees) and all(one.guarded for one in actions),
        trees=trees,
        actions=actions,
        decision_table=None,
    )


def with_table(proof: Proof, measured: Coverage) -> Proof:
    """The proof with what its decision table sees."""
    survivors = sorted({one.pointer for one in measured.survivors})
    table = TableProved(
        mutants=measured.mutants, killed=measured.killed, survivors=tuple(survivors)
    )
    return proof.model_copy(update={"decision_table": table})


def proof_text(proof: Proof) -> bytes:
    """The proof as it is kept beside its version: JSON for people, the same bytes each time."""
    said = proof.model_dump(mode="json")
    said["schema"] = said.pop("schema_")
    return (json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _trees(version: PolicyVersion) -> Iterator[tuple[Path, Rule, Condition, str | None]]:
    """Every condition of the version, with its place and the threshold that it speaks of."""
    if version.applies_to.when is not None:
        yield ("applies_to", "when"), "scope", version.applies_to.when, None
    for name, threshold in version.thresholds.items():
        yield ("thresholds", name, "reached"), "reached", threshold.reached, name
        yield ("thresholds", name, "ruled_out"), "ruled_out", threshold.ruled_out, name
    if version.reassess is not None:
        yield ("reassess", "when"), "reassess", version.reassess.when, None


def _towards(rule: Rule) -> Polarity:
    return Polarity.PERMITS if rule == "ruled_out" else Polarity.COUNTS_AGAINST


_ORDER: Final = (Truth.NO, Truth.UNKNOWN, Truth.YES)
_RANK: Final[Mapping[Truth, int]] = {truth: rank for rank, truth in enumerate(_ORDER)}


def _leaves(tree: Condition) -> dict[str, tuple[Path, Leaf]]:
    """The distinct leaves by what they say, each with the place where it stands first."""
    found: dict[str, tuple[Path, Leaf]] = {}
    for path, node in walk(tree):
        if not isinstance(node, AllOf | AnyOf | AtLeast | Not):
            found.setdefault(_said(node), (path, node))
    return found


def _said(leaf: Condition) -> str:
    said = leaf.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return json.dumps(said, sort_keys=True, ensure_ascii=False)


class _Proving:
    def __init__(self, version: PolicyVersion) -> None:
        self.version = version
        sorts = _sorts_of_model(version)
        self.every_sort = prod(len(values) for _, values in sorts) <= MOST_SORTS
        self.models = tuple(islice(_models(version, sorts), MOST_SORTS))
        self.reads = [Read(version, model, Evidence(), _AT) for model in self.models]
        self._moves: dict[str, tuple[bool, str | None]] = {}

    # --- trees ---------------------------------------------------------------------------------

    def tree(self, path: Path, rule: Rule, tree: Condition, threshold: str | None) -> TreeProved:
        leaves = _leaves(tree)
        exhaustive = 3 ** len(leaves) <= MOST_VALUATIONS
        ill_formed = [f"{pointer(*path, *at)}: {why}" for at, why in _ill_formed(tree)]
        if exhaustive:
            moved = self._by_valuation(tree, leaves, _towards(rule))
        else:
            moved = _by_structure(tree, leaves, _towards(rule))
        against = list(ill_formed)
        if moved is not None:
            against.append(f"{pointer(*path)}: {moved}")
        truths = self._without_evidence(tree, threshold)
        silent = rule != "ruled_out" or Truth.YES not in truths
        if not silent:
            against.append(f"{pointer(*path)}: rules out with no evidence at all")
        return TreeProved(
            pointer=pointer(*path),
            rule=rule,
            method="exhaustive" if exhaustive else "structural",
            valuations=3 ** len(leaves) if exhaustive else 0,
            leaves=tuple(
                LeafProved(
                    pointer=pointer(*path, *at),
                    condition=said,
                    polarity=_polarity_word(leaf),
                    without_evidence=_words(self._without_evidence(leaf, threshold)),
                )
                for said, (at, leaf) in leaves.items()
            ),
            well_formed=not ill_formed,
            monotone=moved is None,
            silent=silent,
            without_evidence=_words(truths),
            against=tuple(against),
        )

    def _without_evidence(self, tree: Condition, threshold: str | None) -> set[Truth]:
        """What the tree may read with no evidence: by the real readings for all sorts of model, and
        where there are too many of those, for any value of any fact.
        """
        if self.every_sort:
            return {_truth(tree, read, threshold) for read in self.reads}
        return self._possible(tree, threshold)

    def _possible(self, tree: Condition, threshold: str | None) -> set[Truth]:
        """No less than what the tree may read with no evidence, each leaf taken for itself."""
        match tree:
            case AllOf() | AnyOf() | AtLeast():
                below = [self._possible(c, threshold) for _, c in children(tree)]
                return _counted(below, _needed(tree))
            case Not():
                return {~truth for truth in self._possible(tree.not_, threshold)}
            case ModelFact():
                return set(Truth)
            case ReassessmentNotDue():
                if self.version.reassess is None:
                    return {Truth.UNKNOWN}
                due = self._possible(self.version.reassess.when, None)
                return {~truth for truth in due}
            case ThresholdRuledOut():
                # The language refuses a circle, so that this comes to an end.
                other = tree.threshold_ruled_out
                possible = self._possible(self.version.thresholds[other].ruled_out, other)
                return {Truth.UNKNOWN} | ({Truth.YES} & possible)
            case _:
                return {_truth(tree, self.reads[0], threshold)}

    def _by_valuation(
        self, tree: Condition, leaves: Mapping[str, tuple[Path, Leaf]], towards: Polarity
    ) -> str | None:
        """Why some leaf moves the tree the wrong way, found by trying all valuations."""
        names = list(leaves)
        signs = [_sign(leaf, towards) for _, leaf in leaves.values()]
        # Thresholds of one version mostly have trees of one shape: each shape is tried once.
        shape = f"{towards.value} {signs} {_shape(tree, names)}"
        if shape not in self._moves:
            wrong = _wrong_way(tree, names, signs, towards)
            self._moves[shape] = wrong is None, None if wrong is None else str(wrong)
        _, which = self._moves[shape]
        return None if which is None else f"`{names[int(which)]}` moves it the wrong way"

    # --- actions -------------------------------------------------------------------------------

    def action(self, name: str) -> ActionProved:
        """What is proved of one action."""
        answers = [self._answer(name, model, Evidence()) for model in self.models]
        open_ = [one for one in answers if one.decision != "deny"]
        witness, closed_by = self._witness(name)
        return ActionProved(
            action=name,
            models=len(self.models),
            exhaustive=self.every_sort,
            without_evidence=tuple(sorted({one.decision for one in answers})),
            guarded=not any(self._asked_for(name, one) for one in open_),
            open_by=self._left_open(name) if open_ else (),
            witness=witness,
            closed_by=closed_by,
        )

    def _answer(self, action: str, model: ModelVersion, evidence: Evidence) -> Determination:
        question = Question(model.model, action, self.version.policy, _AT)
        return decide(question, _in_force(self.version), model, evidence)

    def _asked_for(self, name: str, answer: Determination) -> bool:
        """Whether something that the version asks for stands before the action."""
        action = self.version.actions[name]
        current = "reassessment-not-due" in action.needs and answer.reassessment != "no"
        standards = any(one.required and name in one.before for one in answer.standards)
        return bool(action.sign_offs) or current or standards

    def _left_open(self, name: str) -> tuple[str, ...]:
        """The clauses by which what nobody has assessed does not close the action, or its own."""
        clauses = [
            threshold.not_ruled_out.clause
            for threshold in self.version.thresholds.values()
            if threshold.not_ruled_out.means == "does-not-bind"
            and (
                any(name in one.before for one in threshold.requires)
                or any(name in one.actions for one in threshold.prohibits)
            )
        ]
        return tuple(dict.fromkeys(clauses or [self.version.actions[name].clause]))

    def _witness(self, name: str) -> tuple[Witness | None, tuple[str, ...]]:
        """A smallest set of evidence that opens the action for some model; else what closes it."""
        closed: tuple[str, ...] = ()
        for read in self.reads:
            moves = permitting(read, name)
            pieces = [
                piece(read, name, Placed(move, _AT - _FRESH), f"move_{i:03d}")
                for i, move in enumerate(moves)
            ]

            def answer(
                chosen: frozenset[int], read: Read = read, pieces: Sequence[Evidence] = pieces
            ) -> Determination:
                evidence = joined(Evidence(), (pieces[i] for i in sorted(chosen)))
                return self._answer(name, read.model, evidence)

            whole = answer(frozenset(range(len(moves))))
            if whole.decision == "deny":
                reasons = [one for one in whole.reasons if one.blocks]
                if not any(one.code == "policy.does_not_apply" for one in reasons):
                    closed = closed or tuple(
                        f"{one.code} {one.pointer}: {one.clause or one.message}" for one in reasons
                    )
                continue

            def opens(
                chosen: frozenset[int],
                answer: Callable[[frozenset[int]], Determination] = answer,
            ) -> bool:
                return answer(chosen).decision != "deny"

            chosen = smallest_sets(len(moves), opens, limit=1).sets[0]
            decision = answer(frozenset(chosen)).decision
            assert decision != "deny", "the set was found because it opens the action"
            evidence = tuple(moves[i].message for i in chosen)
            return Witness(decision=decision, facts=_facts_of(read.model), evidence=evidence), ()
        return None, closed


def _in_force(version: PolicyVersion) -> PolicyInForce:
    return PolicyInForce(version, policy_digest(version), EARLIEST, None)


# --- trees -------------------------------------------------------------------------------------


def _truth(tree: Condition, read: Read, threshold: str | None) -> Truth:
    """What the tree says by the readings that decide."""
    return truth_of(
        tree,
        lambda leaf: read._leaf(leaf, threshold),  # noqa: SLF001 - the very readings are proved
        Polarity.PERMITS,
    ).truth


def _polarity_word(leaf: Leaf) -> Literal["permits", "counts-against", "fact"]:
    which = polarity(leaf)
    if which is None:
        return "fact"
    return "permits" if which is Polarity.PERMITS else "counts-against"


def _sign(leaf: Leaf, towards: Polarity) -> int:
    """Which way a leaf that becomes truer may move the truth of the tree; 0: either."""
    which = polarity(leaf)
    return 0 if which is None else 1 if which is towards else -1


def _words(truths: set[Truth]) -> tuple[str, ...]:
    return tuple(truth.value for truth in _ORDER if truth in truths)


def _needed(group: AllOf | AnyOf | AtLeast) -> int:
    if isinstance(group, AtLeast):
        return group.at_least_k.k
    return len(group.all) if isinstance(group, AllOf) else 1


def _counted(below: Sequence[set[Truth]], needed: int) -> set[Truth]:
    """What a count to *needed* may read where each child reads any of its truths."""
    tallies = {(0, 0)}
    for truths in below:
        tallies = {
            (yes + (truth is Truth.YES), open_ + (truth is Truth.UNKNOWN))
            for yes, open_ in tallies
            for truth in truths
        }
    return {
        Truth.YES if yes >= needed else Truth.UNKNOWN if yes + open_ >= needed else Truth.NO
        for yes, open_ in tallies
    }


def _ill_formed(tree: Condition) -> Iterator[tuple[Path, str]]:
    for path, node in walk(tree):
        if isinstance(node, AllOf | AnyOf | AtLeast):
            count = len(children(node))
            if count == 0:
                yield path, "a group of no conditions"
            elif not 1 <= _needed(node) <= count:
                yield path, f"counts to {_needed(node)} of {count}"
        elif isinstance(node, Not):
            for at, below in walk(node.not_, (*path, "not")):
                if not isinstance(below, AllOf | AnyOf | AtLeast | Not | ModelFact):
                    yield at, f"`not` stands over evidence: `{_said(below)}`"


def _shape(tree: Condition, names: Sequence[str]) -> str:
    """The tree with its leaves numbered."""
    match tree:
        case AllOf() | AnyOf() | AtLeast():
            below = ",".join(_shape(child, names) for _, child in children(tree))
            return f"{_needed(tree)}({below})"
        case Not():
            return f"not({_shape(tree.not_, names)})"
        case _:
            return str(names.index(_said(tree)))


def _wrong_way(
    tree: Condition, names: Sequence[str], signs: Sequence[int], towards: Polarity
) -> int | None:
    """The first leaf that, one step truer, moves the tree the wrong way under some valuation."""
    positions = {name: i for i, name in enumerate(names)}
    numbered = {id(node): positions[_said(node)] for _, node in walk(tree) if _is_leaf(node)}
    ranks: dict[tuple[int, ...], int] = {}
    settled = [Reading(truth) for truth in _ORDER]
    for valuation in product(range(3), repeat=len(names)):
        readings = {node: settled[valuation[i]] for node, i in numbered.items()}
        truth = truth_of(tree, lambda leaf, known=readings: known[id(leaf)], towards).truth  # type: ignore[misc]
        ranks[valuation] = _RANK[truth]
    for valuation, rank in ranks.items():
        for i, sign in enumerate(signs):
            if sign and valuation[i] < 2:
                truer = (*valuation[:i], valuation[i] + 1, *valuation[i + 1 :])
                if (ranks[truer] - rank) * sign < 0:
                    return i
    return None


def _is_leaf(node: Condition) -> bool:
    return not isinstance(node, AllOf | AnyOf | AtLeast | Not)


def _by_structure(
    tree: Condition, leaves: Mapping[str, tuple[Path, Leaf]], towards: Polarity
) -> str | None:
    """A count rises with each of its children, so a tree of counts rises with each of its leaves; it
    is monotone if all its evidence stands under counts alone, and has the tree's own polarity.
    """
    for _, node in walk(tree):
        if isinstance(node, Not):
            for _, below in walk(node.not_):
                if not isinstance(below, AllOf | AnyOf | AtLeast | Not | ModelFact):
                    return f"`{_said(below)}` stands under `not`"
    for said, (_, leaf) in leaves.items():
        if _sign(leaf, towards) < 0:
            return f"`{said}` moves it the wrong way"
    return None


# --- sorts of model ----------------------------------------------------------------------------

MOST_SORTS: Final = 2_000
"""So many sorts of model are asked about at most."""


def _sorts_of_model(version: PolicyVersion) -> list[tuple[str, list[Decimal | None]]]:
    """For each fact that a condition names: not known, and a value in each part of the numbers that
    its bounds tell apart.
    """
    bounds: dict[str, set[Decimal]] = {}
    for _, _, tree, _ in _trees(version):
        for _, node in walk(tree):
            if isinstance(node, ModelFact):
                bounds.setdefault(node.fact, set()).update(
                    n
                    for n in (node.at_least, node.below, node.above, node.at_most)
                    if n is not None
                )
    sorts: list[tuple[str, list[Decimal | None]]] = []
    for fact, numbers in sorted(bounds.items()):
        ordered = sorted(numbers)
        between = [(a + b) / 2 for a, b in pairwise(ordered)]
        outside = [ordered[0] - 1 if ordered[0] <= 1 else ordered[0] / 2, ordered[-1] * 2 + 1]
        values = sorted({*ordered, *between, *outside})
        if fact == "training_compute_flop":
            values = [value for value in values if value > 0]
        sorts.append((fact, [None, *values]))
    return sorts


def _models(
    version: PolicyVersion, sorts: Sequence[tuple[str, Sequence[Decimal | None]]]
) -> Iterator[ModelVersion]:
    """One model of each sort; the first is one of which no fact is known."""
    developer = (version.applies_to.developer or ("anyone",))[0]
    for chosen in product(*(values for _, values in sorts)):
        facts = {fact: v for (fact, _), v in zip(sorts, chosen, strict=True) if v is not None}
        compute = facts.pop("training_compute_flop", None)
        yield ModelVersion(
            model="any-model@1", developer=developer, training_compute_flop=compute, facts=facts
        )


def _facts_of(model: ModelVersion) -> dict[str, str]:
    known = {fact: write_number(value) for fact, value in model.facts.items()}
    if model.training_compute_flop is not None:
        known["training_compute_flop"] = write_number(model.training_compute_flop)
    return dict(sorted(known.items()))
