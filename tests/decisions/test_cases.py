"""The decision tables: every case of every shipped policy version, and what a table must be."""

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest

from app.determination.cases import Case, Difference, read_cases, run_case
from app.determination.proof import proof_text, prove
from app.errors import InvalidDocument
from app.policy.language import read_policy
from app.policy.version import PolicyVersion

POLICIES = Path(__file__).parents[2] / "policies"
TABLES = sorted(POLICIES.rglob("*.cases.yaml"))
TEXTS = sorted(set(POLICIES.rglob("*.yaml")) - set(TABLES))


def document_of(table: Path) -> Path:
    """The policy version beside a table."""
    return table.with_name(table.name.replace(".cases.yaml", ".yaml"))


def table_of(text: Path) -> Path:
    """The table beside a policy version."""
    return text.with_name(text.name.removesuffix(".yaml") + ".cases.yaml")


@cache
def version_in(text: Path) -> PolicyVersion:
    """The version that a shipped document says."""
    return read_policy(text.read_bytes(), "yaml")


CASES = [
    pytest.param(case, table, id=f"{table.parent.name}/{document_of(table).stem}::{case.name}")
    for table in TABLES
    for case in read_cases(table.read_bytes()).cases
]


@pytest.mark.parametrize(("case", "table"), CASES)
def test_the_determination_is_what_the_case_wants(case: Case, table: Path) -> None:
    assert run_case(case, version_in(document_of(table))) == ()


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_version_has_a_table_of_at_least_six_cases(text: Path) -> None:
    version, table = version_in(text), read_cases(table_of(text).read_bytes())

    assert (table.policy, table.version) == (version.policy, version.version)
    assert len(table.cases) >= 6


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_version_lies_where_its_name_says(text: Path) -> None:
    version = version_in(text)

    assert (text.parent.name, text.stem) == (version.policy, version.version)


def test_no_published_text_was_changed() -> None:
    """A correction is a new version: past determinations name the digest of the old one."""
    locked = (POLICIES / "published.lock").read_text().splitlines()

    assert sorted(locked) == sorted(
        f"{hashlib.sha256(text.read_bytes()).hexdigest()}  {text.relative_to(POLICIES)}"
        for text in TEXTS
    )


def test_a_line_keeps_its_unit_and_direction_from_version_to_version() -> None:
    """Else one result could not be held against both."""
    told: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for version in map(version_in, TEXTS):
        for name, line in version.lines.items():
            told.setdefault((version.policy, name), set()).add((line.unit, line.riskier))

    assert {name: words for name, words in told.items() if len(words) > 1} == {}


# --- proofs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_version_is_proved_and_its_proof_is_current(text: Path) -> None:
    """To make them anew: `make proofs`. What the decision table sees is not measured here."""
    kept = json.loads(text.with_name(text.name.removesuffix(".yaml") + ".proof.json").read_bytes())
    proof = json.loads(proof_text(prove(version_in(text))))

    assert proof["holds"]
    assert {**kept, "decision_table": None} == proof


# --- the table's own language ------------------------------------------------------------------

TABLE = """\
policy: anthropic-rsp@2.2
cases:
  - name: base
    note: The base.
    at: 2025-06-01T00:00:00Z
    action: external-deployment
    model: {model: "m@1", developer: anthropic}
    evidence:
      assessments:
        - kind: comprehensive
          conducted_at: 2025-05-22T00:00:00Z
          assessor: a
          findings:
            - {threshold: CBRN-3, outcome: ruled-out, by: [ceo], reason: r}
      sign_offs:
        - {role: ceo, verb: approved, reason: r}
    want: {decision: deny}
  - name: later
    note: The same, later.
    like: base
    at: 2025-07-01T00:00:00Z
    evidence:
      assessments: []
    want: {decision: deny}
"""


def edited(old: str, new: str) -> bytes:
    """The table with one thing written otherwise."""
    assert TABLE.count(old) == 1, f"{old!r} stands once"
    return TABLE.replace(old, new).encode()


def test_like_takes_over_all_but_what_the_case_gives_itself() -> None:
    base, later = read_cases(TABLE.encode()).cases

    assert (later.action, later.model) == (base.action, base.model)
    assert later.at != base.at
    assert later.evidence.assessments == ()
    assert [piece.item.role for piece in later.evidence.sign_offs] == ["ceo"]


def test_the_file_s_policy_and_the_case_s_action_are_the_defaults() -> None:
    base, later = read_cases(TABLE.encode()).cases
    (signed,) = base.evidence.sign_offs

    assert base.evidence.assessments[0].item.findings[0].policy == "anthropic-rsp"
    assert (signed.item.policy, signed.item.action) == ("anthropic-rsp", "external-deployment")
    assert signed.item.given_at == base.at
    assert later.evidence.sign_offs[0].item.given_at == later.at


@pytest.mark.parametrize(
    ("text", "pointer", "code", "line", "column"),
    [
        (edited("note: The base.", "nota: The base."), "/cases/0/nota", "unknown-field", 4, 5),
        (edited("name: later", "name: base"), "/cases/1/name", "repeated", 18, 5),
        (edited("like: base", "like: nothing"), "/cases/1/like", "unknown-case", 20, 5),
        (edited("like: base\n    ", ""), "/cases/1/action", "missing", 18, 5),
        (
            edited("outcome: ruled-out", "outcome: maybe"),
            "/cases/0/evidence/assessments/0/findings/0/outcome",
            "invalid-value",
            14,
            35,
        ),
        (
            edited("assessor: a\n", "assessor: a\n          model_: x\n"),
            "/cases/0/evidence/assessments/0/model_",
            "unknown-field",
            13,
            11,
        ),
        (edited('model: "m@1"', 'model: "m"'), "/cases/0/model/model", "invalid-value", 7, 13),
        (edited("{role: ceo, ", "{"), "/cases/0/evidence/sign_offs/0/role", "missing", 16, 11),
        (
            TABLE.replace("deny}", "refuse}", 1).encode(),
            "/cases/0/want/decision",
            "unknown-value",
            17,
            12,
        ),
        (
            TABLE.replace("want: {decision: deny}", "want: {verdict: deny}", 1).encode(),
            "/cases/0/want/verdict",
            "unknown-field",
            17,
            12,
        ),
    ],
)
def test_a_fault_in_a_table_has_its_place(
    text: bytes, pointer: str, code: str, line: int, column: int
) -> None:
    with pytest.raises(InvalidDocument) as refused:
        read_cases(text)

    found = {(f.pointer, f.code, f.line, f.column) for f in refused.value.faults}
    assert (pointer, code, line, column) in found


def test_every_difference_is_told_with_what_was_wanted_and_what_came() -> None:
    want = (
        "{decision: allow, level: ASL-2, reasons: [a.reason],"
        " thresholds: {CBRN-3: {status: reached, binds: true}, nothing: {binds: false}},"
        " standards: {asl-4-security: {required: false}, asl-4-deployment: {met: unknown}}}"
    )
    text = TABLE.replace("{decision: deny}", want, 1).encode()
    version = version_in(POLICIES / "anthropic-rsp" / "2.2.yaml")

    differences = {d.path: d for d in run_case(read_cases(text).cases[0], version)}

    assert differences["/decision"] == Difference("/decision", "allow", "deny")
    assert differences["/level"] == Difference("/level", "ASL-2", "ASL-4")
    assert differences["/thresholds/CBRN-3/status"].got == "not_ruled_out"
    assert differences["/thresholds/nothing"].got is None
    assert differences["/standards/asl-4-security/required"].got is True
    assert differences["/reasons"].wanted == ["a.reason"]
    assert "/thresholds/CBRN-3/binds" not in differences
    assert "/standards/asl-4-deployment/met" not in differences


def test_what_a_case_does_not_name_is_not_compared() -> None:
    text = TABLE.replace("{decision: deny}", "{}", 1).encode()
    version = version_in(POLICIES / "anthropic-rsp" / "2.2.yaml")

    assert run_case(read_cases(text).cases[0], version) == ()
