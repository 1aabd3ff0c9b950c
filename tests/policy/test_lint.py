"""What may not be published: one fault each, with its pointer, code and line; several come at once."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from app.errors import InvalidDocument
from app.policy.language import read_policy
from tests.kept import kept

VALID = Path(__file__).with_name("valid.yaml").read_text()


@dataclass(frozen=True)
class Edit:
    """One thing written otherwise in the valid document, and the fault that this is."""

    why: str
    old: str
    new: str
    pointer: str
    code: str
    beside: int = 0
    """How many other faults the edit cannot but make too."""


def edited(text: str, edit: Edit) -> str:
    """*text* with the edit made."""
    assert text.count(edit.old) == 1, f"`{edit.old}` stands once in the valid document"
    return text.replace(edit.old, edit.new)


REQUIRES_UNWRITTEN = "requires: [{standard: unwritten, before: [deployment]}]"
RULED_OUT_1 = (
    "ruled_out: {all: [{finding: ruled-out, by: [ceo, rso]},"
    " {assessment: comprehensive, max_age: P6M}, {reassessment: not-due}]}"
)
RULED_OUT_2 = VALID[VALID.index("ruled_out: {any: [{threshold") :].partition("\n")[0]
REACHED_1 = "reached: {any: [{finding: reached}, {line: uplift, zone: rule_in}]}"
REACHED_2 = "reached: {finding: reached}\n    ruled_out: {any"
WHEN = VALID[VALID.index("when: {any") : VALID.index("actions:\n") - 2]
T1, T2 = "/thresholds/BIO-1", "/thresholds/BIO-2"

SCOPE = "applies_to: {developer: [somebody]}"
EVIDENCE_1 = "    evidence: [uplift]\n"
ACTIONS = "actions:\n"
TRAINING = VALID[VALID.index("training: {statement") :].partition("\n")[0]


def exception(**more: str) -> str:
    """What stands before the actions, and an exception of the version's own before it."""
    fields = {"stands_for": "[weak]", "approved_by": "[ceo]", "at_most": "P1Y"} | more
    said = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return f"exceptions: {{rivals: {{statement: s, clause: c, {said}}}}}\nactions:\n"


FAULTS = [
    # --- silence, and lists of nothing ---
    Edit(
        "silent on what an open threshold means",
        "    not_ruled_out: {means: binds, clause: c}\n",
        "",
        f"{T1}/not_ruled_out",
        "missing",
    ),
    Edit(
        "not_ruled_out without its clause",
        "{means: binds, clause: c}",
        "{means: binds}",
        f"{T1}/not_ruled_out/clause",
        "missing",
    ),
    Edit(
        "a third meaning",
        "{means: binds, ",
        "{means: maybe, ",
        f"{T1}/not_ruled_out/means",
        "unknown-value",
    ),
    Edit("an empty all", RULED_OUT_1, "ruled_out: {all: []}", f"{T1}/ruled_out/all", "too-short"),
    Edit("an empty any", REACHED_1, "reached: {any: []}", f"{T1}/reached/any", "too-short"),
    Edit(
        "at least none of none",
        RULED_OUT_2,
        "ruled_out: {at_least_k: {k: 1, of: []}}",
        f"{T2}/ruled_out/at_least_k/of",
        "too-short",
    ),
    Edit(
        "no criteria",
        "criteria: {a: {statement: s, clause: c}}}",
        "criteria: {}}",
        "/standards/weak/criteria",
        "too-short",
    ),
    Edit("no thresholds", VALID[VALID.index("thresholds:\n") : VALID.index("reassess:")],
         "thresholds: {}\n", "/thresholds", "too-short"),
    Edit("no developer", "developer: [somebody]", "developer: []",
         "/applies_to/developer", "too-short"),
    Edit("before nothing", "{standard: weak, before: [deployment]}", "{standard: weak, before: []}",
         "/baseline/requires/0/before", "too-short"),
    Edit("an action that needs nothing", "  training: {statement: s, clause: c, needs: [required-standards]}",
         "  training: {statement: s, clause: c, needs: []}", "/actions/training/needs", "too-short"),
    # --- form ---
    Edit("a field that there is not", "publisher: Somebody", "publisher: Somebody\nexpires: never",
         "/expires", "unknown-field"),
    Edit("two conditions in one", REACHED_1, "reached: {finding: reached, line: uplift}",
         f"{T1}/reached", "condition"),
    Edit("a condition that there is not", REACHED_1, "reached: {always: true}",
         f"{T1}/reached", "condition"),
    Edit("a list where a condition must be", REACHED_1, "reached: [{finding: reached}]",
         f"{T1}/reached", "condition"),
    Edit("a word where a condition must be", REACHED_1, "reached: always",
         f"{T1}/reached", "condition"),
    Edit("half a year in words", "comprehensive, max_age: P6M}", "comprehensive, max_age: 6 months}",
         f"{T1}/ruled_out/all/1/max_age", "invalid-value"),
    Edit("a review after nothing", "review: P1Y", "review: P0D",
         "/standards/strong/review", "invalid-value"),
    Edit("a line with two bounds", "rule_out: {above: 0.9}", "rule_out: {above: 0.9, at_least: 0.8}",
         "/lines/refusals/rule_out", "invalid-value"),
    Edit("no such day", "effective: 2025-05-14", "effective: 2025-02-30", "/effective", "invalid-value"),
    Edit("a number with a comma", "confidence: 0.95", 'confidence: "0,95"', "/confidence", "invalid-value"),
    Edit("a number beyond all bounds", "at_least: 1e25", "at_least: 1e99",
         f"{T2}/ruled_out/any/1/at_least_k/of/1/not/at_least", "invalid-value"),
    Edit("a fact with two bounds", "at_least: 1e25", "at_least: 1e25, below: 1e26",
         f"{T2}/ruled_out/any/1/at_least_k/of/1/not", "invalid-value"),
    # --- names of nothing ---
    Edit("a domain", "BIO-1:\n    domain: bio", "BIO-1:\n    domain: chem",
         f"{T1}/domain", "unknown-reference"),
    Edit("a required standard", REQUIRES_UNWRITTEN, REQUIRES_UNWRITTEN.replace("unwritten", "none"),
         f"{T2}/requires/0/standard", "unknown-reference"),
    Edit("a standard of the baseline", "{standard: weak, before", "{standard: none, before",
         "/baseline/requires/0/standard", "unknown-reference"),
    Edit("a subsumed standard", "subsumes: [weak]", "subsumes: [none]",
         "/standards/strong/subsumes", "unknown-reference"),
    Edit("an action before which", REQUIRES_UNWRITTEN, REQUIRES_UNWRITTEN.replace("deployment", "flight"),
         f"{T2}/requires/0/before", "unknown-reference"),
    Edit("an action of a shortfall", "actions: [training]", "actions: [flight]",
         "/standards/strong/on_shortfall/0/actions", "unknown-reference"),
    Edit("a level", "level: L2", "level: L4", "/standards/strong/level", "unknown-reference"),
    Edit("a level where there are none", "levels: [L1, L2, L3]\n", "",
         "/standards/strong/level", "unknown-reference", beside=2),
    Edit("a line as evidence", "evidence: [uplift]", "evidence: [speed]",
         f"{T1}/evidence", "unknown-reference"),
    Edit("a line of a condition", "{line: uplift, zone: rule_in}", "{line: speed, zone: rule_in}",
         f"{T1}/reached/any/1/line", "unknown-reference"),
    Edit("a weaker threshold", "threshold_ruled_out: BIO-1", "threshold_ruled_out: BIO-0",
         f"{T2}/ruled_out/any/0/threshold_ruled_out", "unknown-reference"),
    Edit("a role that finds", "by: [ceo, rso]", "by: [ceo, cfo]",
         f"{T1}/ruled_out/all/0/by", "unknown-reference"),
    Edit("a role that signs", "{role: ceo, verb: approved, clause: c}", "{role: cfo, verb: approved, clause: c}",
         "/actions/deployment/sign_offs/0/role", "unknown-reference"),
    Edit("a role that asks anew", "sign_off: reassess, by: rso", "sign_off: reassess, by: cfo",
         "/reassess/when/any/2/by", "unknown-reference"),
    Edit("a role that attests", "attested_by: [ceo]", "attested_by: [cfo]",
         "/standards/unwritten/attested_by", "unknown-reference"),
    Edit("a role that approves interim measures", "approved_by: [ceo]", "approved_by: [cfo]",
         "/standards/strong/interim_measures/approved_by", "unknown-reference"),
    Edit("a role that is told", "told: [rso]", "told: [cfo]",
         "/standards/strong/interim_measures/told", "unknown-reference"),
    Edit("a role obliged by a threshold", "by: ceo, due: P30D", "by: cfo, due: P30D",
         f"{T1}/obligations/0/by", "unknown-reference"),
    Edit("a role obliged by an action", "{id: publish, statement: s, clause: c, by: rso}",
         "{id: publish, statement: s, clause: c, by: cfo}",
         "/actions/deployment/obligations/0/by", "unknown-reference"),
    Edit("a reassessment that the version does not have",
         VALID[VALID.index("reassess:") : VALID.index("actions:\n")], "",
         f"{T1}/ruled_out/all/2/reassessment", "unknown-reference"),
    # --- what cannot be ---
    Edit("a zone on the wrong side", "rule_out: {at_most: 2.8}", "rule_out: {at_least: 2.8}",
         "/lines/uplift/rule_out", "impossible-bound"),
    Edit("a wrong side where lower is riskier", "rule_out: {above: 0.9}", "rule_out: {below: 0.9}",
         "/lines/refusals/rule_out", "impossible-bound"),
    Edit("zones that overlap", "rule_in: {at_least: 5.0}", "rule_in: {at_least: 2.7}",
         "/lines/uplift", "overlap"),
    Edit("zones that share their edge", "rule_in: {at_least: 5.0}", "rule_in: {at_least: 2.8}",
         "/lines/uplift", "overlap"),
    Edit("more than all", "{k: 2, of", "{k: 3, of", f"{T2}/ruled_out/any/1/at_least_k/k", "impossible-bound"),
    Edit("at least none", "{k: 2, of", "{k: 0, of", f"{T2}/ruled_out/any/1/at_least_k/k", "impossible-bound", beside=1),
    Edit("a negative growth", "{compute_ratio: {at_least: 4,", "{compute_ratio: {at_least: -4,",
         "/reassess/when/any/1/compute_ratio/at_least", "impossible-bound"),
    Edit("a negative compute", "at_least: 1e25", "at_least: -1e25",
         f"{T2}/ruled_out/any/1/at_least_k/of/1/not/at_least", "impossible-bound"),
    Edit("a confidence without a quantile", "confidence: 0.95", "confidence: 0.94",
         "/confidence", "unsupported-confidence"),
    Edit("a zone that the line does not have", "{line: uplift, zone: rule_in}", "{line: refusals, zone: rule_in}",
         f"{T1}/reached/any/1/zone", "unreachable"),
    Edit("a standard that is and is not written", "undefined: true, attested_by: [ceo]",
         "undefined: true, criteria: {a: {statement: s, clause: c}}, attested_by: [ceo]",
         "/standards/unwritten", "contradiction"),
    Edit("an unwritten standard that nobody judges", ", attested_by: [ceo]", "",
         "/standards/unwritten", "no-judge"),
    Edit("no criteria, and not marked so", "undefined: true, attested_by: [ceo], ", "",
         "/standards/unwritten", "no-criteria"),
    Edit("a judge of a written standard", "level: L2, subsumes", "level: L2, attested_by: [ceo], subsumes",
         "/standards/strong/attested_by", "no-effect"),
    Edit("a standard that stands for one of a higher level",
              "title: Weak, clause: c, level: L1", "title: Weak, clause: c, level: L3",
              "/standards/strong/subsumes", "contradiction"),
    # --- circles ---
    Edit("a standard that stands for itself", "subsumes: [weak]", "subsumes: [strong]",
         "/standards/strong/subsumes", "circle"),
    Edit("standards that stand for each other", "subsumes: [weak]", "subsumes: [unwritten]",
         "/standards/strong/subsumes", "circle", beside=2),
    Edit("a threshold that rules itself out", "threshold_ruled_out: BIO-1", "threshold_ruled_out: BIO-2",
         f"{T2}/ruled_out", "circle"),
    Edit("thresholds that rule each other out", RULED_OUT_1, "ruled_out: {threshold_ruled_out: BIO-2}",
         f"{T1}/ruled_out", "circle", beside=1),
    Edit("a version that supersedes itself", 'supersedes: "1"', 'supersedes: "2"', "/supersedes", "circle"),
    # --- said twice ---
    Edit("a level", "[L1, L2, L3]", "[L1, L2, L3, L1]", "/levels", "repeated"),
    Edit("a level that an attestation calls like another", "[L1, L2, L3]", "[L1, L2, L3, l2]", "/levels", "ambiguous"),
    Edit("an action that an attestation calls like another", TRAINING,
         "\n  ".join((TRAINING, *(TRAINING.replace("training", name) for name in ("pre-train", "pre.train")))),
         "/actions/pre.train", "ambiguous", beside=2),
    Edit("a role that finds", "by: [ceo, rso]", "by: [ceo, rso, ceo]", f"{T1}/ruled_out/all/0/by", "repeated"),
    Edit("a judge", "attested_by: [ceo]", "attested_by: [ceo, ceo]", "/standards/unwritten/attested_by", "repeated"),
    Edit("a subsumed standard", "subsumes: [weak]", "subsumes: [weak, weak]", "/standards/strong/subsumes", "repeated"),
    Edit("an action before which", "before: [deployment, training]", "before: [deployment, deployment]",
         f"{T1}/requires/0/before", "repeated", beside=1),
    Edit("a line of evidence", "evidence: [uplift]", "evidence: [uplift, uplift]", f"{T1}/evidence", "repeated"),
    Edit("a sign-off", "sign_offs: [{role: ceo, verb: approved, clause: c}]",
         "sign_offs: [{role: ceo, verb: approved, clause: c}, {role: ceo, verb: approved, clause: d}]",
         "/actions/deployment/sign_offs", "repeated"),
    Edit("an obligation", "obligations: [{id: publish, statement: s, clause: c, by: rso}]",
         "obligations: [{id: publish, statement: s, clause: c}, {id: publish, statement: t, clause: c}]",
         "/actions/deployment/obligations", "repeated"),
    Edit("a developer", "developer: [somebody]", "developer: [somebody, somebody]",
         "/applies_to/developer", "repeated"),
    # --- what would break a law ---
    Edit("ruled out by a wish to reassess", "{reassessment: not-due}", "{sign_off: reassess, by: rso}",
         f"{T1}/ruled_out/all/2", "breaks-a-law"),
    Edit("ruled out by being reached", "{finding: ruled-out, by: [ceo, rso]}", "{finding: reached, by: [ceo, rso]}",
         f"{T1}/ruled_out/all/0", "breaks-a-law"),
    Edit("ruled out by time", "{reassessment: not-due}", "{elapsed: {at_least: P1Y, since_assessment: comprehensive}}",
         f"{T1}/ruled_out/all/2", "breaks-a-law"),
    Edit("ruled out by a value in the other zone", "{line: refusals, zone: rule_out, max_age: P1Y}",
         "{line: uplift, zone: rule_in}", f"{T2}/ruled_out/any/1/at_least_k/of/0", "breaks-a-law"),
    Edit("reached by a fresh assessment", REACHED_2,
         "reached: {all: [{finding: reached}, {assessment: comprehensive, max_age: P6M}]}\n    ruled_out: {any",
         f"{T2}/reached/all/1", "breaks-a-law"),
    Edit("reached by an approval", REACHED_2,
         "reached: {all: [{finding: reached}, {sign_off: approved, by: ceo}]}\n    ruled_out: {any",
         f"{T2}/reached/all/1", "breaks-a-law"),
    Edit("a reassessment by permission", WHEN, "when: {assessment: comprehensive, max_age: P6M}",
         "/reassess/when", "breaks-a-law"),
    Edit("not over evidence", "{not: {fact: training_compute_flop, at_least: 1e25}}", "{not: {finding: reached}}",
         f"{T2}/ruled_out/any/1/at_least_k/of/1/not", "breaks-a-law"),
    Edit("not over evidence, deeper", "{not: {fact: training_compute_flop, at_least: 1e25}}",
         "{not: {any: [{fact: training_compute_flop, at_least: 1e25}, {line: refusals, zone: rule_out}]}}",
         f"{T2}/ruled_out/any/1/at_least_k/of/1/not/any/1", "breaks-a-law"),
    Edit("what counts against, and lapses", "{line: uplift, zone: rule_in}", "{line: uplift, zone: rule_in, max_age: P1Y}",
         f"{T1}/reached/any/1/max_age", "breaks-a-law"),
    Edit("an approval that a newer assessment takes away", "{reassessment: not-due}",
         "{sign_off: approved, by: rso, since_assessment: comprehensive}",
         f"{T1}/ruled_out/all/2/since_assessment", "breaks-a-law"),
    Edit("reached and ruled out by one fact", f"reached: {{finding: reached}}\n    {RULED_OUT_2}",
         "reached: {fact: training_compute_flop, below: 1e26}\n"
         "    ruled_out: {not: {fact: training_compute_flop, at_least: 1e25}}",
         f"{T2}/ruled_out", "no-evidence", beside=1),
    Edit("a fact in what does not bind", f"reached: {{finding: reached}}\n    {RULED_OUT_2}",
         "reached: {any: [{finding: reached}, {fact: training_compute_flop, above: 1e26}]}\n"
         f"    {RULED_OUT_2}", f"{T2}/reached", "breaks-a-law"),
    Edit("ruled out by nobody's finding", "{finding: ruled-out, by: [ceo, rso]}", "{finding: ruled-out}",
         f"{T1}/ruled_out", "no-evidence"),
    Edit("ruled out by a fact alone", "{k: 2, of", "{k: 1, of", f"{T2}/ruled_out", "no-evidence"),
    Edit("reached for a time", REACHED_2, "reached: {finding: reached, max_age: P1Y}\n    ruled_out: {any",
         f"{T2}/reached/max_age", "breaks-a-law"),
    Edit("reached in one kind of assessment only", REACHED_2,
         "reached: {finding: reached, in_assessment: comprehensive}\n    ruled_out: {any",
         f"{T2}/reached/in_assessment", "breaks-a-law"),
    Edit("an action that nothing precedes", "before: [deployment, training]", "before: [deployment]",
         "/actions/training", "vacuous"),
    # --- scope and facts ---
    Edit("a scope without a test", "applies_to: {developer: [somebody]}", "applies_to: {actions: [deployment, training]}",
         "/applies_to", "invalid-value"),
    Edit("a scope of an unknown action", SCOPE, "applies_to: {developer: [somebody], actions: [deployment, training, flight]}",
         "/applies_to/actions", "unknown-reference"),
    Edit("a scope that names an action twice", SCOPE, "applies_to: {developer: [somebody], actions: [deployment, training, training]}",
         "/applies_to/actions", "repeated"),
    Edit("an action outside of the scope", SCOPE, "applies_to: {developer: [somebody], actions: [deployment]}",
         "/actions/training", "unreachable"),
    Edit("a scope by an unknown fact", SCOPE, "applies_to: {when: {fact: revenue, above: 5}}",
         "/applies_to/when/fact", "unknown-reference"),
    Edit("a scope by evidence", SCOPE, "applies_to: {when: {line: uplift, zone: rule_in}}",
         "/applies_to/when", "misplaced"),
    Edit("a scope by a finding", SCOPE, "applies_to: {when: {all: [{fact: training_compute_flop, above: 1}, {finding: reached}]}}",
         "/applies_to/when/all/1", "misplaced"),
    Edit("a scope too large", SCOPE,
         "applies_to: {when: {any: [" + ", ".join(["{fact: training_compute_flop, above: 1}"] * 256) + "]}}",
         "/applies_to/when", "too-large"),
    Edit("a fact that is on record already", "domains:\n", "facts: {training_compute_flop: {title: t, unit: u}}\ndomains:\n",
         "/facts/training_compute_flop", "repeated"),
    Edit("a negative compute under each bound", "at_least: 1e25", "at_most: -1e25",
         f"{T2}/ruled_out/any/1/at_least_k/of/1/not/at_most", "impossible-bound"),
    # --- exceptions ---
    Edit("an exception for an unknown standard", ACTIONS, exception(stands_for="[none]"),
         "/exceptions/rivals/stands_for", "unknown-reference"),
    Edit("an exception for a standard twice", ACTIONS, exception(stands_for="[weak, weak]"),
         "/exceptions/rivals/stands_for", "repeated"),
    Edit("an exception by an unknown role", ACTIONS, exception(approved_by="[cfo]"),
         "/exceptions/rivals/approved_by", "unknown-reference"),
    Edit("an exception by a role twice", ACTIONS, exception(approved_by="[ceo, ceo]"),
         "/exceptions/rivals/approved_by", "repeated"),
    Edit("an exception by nobody", ACTIONS, exception(approved_by="[]"),
         "/exceptions/rivals/approved_by", "too-short"),
    Edit("an exception for an unknown action", ACTIONS, exception(actions="[flight]"),
         "/exceptions/rivals/actions", "unknown-reference"),
    Edit("an exception without an end", ACTIONS, exception().replace(", at_most: P1Y", ""),
         "/exceptions/rivals/at_most", "missing"),
    Edit("an exception named as the interim measures", ACTIONS, exception().replace("rivals", "interim-measures"),
         "/exceptions/interim-measures", "ambiguous"),
    # --- what a threshold does ---
    Edit("a prohibition of an unknown action", EVIDENCE_1, EVIDENCE_1 + "    prohibits: [{actions: [flight], statement: s, clause: c}]\n",
         f"{T1}/prohibits/0/actions", "unknown-reference"),
    Edit("a prohibition of an action twice", EVIDENCE_1,
         EVIDENCE_1 + "    prohibits: [{actions: [training, training], statement: s, clause: c}]\n",
         f"{T1}/prohibits/0/actions", "repeated"),
    Edit("a limit on an unknown action", EVIDENCE_1, EVIDENCE_1 + "    limits: [{id: x, actions: [flight], statement: s, clause: c}]\n",
         f"{T1}/limits/0/actions", "unknown-reference"),
    Edit("two limits of one name", EVIDENCE_1,
         EVIDENCE_1 + "    limits: [" + ", ".join(["{id: x, actions: [training], statement: s, clause: c}"] * 2) + "]\n",
         f"{T1}/limits", "repeated"),
    Edit("a recommended standard that there is not", EVIDENCE_1,
         EVIDENCE_1 + "    recommends: [{standard: none, before: [training], clause: c}]\n",
         f"{T1}/recommends/0/standard", "unknown-reference"),
    Edit("a recommendation before an unknown action", EVIDENCE_1,
         EVIDENCE_1 + "    recommends: [{standard: weak, before: [flight], clause: c}]\n",
         f"{T1}/recommends/0/before", "unknown-reference"),
    Edit("a threshold's level", EVIDENCE_1, EVIDENCE_1 + "    level: L4\n", f"{T1}/level", "unknown-reference"),
    Edit("the baseline's level", "baseline: {clause: c, ", "baseline: {clause: c, level: L4, ",
         "/baseline/level", "unknown-reference"),
    Edit("a clock without a length", "by: ceo, due: P30D", "by: ceo, due: before, since_assessment: comprehensive",
         f"{T1}/obligations/0/since_assessment", "no-effect"),
    # --- leaning, lines, actions ---
    Edit("a bound by an unknown role", "{threshold_ruled_out: BIO-1}", "{bounded_by: {by: [cfo]}}",
         f"{T2}/ruled_out/any/0/bounded_by/by", "unknown-reference"),
    Edit("carried over by a role twice", "{threshold_ruled_out: BIO-1}", "{carried_over: {by: [ceo, ceo]}}",
         f"{T2}/ruled_out/any/0/carried_over/by", "repeated"),
    Edit("a bound by nobody", "{threshold_ruled_out: BIO-1}", "{bounded_by: {by: []}}",
         f"{T2}/ruled_out/any/0/bounded_by/by", "too-short"),
    Edit("reached by a bound", REACHED_2, "reached: {any: [{finding: reached}, {bounded_by: {by: [ceo]}}]}\n    ruled_out: {any",
         f"{T2}/reached/any/1", "breaks-a-law"),
    Edit("a withdrawn line", "riskier: lower,", "riskier: lower, status: withdrawn,",
         f"{T2}/ruled_out/any/1/at_least_k/of/0/line", "withdrawn"),
    Edit("a reversal by an unknown role", TRAINING, TRAINING[:-1] + ", may_reverse: [{role: cfo, clause: c}]}",
         "/actions/training/may_reverse/0/role", "unknown-reference"),
    Edit("a reversal by a role twice", TRAINING,
         TRAINING[:-1] + ", may_reverse: [{role: ceo, clause: c}, {role: ceo, clause: d}]}",
         "/actions/training/may_reverse", "repeated"),
    Edit("a need twice", TRAINING, TRAINING.replace("[required-standards]", "[required-standards, required-standards]"),
         "/actions/training/needs", "repeated"),
    Edit("a reversal as permission", "{role: ceo, verb: approved, clause: c}",
         "{role: ceo, verb: reversed, clause: c}", "/actions/deployment/sign_offs/0/verb", "misplaced"),
    Edit("ruled out by a reversal", "{reassessment: not-due}", "{sign_off: reversed, by: rso}",
         f"{T1}/ruled_out/all/2/sign_off", "misplaced"),
    # --- out of place ---
    Edit("a finding to reassess", WHEN, "when: {finding: reached}", "/reassess/when", "misplaced"),
    Edit("a condition on an open outcome", REACHED_2, "reached: {finding: not-ruled-out}\n    ruled_out: {any",
         f"{T2}/reached/finding", "misplaced"),
    Edit("a wish to reassess as permission", "{role: ceo, verb: approved, clause: c}",
         "{role: ceo, verb: reassess, clause: c}", "/actions/deployment/sign_offs/0/verb", "misplaced"),
    Edit("a threshold named as a domain without one", "  BIO-2:", "  cyber:", "/thresholds/cyber", "ambiguous"),
]  # fmt: skip


@pytest.mark.parametrize("edit", FAULTS, ids=lambda edit: f"{edit.code}: {edit.why}")
def test_each_fault_is_told_with_its_place(edit: Edit) -> None:
    text = edited(VALID, edit)
    with pytest.raises(InvalidDocument) as refused:
        read_policy(text.encode(), "yaml")

    faults = refused.value.faults
    assert len(faults) == 1 + edit.beside, faults
    (fault,) = [f for f in faults if (f.pointer, f.code) == (edit.pointer, edit.code)]
    assert (fault.line, fault.column) == place_of(text, edit.pointer)
    assert fault.message[0].islower() or fault.message[0] == "`"


def place_of(text: str, pointer: str) -> tuple[int, int]:
    """Line and column of the last key or item on the way that is there, found by PyYAML's marks."""
    here = yaml.compose(text)
    assert here is not None
    mark = here.start_mark
    for step in pointer.split("/")[1:]:
        if isinstance(here, yaml.MappingNode):
            entries = {key.value: (key, value) for key, value in here.value}
            if step not in entries:
                break
            key, here = entries[step]
            mark = key.start_mark
        else:
            here = here.value[int(step)]
            mark = here.start_mark
    return mark.line + 1, mark.column + 1


def test_the_line_is_that_of_the_fault() -> None:
    lines = VALID.splitlines()
    wrong = VALID.replace("comprehensive, max_age: P6M}", "comprehensive, max_age: soon}", 1)
    with pytest.raises(InvalidDocument) as refused:
        read_policy(wrong.encode(), "yaml")
    (fault,) = refused.value.faults

    row = next(i for i, line in enumerate(lines) if "max_age: P6M}" in line)
    assert (fault.line, fault.column) == (row + 1, lines[row].index("max_age: P6M") + 1)


@pytest.mark.parametrize("step", range(5))
def test_several_faults_come_at_once_in_the_order_of_the_text(step: int) -> None:
    """Those that `lint` finds; what has no shape is told before it can be linted."""
    linted = [
        edit
        for edit in FAULTS
        if edit.code in ("unknown-reference", "impossible-bound", "repeated", "no-judge")
        and not edit.beside
    ]
    text, made = VALID, list[Edit]()
    for edit in linted[step::5]:
        if text.count(edit.old) == 1:
            text = edited(text, edit)
            made.append(edit)
    with pytest.raises(InvalidDocument) as refused:
        read_policy(text.encode(), "yaml")

    found = refused.value.faults
    assert len(made) > 3
    assert {(e.pointer, e.code) for e in made} <= {(f.pointer, f.code) for f in found}
    assert [f.line for f in found] == sorted(f.line or 0 for f in found)


def test_the_faults_of_shape_all_come_at_once() -> None:
    text = VALID.replace("means: binds", "means: maybe", 1).replace("P1Y", "never", 1)
    with pytest.raises(InvalidDocument) as refused:
        read_policy(text.replace("2025-05-14", "soon").encode(), "yaml")

    assert {f.pointer for f in refused.value.faults} == {
        "/effective",
        "/standards/strong/review",
        f"{T1}/not_ruled_out/means",
    }


def test_the_valid_document_is_valid() -> None:
    """Else every test above could be right for a wrong reason."""
    assert read_policy(VALID.encode(), "yaml").version == "2"


def chain(length: int) -> str:
    """The valid document with so many more thresholds, each ruled out by the one before."""
    more = "".join(
        f"  C-{i}: {{domain: bio, statement: s, clause: c, requires: [], reached: {{finding: reached}},"
        f" ruled_out: {{any: [{{threshold_ruled_out: C-{i - 1}}}, {{finding: ruled-out, by: [ceo]}}]}},"
        " not_ruled_out: {means: binds, clause: c}}\n"
        if i
        else "  C-0: {domain: bio, statement: s, clause: c, requires: [], reached: {finding: reached},"
        " ruled_out: {finding: ruled-out, by: [ceo]}, not_ruled_out: {means: binds, clause: c}}\n"
        for i in range(length)
    )
    return VALID.replace("reassess: {clause", f"{more}reassess: {{clause", 1)


def test_thresholds_may_rule_each_other_out_sixteen_times_in_a_row() -> None:
    """Deeper chains would be read by recursion that no policy needs."""
    assert len(read_policy(chain(17).encode(), "yaml").thresholds) == 19
    with pytest.raises(InvalidDocument) as refused:
        read_policy(chain(18).encode(), "yaml")

    assert [(f.pointer, f.code) for f in refused.value.faults] == [
        ("/thresholds/C-17/ruled_out", "too-deep")
    ]


def standing_in(length: int) -> str:
    """The valid document with so many more standards, each of which stands for the one before."""
    more = "".join(
        f"  s-{i}: {{title: S, clause: c, criteria: {{a: {{statement: s, clause: c}}}}"
        + (f", subsumes: [s-{i - 1}]}}\n" if i else "}\n")
        for i in range(length)
    )
    return VALID.replace("baseline: {clause", f"{more}baseline: {{clause", 1)


def test_standards_may_stand_for_one_another_sixteen_times_in_a_row() -> None:
    assert len(read_policy(standing_in(17).encode(), "yaml").standards) == 20
    with pytest.raises(InvalidDocument) as refused:
        read_policy(standing_in(18).encode(), "yaml")

    assert [(f.pointer, f.code) for f in refused.value.faults] == [
        ("/standards/s-17/subsumes", "too-deep")
    ]


def test_a_condition_may_have_only_so_many_parts() -> None:
    leaves = ", ".join(["{finding: reached}"] * 256)
    text = VALID.replace(REACHED_1, f"reached: {{any: [{leaves}]}}")
    with pytest.raises(InvalidDocument) as refused:
        read_policy(text.encode(), "yaml")

    assert [(f.pointer, f.code) for f in refused.value.faults] == [(T1, "too-large")]


def test_no_action_waits_for_a_reassessment_that_the_version_does_not_have() -> None:
    section = VALID[VALID.index("reassess:") : VALID.index("actions:\n")]
    text = VALID.replace(section, "").replace(", {reassessment: not-due}", "")
    assert read_policy(text.encode(), "yaml").reassess is None
    waits = text.replace(
        TRAINING, TRAINING.replace("[required-standards]", "[reassessment-not-due]")
    )
    with pytest.raises(InvalidDocument) as refused:
        read_policy(waits.encode(), "yaml")

    assert [(f.pointer, f.code) for f in refused.value.faults] == [
        ("/actions/training/needs", "unknown-reference")
    ]


def test_a_prohibition_or_a_reassessment_may_stand_alone_before_an_action() -> None:
    """An action that nothing precedes is refused; each of these precedes it."""
    nothing = VALID.replace("before: [deployment, training]", "before: [deployment]")
    due = TRAINING.replace("[required-standards]", "[required-standards, reassessment-not-due]")
    prohibited = "    prohibits: [{actions: [training], statement: s, clause: c}]\n"

    for text in (
        nothing.replace(TRAINING, due),
        nothing.replace(EVIDENCE_1, EVIDENCE_1 + prohibited),
    ):
        assert read_policy(text.encode(), "yaml").version == "2"
    with pytest.raises(InvalidDocument) as refused:
        read_policy(nothing.encode(), "yaml")
    assert [f.code for f in refused.value.faults] == ["vacuous"]


def test_a_source_without_a_digest_says_why() -> None:
    digest = f", sha256: {'0' * 64}"
    noted = VALID.replace(digest, ", note: not to be had")
    assert read_policy(noted.encode(), "yaml").source.sha256 is None
    with pytest.raises(InvalidDocument) as refused:
        read_policy(VALID.replace(digest, "").encode(), "yaml")
    assert [(f.pointer, f.code) for f in refused.value.faults] == [("/source", "invalid-value")]


def test_every_fault_is_told_in_the_words_that_are_kept() -> None:
    """To the author of the policy, with the line and the column where it stands."""
    told = []
    for edit in FAULTS:
        with pytest.raises(InvalidDocument) as refused:
            read_policy(edited(VALID, edit).encode(), "yaml")
        told.append(f"{edit.why}:")
        told += [
            f"  {f.line}:{f.column} {f.pointer} {f.code}: {f.message}" for f in refused.value.faults
        ]
    text = "\n".join(told) + "\n"

    assert text == kept(Path(__file__).parent / "told" / "faults.txt", text)


def test_a_baseline_says_something() -> None:
    requires = "requires: [{standard: weak, before: [deployment]}]}"
    with_level = VALID.replace(
        f"baseline: {{clause: c, {requires}", "baseline: {clause: c, level: L1}"
    )
    assert read_policy(with_level.encode(), "yaml").baseline is not None
    with pytest.raises(InvalidDocument) as refused:
        read_policy(with_level.replace("clause: c, level: L1}", "clause: c}", 1).encode(), "yaml")

    assert "/baseline" in [f.pointer for f in refused.value.faults]
