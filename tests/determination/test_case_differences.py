"""What a case wants of lists and words, and what it says of other models."""

from pathlib import Path

import pytest

from app.determination.cases import read_cases, run_case
from app.errors import InvalidDocument
from tests.determination.test_reading import BY_LINE, RULED_OUT, policy, threshold
from tests.kept import kept

VERSION = policy(thresholds={"T": threshold(ruled_out={"any": [RULED_OUT, BY_LINE["ruled_out"]]})})
TABLE = """
policy: p@1
cases:
  - name: measured
    note: Two variants were measured.
    at: 2025-01-10T00:00:00Z
    action: deploy
    model: {model: m@1, developer: dev}
    evidence:
      assessments:
        - kind: comprehensive
          conducted_at: 2025-01-02T00:00:00Z
          assessor: a
          results:
            - {line: up, value: 2, stderr: 0, variant: a}
            - {line: up, value: 4, stderr: 0, variant: b}
    want: WANT
"""


def told(want: str) -> list[tuple[str, object, object]]:
    """Every difference between what that wants and the answer."""
    (case,) = read_cases(TABLE.replace("WANT", want).encode()).cases
    return [(d.path, d.wanted, d.got) for d in run_case(case, VERSION)]


@pytest.mark.parametrize(
    ("lines", "differences"),
    [
        ("{up: [{zone: rule_out}, {zone: middle}]}", []),
        ("{up: [{}, {}]}", []),
        ("{up: [{zone: rule_out}, {zone: rule_in}]}", [("/1/zone", "rule_in", "middle")]),
        ("{up: [{zone: rule_out}]}", [("", 1, 2)]),
        ("{down: [{}]}", [("", 1, 0)]),
    ],
)
def test_each_result_that_is_wanted_is_compared_in_its_order(
    lines: str, differences: list[tuple[str, object, object]]
) -> None:
    line = "down" if "down" in lines else "up"
    place = f"/thresholds/T/lines/{line}"

    assert told(f"{{thresholds: {{T: {{lines: {lines}}}}}}}") == [
        (f"{place}{below}", wanted, got) for below, wanted, got in differences
    ]


def test_a_standard_that_should_not_be_required_is_told_as_required() -> None:
    assert told("{standards: {s: {required: false}}}") == [("/standards/s/required", False, True)]


def test_an_obligation_that_is_not_there_is_not_due() -> None:
    assert told("{due: {tell: before}}") == [("/due/tell", "before", None)]


def test_another_model_that_cannot_be_is_a_fault_at_its_place() -> None:
    text = TABLE.replace("WANT", "{decision: deny}").replace(
        "    evidence:", "    others: [{model: {model: big, developer: dev}}]\n    evidence:"
    )
    with pytest.raises(InvalidDocument) as refused:
        read_cases(text.encode())

    assert [fault.pointer for fault in refused.value.faults] == ["/cases/0/others/0/model/model"]


FAULTY = {
    "like nothing": ("note: Two variants were measured.", "note: n\n    like: nothing"),
    "no action": ("    action: deploy\n", ""),
    "no time": ("    at: 2025-01-10T00:00:00Z\n", ""),
    "no model": ("    model: {model: m@1, developer: dev}\n", ""),
    "a model without a version": ("model: m@1", "model: m"),
    "an action with no name": ("action: deploy", "action: ''"),
    "a field of no assessment": ("assessor: a\n", "assessor: a\n          grade: a\n"),
    "a result without a line": ("{line: up, value: 2,", "{value: 2,"),
    "another decision": ("want: WANT", "want: {decision: perhaps}"),
    "a case twice": ("    want: WANT", "    want: {}\n  - {name: measured, note: n, like: measured, want: {}}"),
    "an exception that has no end": ("    want: WANT", "      exceptions: [{exception: e, standard: s, measures: m, reason: r}]\n    want: {}"),
    "an approval without a reason": ("    want: WANT", "      exceptions: [{exception: e, standard: s, measures: m, reason: r, valid_until: 2025-02-01T00:00:00Z, approvals: [{role: ceo}]}]\n    want: {}"),
    "an order by nobody": ("    want: WANT", "      orders: [{effect: stop, statement: s}]\n    want: {}"),
    "no cases": (TABLE[TABLE.index("cases:") :], "cases: []\n"),
}  # fmt: skip


def test_every_fault_of_a_table_is_told_in_the_words_that_are_kept() -> None:
    told = []
    for why, (old, new) in FAULTY.items():
        assert TABLE.count(old) == 1, old
        with pytest.raises(InvalidDocument) as refused:
            read_cases(TABLE.replace(old, new).replace("WANT", "{}").encode())
        told.append(f"{why}:")
        told += [
            f"  {f.line}:{f.column} {f.pointer} {f.code}: {f.message}" for f in refused.value.faults
        ]
    text = "\n".join(told) + "\n"

    assert text == kept(Path(__file__).parent / "told" / "case-faults.txt", text)
