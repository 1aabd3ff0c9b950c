"""What changed between two versions: every change is told, and its effect is never claimed falsely."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canonical import canonical_json
from app.decoding import decode_json
from app.determination.cases import Case, read_cases
from app.determination.coverage import mutants
from app.determination.decide import Question, decide
from app.errors import InvalidDocument
from app.policy.conditions import (
    Leaf,
    ModelFact,
    Polarity,
    Reading,
    fact_holds,
    truth_of,
)
from app.policy.diff import Change, as_text, diff
from app.policy.language import canonical_policy, checked_policy, policy_digest, read_policy
from app.policy.timeline import Activated, in_force_at, timeline
from app.policy.version import PolicyVersion, Reassess
from app.vocabulary import JSON, Decision, Truth, read_duration
from tests.kept import kept

HERE = Path(__file__).parent
VALID = (HERE / "valid.yaml").read_text()
SAMPLE = read_policy(VALID.encode(), "yaml")
RSP = Path(__file__).parents[2] / "policies" / "anthropic-rsp"
TEXTS = [one for one in sorted(RSP.parent.rglob("*.yaml")) if ".cases." not in one.name]


def shipped(label: str) -> PolicyVersion:
    return read_policy((RSP / f"{label}.yaml").read_bytes(), "yaml")


def written(old: str, new: str) -> PolicyVersion:
    """The valid document with that written otherwise in one place."""
    assert VALID.count(old) == 1, f"`{old}` stands once in the valid document"
    return read_policy(VALID.replace(old, new).encode(), "yaml")


@dataclass(frozen=True)
class Edit:
    """One thing written otherwise in the valid document, and the one change that this is."""

    old: str
    new: str
    pointer: str
    kind: str
    effect: str


DEPLOY = "deployment: {statement: s, clause: c, needs: [required-standards], sign_offs: "
SIGNED = "sign_offs: [{role: ceo, verb: approved, clause: c}]"
BIO_1 = "  BIO-1:\n    domain: bio\n    statement: s\n    clause: c\n"
OBLIGED = "    obligations: [{id: tell, statement: s, clause: c, by: ceo, due: P30D}]\n"
REQUIRES_1 = "    requires: [{standard: strong, before: [deployment, training]}]\n"
RULED_OUT_1 = (
    "{all: [{finding: ruled-out, by: [ceo, rso]}, {assessment: comprehensive, max_age: P6M},"
    " {reassessment: not-due}]}"
)
TWO_OF = VALID[VALID.index("{at_least_k") :].partition("\n")[0]
T1, T2 = "/thresholds/BIO-1", "/thresholds/BIO-2"
STRONG = "/standards/strong"

EDITS = [
    # --- words ---
    Edit("title: A sample\npublisher", "title: Other\npublisher", "/title", "reworded", "neither"),
    Edit("title: Biology", "title: Life", "/domains/bio/title", "reworded", "neither"),
    Edit("ceo: Chief Executive Officer", "ceo: The chief", "/roles/ceo", "reworded", "neither"),
    Edit(BIO_1, BIO_1.replace("statement: s", "statement: t"), f"{T1}/statement",
         "reworded", "unknown"),
    Edit(BIO_1, BIO_1.replace("clause: c", "clause: d"), f"{T1}/clause", "reworded", "neither"),
    # --- what must be in place ---
    Edit("level: L1, criteria: {a: {statement: s, clause: c}}",
         "level: L1, criteria: {a: {statement: s, clause: c}, b: {statement: s, clause: c}}",
         "/standards/weak/criteria/b", "added", "stricter"),
    Edit("parts: {x: {statement: s, clause: c}}",
         "parts: {x: {statement: s, clause: c}, y: {statement: s, clause: c}}",
         f"{STRONG}/criteria/a/parts/y", "added", "stricter"),
    Edit(", parts: {x: {statement: s, clause: c}}", "", f"{STRONG}/criteria/a/parts",
         "changed", "unknown"),
    Edit("level: L1,", "level: L2,", "/standards/weak/level", "changed", "stricter"),
    Edit("level: L1,", "", "/standards/weak/level", "changed", "looser"),
    Edit("subsumes: [weak], ", "", f"{STRONG}/subsumes", "changed", "stricter"),
    Edit("review: P1Y", "review: P11M", f"{STRONG}/review", "changed", "stricter"),
    Edit("review: P1Y", "review: P12M", f"{STRONG}/review", "changed", "neither"),
    Edit("review: P1Y", "review: P365D", f"{STRONG}/review", "changed", "stricter"),
    Edit("review: P1Y", "review: P360D", f"{STRONG}/review", "changed", "stricter"),
    Edit("review: P1Y", "review: P13M", f"{STRONG}/review", "changed", "looser"),
    Edit("review: P1Y, ", "", f"{STRONG}/review", "changed", "looser"),
    Edit(", on_shortfall: [{do: pause-training, actions: [training], statement: s, clause: c}]", "",
         f"{STRONG}/on_shortfall/0", "removed", "looser"),
    Edit("approved_by: [ceo], told", "approved_by: [ceo, rso], told",
         f"{STRONG}/interim_measures/approved_by", "changed", "unknown"),
    Edit("told: [rso]}", "told: [rso], at_most: P30D}", f"{STRONG}/interim_measures/at_most",
         "changed", "stricter"),
    Edit("told: [rso]}", "told: [rso, ceo]}", f"{STRONG}/interim_measures/told",
         "changed", "unknown"),
    Edit(", interim_measures: {statement: s, clause: c, approved_by: [ceo], told: [rso]}", "",
         f"{STRONG}/interim_measures", "removed", "stricter"),
    Edit("attested_by: [ceo],", "attested_by: [ceo, rso],", "/standards/unwritten/attested_by",
         "changed", "stricter"),
    Edit("title: Unwritten, clause: c,",
         "title: Unwritten, clause: c, attackers: {in_scope: [thieves]},",
         "/standards/unwritten/attackers/in_scope", "changed", "unknown"),
    Edit("baseline: {clause: c, requires: [{standard: weak, before: [deployment]}]}\n", "",
         "/baseline", "removed", "looser"),
    Edit("standard: weak, before: [deployment]", "standard: weak, before: [deployment, training]",
         "/baseline/requires/0/before", "changed", "stricter"),
    Edit("\nlines:\n", "\nexceptions: {contract: {statement: s, clause: c, stands_for: [weak],"
         " approved_by: [ceo], at_most: P1M}}\nlines:\n",
         "/exceptions/contract", "added", "looser"),
    # --- lines ---
    Edit("rule_out: {at_most: 2.8}", "rule_out: {at_most: 2.5}", "/lines/uplift/rule_out",
         "changed", "stricter"),
    Edit("rule_out: {at_most: 2.8}", "rule_out: {below: 2.8}", "/lines/uplift/rule_out",
         "changed", "stricter"),
    Edit("rule_out: {at_most: 2.8}, ", "", "/lines/uplift/rule_out", "changed", "stricter"),
    Edit("rule_in: {at_least: 5.0}", "rule_in: {at_least: 4.5}", "/lines/uplift/rule_in",
         "changed", "stricter"),
    Edit("rule_in: {at_least: 5.0}", "rule_in: {above: 5.0}", "/lines/uplift/rule_in",
         "changed", "looser"),
    Edit("rule_out: {above: 0.9}", "rule_out: {at_least: 0.95}", "/lines/refusals/rule_out",
         "changed", "stricter"),
    Edit("rule_out: {above: 0.9}", "rule_out: {above: 0.9}, point_value_suffices: true",
         "/lines/refusals/point_value_suffices", "changed", "looser"),
    Edit("unit: share,", "unit: points,", "/lines/refusals/unit", "changed", "unknown"),
    Edit("rule_in: {at_least: 5.0}}", "rule_in: {at_least: 5.0}, status: saturated}",
         "/lines/uplift/status", "changed", "unknown"),
    Edit("\nthresholds:\n", "\n  new: {title: New, unit: share, riskier: higher}\nthresholds:\n",
         "/lines/new", "added", "neither"),
    # --- thresholds ---
    Edit("  BIO-2:\n    domain: bio", "  BIO-2:\n    domain: cyber", f"{T2}/domain",
         "changed", "unknown"),
    Edit("requires: [{standard: unwritten, before: [deployment]}]", "requires: []",
         f"{T2}/requires/0", "removed", "looser"),
    Edit("before: [deployment, training]", "before: [training]", f"{T1}/requires/0/before",
         "changed", "looser"),
    Edit("before: [deployment, training]", "before: [training, deployment]", "", "", ""),
    Edit(OBLIGED, "", f"{T1}/obligations/0", "removed", "looser"),
    Edit("due: P30D", "due: P20D", f"{T1}/obligations/0/due", "changed", "stricter"),
    Edit("due: P30D", "due: P1M", f"{T1}/obligations/0/due", "changed", "unknown"),
    Edit("due: P30D", "due: before", f"{T1}/obligations/0/due", "changed", "unknown"),
    Edit(OBLIGED, OBLIGED + "    prohibits: [{actions: [training], statement: s, clause: c}]\n",
         f"{T1}/prohibits/0", "added", "stricter"),
    Edit(OBLIGED, OBLIGED + "    limits: [{id: l, actions: [training], statement: s, clause: c}]\n",
         f"{T1}/limits/0", "added", "stricter"),
    Edit(OBLIGED, OBLIGED + "    recommends: [{standard: weak, before: [training], clause: c}]\n",
         f"{T1}/recommends/0", "added", "neither"),
    Edit("{means: does-not-bind,", "{means: binds,", f"{T2}/not_ruled_out/means",
         "changed", "stricter"),
    Edit("evidence: [refusals]", "evidence: [refusals, uplift]", f"{T2}/evidence",
         "changed", "neither"),
    # --- conditions ---
    Edit("by: [ceo, rso]}, {assessment", "by: [ceo, rso], max_age: P1Y}, {assessment",
         f"{T1}/ruled_out/all/0", "changed", "stricter"),
    Edit("by: [ceo, rso]}, {assessment", "by: [ceo]}, {assessment", f"{T1}/ruled_out/all/0",
         "changed", "looser"),
    Edit("assessment: comprehensive, max_age: P6M", "assessment: comprehensive, max_age: P3M",
         f"{T1}/ruled_out/all/1", "changed", "stricter"),
    Edit("assessment: comprehensive, max_age: P6M", "assessment: quick, max_age: P6M",
         f"{T1}/ruled_out/all/1", "changed", "unknown"),
    Edit(", {reassessment: not-due}]}", "]}", f"{T1}/ruled_out", "changed", "looser"),
    Edit(RULED_OUT_1, RULED_OUT_1.replace("[{finding", "[{line: uplift, zone: rule_out}, {finding"),
         f"{T1}/ruled_out", "changed", "stricter"),
    # Another finding in an `all` may be harder to hold, but it clears more of what was reached.
    Edit(RULED_OUT_1, RULED_OUT_1.replace("[{finding", "[{finding: ruled-out, by: [ceo], "
         "in_assessment: quick}, {finding"), f"{T1}/ruled_out", "changed", "unknown"),
    Edit(RULED_OUT_1, RULED_OUT_1.replace("[{finding", "[{finding: ruled-out, by: [ceo]}, {finding"),
         f"{T1}/ruled_out", "changed", "looser"),
    Edit("{any: [{threshold_ruled_out", "{all: [{threshold_ruled_out", f"{T2}/ruled_out",
         "changed", "stricter"),
    Edit("{threshold_ruled_out: BIO-1}, ", "", f"{T2}/ruled_out", "changed", "unknown"),
    Edit(TWO_OF, TWO_OF.replace("{at_least_k: {k: 2, of: ", "{all: ").replace("}]}}]}", "}]}]}"),
         f"{T2}/ruled_out/any/1", "changed", "neither"),
    Edit("{not: {fact: training_compute_flop, at_least: 1e25}}",
         "{not: {fact: training_compute_flop, at_least: 1e26}}",
         f"{T2}/ruled_out/any/1", "changed", "looser"),
    Edit("{any: [{finding: reached}, {line", "{all: [{finding: reached}, {line", f"{T1}/reached",
         "changed", "looser"),
    Edit("{any: [{finding: reached}, {line", "{any: [{finding: reached}, {finding: reached, "
         "by: [ceo]}, {line", f"{T1}/reached", "changed", "neither"),
    Edit("{elapsed: {at_least: P6M", "{elapsed: {at_least: P3M", "/reassess/when/any/0",
         "changed", "stricter"),
    Edit("compute_ratio: {at_least: 4", "compute_ratio: {at_least: 6", "/reassess/when/any/1",
         "changed", "looser"),
    Edit(", {sign_off: reassess, by: rso, since_assessment: comprehensive}", "", "/reassess/when",
         "changed", "looser"),
    # --- actions ---
    Edit(SIGNED, SIGNED.replace("}]", "}, {role: rso, verb: approved, clause: c}]"),
         "/actions/deployment/sign_offs/1", "added", "stricter"),
    Edit(SIGNED, SIGNED.replace("clause: c", "clause: c, max_age: P1M"),
         "/actions/deployment/sign_offs/0/max_age", "changed", "stricter"),
    Edit(SIGNED, SIGNED + ", may_reverse: [{role: rso, clause: c}]",
         "/actions/deployment/may_reverse/0", "added", "stricter"),
    Edit(DEPLOY, DEPLOY.replace("[required-standards]", "[required-standards, "
         "reassessment-not-due]"), "/actions/deployment/needs", "changed", "stricter"),
    Edit("by: rso}]}\n", "by: ceo}]}\n", "/actions/deployment/obligations/0/by",
         "changed", "unknown"),
    Edit("\n  training: {statement: s", "\n  open: {statement: s, clause: c, needs: "
         "[reassessment-not-due]}\n  training: {statement: s", "/actions/open", "added", "looser"),
    # --- whom it speaks of, and the rest ---
    Edit("{developer: [somebody]}", "{developer: [somebody, other]}", "/applies_to/developer",
         "changed", "unknown"),
    Edit("{developer: [somebody]}", "{developer: [somebody], when: {fact: training_compute_flop, "
         "at_least: 1e26}}", "/applies_to/when", "changed", "unknown"),
    Edit("levels: [L1, L2, L3]", "levels: [L1, L2, L3, L4]", "/levels", "changed", "unknown"),
    Edit("confidence: 0.95", "confidence: 0.99", "/confidence", "changed", "unknown"),
    Edit("cyber: {title: Cyber, status: research}", "cyber: {title: Cyber, status: tracked}",
         "/domains/cyber/status", "changed", "unknown"),
    Edit("effective: 2025-05-14", "effective: 2025-05-15", "/effective", "changed", "neither"),
]  # fmt: skip

OTHER_WAY = {"stricter": "looser", "looser": "stricter", "added": "removed", "removed": "added"}


def by_name(edit: Edit) -> str:
    return f"{edit.pointer} {edit.new[:30]!r}"


@pytest.mark.parametrize("edit", EDITS, ids=by_name)
def test_a_small_edit_is_one_change_with_its_effect(edit: Edit) -> None:
    found = diff(SAMPLE, written(edit.old, edit.new)).changes

    told = [(one.pointer, one.kind, one.effect) for one in found]
    assert told == ([(edit.pointer, edit.kind, edit.effect)] if edit.pointer else [])


@pytest.mark.parametrize("edit", EDITS, ids=by_name)
def test_told_backwards_the_effect_is_the_other(edit: Edit) -> None:
    found = diff(written(edit.old, edit.new), SAMPLE).changes

    told = [(one.kind, one.effect) for one in found]
    kind, effect = (OTHER_WAY.get(word, word) for word in (edit.kind, edit.effect))
    assert told == ([(kind, effect)] if edit.pointer else [])


@pytest.mark.parametrize(
    ("old", "new", "pointer"),
    [
        ("unit: share, riskier: lower, rule_out: {above: 0.9}",
         "unit: percent, riskier: lower, rule_out: {above: 90}", "/lines/refusals/rule_out"),
        ("riskier: lower, rule_out: {above: 0.9}",
         "riskier: higher, rule_out: {below: 0.9}", "/lines/refusals/rule_out"),
    ],
    ids=["in another unit", "from the other side"],
)  # fmt: skip
def test_numbers_that_cannot_be_compared_are_told_without_an_effect(
    old: str, new: str, pointer: str
) -> None:
    """Neither a share beside a percentage nor a bound from above beside one from below."""
    effects = {one.pointer: one.effect for one in diff(SAMPLE, written(old, new)).changes}

    assert len(effects) == 2
    assert effects[pointer] == "unknown"


def excepted(actions: str) -> PolicyVersion:
    """The sample with an exception of its own, for those actions."""
    return written(
        "\nlines:\n",
        "\nexceptions: {contract: {statement: s, clause: c, stands_for: [weak],"
        f" approved_by: [ceo], at_most: P1M{actions}}}}}\nlines:\n",
    )


def test_things_that_share_their_names_are_told_apart_by_their_order() -> None:
    prohibited = "{actions: [training], statement: s, clause: c}"
    once, twice = (
        written(OBLIGED, f"{OBLIGED}    prohibits: [{them}]\n")
        for them in (prohibited, f"{prohibited}, {prohibited.replace('clause: c', 'clause: d')}")
    )

    (change,) = diff(once, twice).changes
    assert (change.pointer, change.kind) == (f"{T1}/prohibits/1", "added")


def test_an_exception_that_names_no_action_is_for_all_of_them() -> None:
    everywhere, once = excepted(""), excepted(", actions: [training]")

    for older, newer, effect in ((everywhere, once, "stricter"), (once, everywhere, "looser")):
        (change,) = diff(older, newer).changes
        assert (change.pointer, change.effect) == ("/exceptions/contract/actions", effect)
    assert "was nothing, is now training" in as_text(diff(everywhere, once))


def held_off(in_scope: str, out_of_scope: str) -> PolicyVersion:
    """The sample, of which a standard says whom it must hold off and whom it need not."""
    attackers = f"attackers: {{in_scope: [{in_scope}], out_of_scope: [{out_of_scope}]}}"
    return written("title: Strong, clause: c,", f"title: Strong, clause: c, {attackers},")


@pytest.mark.parametrize(
    ("older", "newer", "effect"),
    [
        (("thieves", "states"), ("thieves, insiders", "states"), "stricter"),
        (("thieves, insiders", "states"), ("thieves", "states"), "looser"),
        (("thieves", "states, insiders"), ("thieves", "states"), "stricter"),
        (("thieves", "states"), ("thieves", "states, insiders"), "looser"),
        (("thieves", "states"), ("insiders", "states"), "unknown"),
        (("thieves", "states"), ("thieves, insiders", "states, spies"), "unknown"),
        (("thieves", "states"), ("thieves", ""), "unknown"),
    ],
)
def test_more_attackers_to_hold_off_is_stricter(
    older: tuple[str, str], newer: tuple[str, str], effect: str
) -> None:
    found = diff(held_off(*older), held_off(*newer)).changes

    assert found
    assert {one.effect for one in found} == {effect}
    assert {one.subject for one in found} == {"attackers"}


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_a_version_says_nothing_otherwise_than_itself(text: Path) -> None:
    version = read_policy(text.read_bytes(), "yaml")

    assert diff(version, version).changes == ()
    assert as_text(diff(version, version)).endswith("no change\n")


def accepted_mutants(version: PolicyVersion) -> Iterator[PolicyVersion]:
    for mutant in mutants(version):
        try:
            yield checked_policy(mutant.document)
        except InvalidDocument:
            continue


@pytest.mark.parametrize("version", [SAMPLE, shipped("3.0")], ids=["sample", "rsp-3.0"])
def test_no_small_change_goes_untold(version: PolicyVersion) -> None:
    """Whatever has an effect on an answer is told, so no field is forgotten."""
    untold = [one for one in accepted_mutants(version) if not diff(version, one).changes]

    assert untold == []


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every text in a document."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            yield from leaves(below, (*path, i))
    elif isinstance(value, str):
        yield path


NOT_TOLD = {"lineage", "dropped", "version", "schema"}


def test_no_word_goes_untold() -> None:
    """Not in the words for people either, save the labels and the lineage itself."""
    told = 0
    for path in leaves(decode_json(canonical_policy(SAMPLE))):
        changed: Any = decode_json(canonical_policy(SAMPLE))
        holder = changed
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] += "x"
        try:
            version = checked_policy(canonical_json(changed))
        except InvalidDocument:
            continue
        told += 1
        assert bool(diff(SAMPLE, version).changes) is not bool(NOT_TOLD & set(path[:1])), path
    assert told > 50


# --- lineage -----------------------------------------------------------------------------------


def told_of(changes: tuple[Change, ...], kind: str) -> list[tuple[str, str]]:
    return [(one.name, one.effect) for one in changes if one.kind == kind]


def later(edit: Callable[[dict[str, Any]], None]) -> PolicyVersion:
    """A version that comes after the sample and says so."""
    document: Any = decode_json(canonical_policy(SAMPLE))
    document |= {"version": "3", "supersedes": "2"}
    edit(document)
    return checked_policy(canonical_json(document))


def renaming(document: dict[str, Any]) -> None:
    thresholds = document["thresholds"]
    thresholds["B-1"] = thresholds.pop("BIO-1") | {
        "lineage": [{"version": "2", "threshold": "BIO-1", "change": "renamed"}]
    }
    thresholds["BIO-2"]["ruled_out"]["any"][0] = {"threshold_ruled_out": "B-1"}


def splitting(document: dict[str, Any]) -> None:
    thresholds = document["thresholds"]
    lineage = [{"version": "2", "threshold": "BIO-2", "change": "split"}]
    half = thresholds.pop("BIO-2") | {"lineage": lineage}
    thresholds |= {"BIO-2a": half, "BIO-2b": half}


def merging(document: dict[str, Any]) -> None:
    thresholds = document["thresholds"]
    del thresholds["BIO-2"]
    thresholds["BIO-1"]["lineage"] = [
        {"version": "2", "threshold": name, "change": "merged"} for name in ("BIO-1", "BIO-2")
    ]


def dropping(document: dict[str, Any]) -> None:
    del document["thresholds"]["BIO-2"]
    document["dropped"] = [{"version": "2", "threshold": "BIO-2", "statement": "It has gone."}]


def renewing(document: dict[str, Any]) -> None:
    document["thresholds"]["BIO-2"]["lineage"] = [{"version": "2", "change": "new"}]
    document["dropped"] = [{"version": "2", "threshold": "BIO-2", "statement": "It has gone."}]


def test_a_renamed_threshold_is_compared_with_what_it_was() -> None:
    """What names it elsewhere names it anew, which is no other change."""
    forwards, backwards = diff(SAMPLE, later(renaming)), diff(later(renaming), SAMPLE)

    for found, name in ((forwards, "B-1"), (backwards, "BIO-1")):
        assert told_of(found.changes, "renamed") == [(name, "unknown")]
        assert {one.subject for one in found.changes} == {"threshold", "version"}
        assert not [one for one in found.changes if one.pointer.endswith("ruled_out")]


def test_a_split_told_backwards_is_a_merging() -> None:
    forwards, backwards = diff(SAMPLE, later(splitting)), diff(later(splitting), SAMPLE)

    assert told_of(forwards.changes, "split") == [("BIO-2a", "unknown"), ("BIO-2b", "unknown")]
    assert told_of(backwards.changes, "merged") == [("BIO-2", "unknown")]
    (merged,) = (one for one in backwards.changes if one.kind == "merged")
    assert set(merged.was) == {"BIO-2a", "BIO-2b"}


def test_a_merging_told_backwards_is_a_split() -> None:
    forwards, backwards = diff(SAMPLE, later(merging)), diff(later(merging), SAMPLE)

    assert told_of(forwards.changes, "merged") == [("BIO-1", "unknown")]
    assert told_of(forwards.changes, "removed") == []
    assert told_of(backwards.changes, "split") == [("BIO-1", "unknown"), ("BIO-2", "unknown")]


def test_a_dropped_threshold_is_gone_with_what_is_said_of_it() -> None:
    forwards, backwards = diff(SAMPLE, later(dropping)), diff(later(dropping), SAMPLE)

    assert told_of(forwards.changes, "removed") == [("BIO-2", "looser")]
    assert "It has gone." in as_text(forwards)
    assert told_of(backwards.changes, "added") == [("BIO-2", "stricter")]


def test_a_new_threshold_under_a_dropped_name_is_another() -> None:
    forwards, backwards = diff(SAMPLE, later(renewing)), diff(later(renewing), SAMPLE)

    for found in (forwards, backwards):
        assert told_of(found.changes, "removed") == [("BIO-2", "looser")]
        assert told_of(found.changes, "added") == [("BIO-2", "stricter")]


def reworded_as(statement: str) -> PolicyVersion:
    """A later version that says of a threshold that it was reworded."""

    def edit(document: dict[str, Any]) -> None:
        lineage = [{"version": "2", "threshold": "BIO-2", "change": "reworded"}]
        document["thresholds"]["BIO-2"] |= {"lineage": lineage, "statement": statement}

    return later(edit)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("s", "the later version says that it is reworded, and the statement is the same"),
        ("t", "the statement is worded otherwise"),
    ],
)
def test_a_rewording_is_told_once_also_where_the_words_are_the_same(
    statement: str, said: str
) -> None:
    changes = diff(SAMPLE, reworded_as(statement)).changes
    told = [one.message for one in changes if one.name == "BIO-2"]

    assert told == [f"threshold `BIO-2`: {said}"]


def test_a_lineage_of_what_the_other_version_does_not_have_is_not_followed() -> None:
    """Two texts under one label may differ; the threshold is compared with its own name."""

    def edit(document: dict[str, Any]) -> None:
        lineage = [{"version": "2", "threshold": "BIO-0", "change": "renamed"}]
        document["thresholds"]["BIO-2"]["lineage"] = lineage

    changes = diff(SAMPLE, later(edit)).changes

    assert {one.subject for one in changes} == {"version"}


# --- soundness ---------------------------------------------------------------------------------


def strictness(case: Case, version: PolicyVersion) -> int:
    """How strict the decision of the case is under that version."""
    activated = Activated(version, policy_digest(version), version.effective)
    question = Question(case.model.model, case.action, case.policy, case.at)
    in_force = in_force_at(timeline([activated]), case.at)
    return Decision(decide(question, in_force, case.model, case.evidence).decision).strictness


@pytest.mark.parametrize("label", ["2.2", "3.0"])
def test_what_is_said_to_be_stricter_never_permits_more(label: str) -> None:
    """On every case of the decision table, for small changes of which an effect is claimed: each
    tenth of them here, for all take two minutes.
    """
    version = shipped(label)
    cases = read_cases((RSP / f"{label}.cases.yaml").read_bytes()).cases
    before = [strictness(case, version) for case in cases]
    moved: Counter[str] = Counter()
    for mutant in islice(accepted_mutants(version), 0, None, 10):
        effects = {one.effect for one in diff(version, mutant).changes}
        if len(effects) > 1 or effects == {"unknown"}:
            continue
        (effect,) = effects
        for case, was in zip(cases, before, strict=True):
            now = strictness(case, mutant)
            said = {"stricter": now >= was, "looser": now <= was, "neither": now == was}
            assert said[effect], (case.name, diff(version, mutant).changes)
            moved[effect] += now != was
    assert moved["stricter"]
    assert moved["looser"]


VALUES = [None, *(Decimal(one) / 2 for one in range(1, 8))]
FACTS = st.builds(
    lambda fact, side, number: {"fact": fact, side: number},
    st.sampled_from(("f", "g")),
    st.sampled_from(("below", "at_most", "above", "at_least")),
    st.sampled_from((1, 2, 3)),
)
TREES = st.recursive(
    FACTS,
    lambda below: (
        st.builds(lambda them: {"all": them}, st.lists(below, min_size=1, max_size=3))
        | st.builds(lambda them: {"any": them}, st.lists(below, min_size=1, max_size=3))
        | st.builds(lambda one: {"not": one}, below)
        | st.lists(below, min_size=1, max_size=3).flatmap(
            lambda them: st.builds(
                lambda k: {"at_least_k": {"k": k, "of": them}}, st.integers(1, len(them))
            )
        )
    ),
    max_leaves=6,
)
ORDER = [Truth.NO, Truth.UNKNOWN, Truth.YES]


def due_when(tree: Any) -> PolicyVersion:
    """The sample with that trigger, unchecked."""
    reassess = Reassess.model_validate({"clause": "c", "when": tree}, context=JSON)
    return SAMPLE.model_copy(update={"reassess": reassess})


def truth(version: PolicyVersion, facts: dict[str, Decimal | None]) -> int:
    """How true the trigger is of a model of which that is on record."""

    def read(leaf: Leaf) -> Reading:
        assert isinstance(leaf, ModelFact)
        value = facts[leaf.fact]
        return Reading(Truth.UNKNOWN if value is None else fact_holds(leaf, value))

    assert version.reassess is not None
    return ORDER.index(truth_of(version.reassess.when, read, Polarity.COUNTS_AGAINST).truth)


@given(TREES, TREES)
@settings(max_examples=400, deadline=None, print_blob=True)
def test_a_condition_that_is_said_to_imply_another_does(was: Any, now: Any) -> None:
    """Whatever is known of the model: a trigger said to be stricter is due whenever it was."""
    older, newer = due_when(was), due_when(now)
    for change in diff(older, newer).changes:
        for f, g in product(VALUES, VALUES):
            before, after = (truth(one, {"f": f, "g": g}) for one in (older, newer))
            assert change.effect != "stricter" or after >= before
            assert change.effect != "looser" or after <= before
            assert change.effect != "neither" or after == before


DURATIONS = st.builds(
    lambda months, days, hours: f"P{months}M{days}DT{hours}H",
    st.integers(1, 40),
    st.integers(0, 800),
    st.integers(0, 48),
)


@given(DURATIONS, DURATIONS, st.dates(date(2000, 1, 1), date(2030, 1, 1)))
@settings(max_examples=500, deadline=None, print_blob=True)
def test_a_duration_that_is_said_to_be_shorter_ends_no_later(was: str, now: str, day: date) -> None:
    """From whatever day of whatever month both are counted."""
    standard = SAMPLE.standards["strong"]
    older, newer = (
        SAMPLE.model_copy(
            update={
                "standards": SAMPLE.standards
                | {"strong": standard.model_copy(update={"review": read_duration(one)})}
            }
        )
        for one in (was, now)
    )
    begun = datetime.combine(day, time(tzinfo=UTC))
    ends = [read_duration(one).after(begun) for one in (was, now)]
    for change in diff(older, newer).changes:
        assert change.effect != "stricter" or ends[1] <= ends[0]
        assert change.effect != "looser" or ends[1] >= ends[0]
        assert change.effect != "neither" or ends[1] == ends[0]


# --- for people --------------------------------------------------------------------------------


def told_in_words(older: PolicyVersion, newer: PolicyVersion) -> str:
    """The text, and beneath it what stands before and after each change, as JSON."""
    found = diff(older, newer)
    beside = [
        one.model_dump_json(include={"subject", "name", "was", "now"}) for one in found.changes
    ]
    return "\n".join([as_text(found), *beside])


def test_every_change_is_told_in_the_words_that_are_kept() -> None:
    """Both ways, for each of the small edits and each kind of lineage."""
    pairs = [(SAMPLE, written(edit.old, edit.new)) for edit in EDITS]
    pairs += [(SAMPLE, later(edit)) for edit in (renaming, splitting, merging, dropping, renewing)]
    pairs += [
        (excepted(""), excepted(", actions: [training]")),
        (held_off("a", "b"), held_off("a, c", "d")),
    ]
    text = "\n".join(told_in_words(*pair) + told_in_words(*pair[::-1]) for pair in pairs)

    assert text == kept(HERE / "told" / "changes.txt", text)


@pytest.mark.parametrize(
    "line",
    [
        "unknown   threshold `CB-1` is the renamed `CBRN-3`; what was found under the old name",
        "unknown   threshold `Automated R&D` is the renamed `AI R&D-5`;",
        "looser    threshold `AI R&D-4` is gone: Automating an entry-level researcher",
        "looser    threshold `AI R&D checkpoint` is gone: ",
        "looser    requirement `CB-2/asl-4-security` is gone",
        "looser    exception `lead-lost` is added",
        "stricter  standard `asl-3-security`: `review` was P1Y, is now P6M",
        "looser    consequence `asl-3-security/pause-training` is gone",
    ],
)
def test_what_rsp_3_0_changed(line: str) -> None:
    """Renamed, dropped and gained, and what each does."""
    lines = as_text(diff(shipped("2.2"), shipped("3.0"))).splitlines()

    assert [one for one in lines if one.startswith(line)], line


def test_the_example_on_the_policy_page_is_what_is_said() -> None:
    page = (RSP.parents[1] / "docs" / "policies.md").read_text()
    (block,) = re.findall(r"```text\n(unknown   .*?)```", page, re.DOTALL)
    said = as_text(diff(shipped("2.2"), shipped("3.0"))).splitlines()

    assert set(block.splitlines()) <= set(said)


def at(pointer: str, document: Any) -> Any:
    """What stands there; raises where nothing does."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


@pytest.mark.parametrize(
    ("older", "newer"), [*pairwise(("2.0", "2.1", "2.2", "2.2+r2", "3.0", "3.4")), ("3.0", "2.2")]
)
def test_every_pointer_leads_to_what_it_says(older: str, newer: str) -> None:
    """Into the newer document, or into the older where the thing is gone."""
    was, now = (decode_json(canonical_policy(shipped(one))) for one in (older, newer))
    for change in diff(shipped(older), shipped(newer)).changes:
        if change.kind in ("added", "reworded") and change.now is not None:
            at(change.pointer, now)
        elif change.kind == "removed":
            assert at(change.pointer, was)
        else:
            with suppress(KeyError):
                at(change.pointer, now)
                continue
            at(change.pointer, was)


def test_the_changes_stand_in_the_order_of_the_document() -> None:
    found = diff(shipped("2.2"), shipped("3.0"))
    sections = [one.pointer.split("/")[1] for one in found.changes]
    fields = [*PolicyVersion.model_fields]

    assert sections == sorted(sections, key=fields.index)
    assert sum(found.effects.model_dump().values()) == len(found.changes)
