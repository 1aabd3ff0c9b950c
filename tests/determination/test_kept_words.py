"""What the engine says in words, kept as it is: a change to any of it is seen in a review."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence
from app.determination.cases import Case, read_cases
from app.determination.coverage import mutants
from app.determination.decide import Question, decide
from app.determination.moves import Placed, counting_against, permitting, piece
from app.determination.proof import proof_text, prove
from app.determination.reading import Read
from app.policy.language import policy_digest, read_policy
from app.policy.timeline import Activated, in_force_at, timeline
from app.policy.version import PolicyVersion
from tests.determination.test_compare import PLAIN, STRICTER, on
from tests.determination.test_reading import BY_LINE, RULED_OUT, policy, standard, threshold
from tests.kept import kept
from tests.laws.recording import pieces_of

HERE = Path(__file__).parent
POLICIES = HERE.parents[1] / "policies"
SAMPLE = read_policy((HERE.parent / "policy" / "valid.yaml").read_bytes(), "yaml")
SHIPPED = ("anthropic-rsp/2.2", "nvidia-frontier-risk/2025-02")


def shipped(name: str) -> PolicyVersion:
    return read_policy((POLICIES / f"{name}.yaml").read_bytes(), "yaml")


FIELDS = ("thresholds", "standards", "reasons", "conditions", "consequences", "obligations")


def said(case: Case, version: PolicyVersion) -> Iterator[str]:
    """All that the answer to the case says, a line each."""
    activated = Activated(version, policy_digest(version), version.effective)
    in_force = in_force_at(timeline([activated]), case.at)
    question = Question(case.model.model, case.action, case.policy, case.at)
    answer = decide(question, in_force, case.model, case.evidence)
    yield f"{case.name}: {answer.decision}, {answer.basis}, {answer.level}, {answer.valid_until}"
    document: dict[str, Any] = answer.model_dump(mode="json", by_alias=True)
    for field in FIELDS:
        for one in document[field]:
            yield f"  {field}: {orjson.dumps(one).decode()}"


def test_each_case_is_answered_in_the_words_that_are_kept() -> None:
    """With every reason, its place in the document, its clause and the evidence that it rests on;
    what an earlier case has said already is left out.
    """
    version = shipped(SHIPPED[0])
    cases = read_cases((POLICIES / f"{SHIPPED[0]}.cases.yaml").read_bytes()).cases
    lines = dict.fromkeys(line for case in cases for line in said(case, version))
    text = "\n".join(lines) + "\n"

    assert text == kept(HERE / "told" / "rsp-2.2.answers.txt", text)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_could_be_recorded_is_told_in_the_words_that_are_kept(name: str) -> None:
    """What permits and what counts against, for each action of the version."""
    version = shipped(name)
    developer = (version.applies_to.developer or ("anyone",))[0]
    model = ModelVersion(model="m@1", developer=developer)
    read = Read(version, model, Evidence(), datetime(2027, 1, 1, tzinfo=UTC))
    lines = []
    for action in version.actions:
        for side, moves in (("+", permitting(read, action)), ("-", counting_against(read, action))):
            lines += [
                f"{action} {side} {one.model_dump_json(exclude_defaults=True)}" for one in moves
            ]
    text = "\n".join(lines) + "\n"

    assert text == kept(HERE / "told" / f"{name.replace('/', '-')}.moves.txt", text)


INTERIM = {"statement": "s", "clause": "c", "approved_by": ["ceo"], "told": []}
NEEDS = {"statement": "s", "clause": "c", "needs": ["required-standards", "reassessment-not-due"]}
EVERY_KIND = policy(
    thresholds={
        "T": threshold(
            reached={
                "any": [
                    {"finding": "reached", "by": ["ceo"]},
                    {"all": [{"finding": "reached", "by": ["rso"]}, BY_LINE["reached"]]},
                ]
            },
            ruled_out={
                "any": [
                    RULED_OUT,
                    {"all": [BY_LINE["ruled_out"], {"line": "down", "zone": "rule_out"}]},
                    {"all": [{"finding": "ruled-out", "by": ["ceo"], "in_assessment": "quick"},
                             {"assessment": "comprehensive", "max_age": "P6M"},
                             {"sign_off": "approved", "by": "rso"}]},
                ]
            },
        ),
        "U": threshold(ruled_out={"any": [{"threshold_ruled_out": "T"}, RULED_OUT]}),
    },
    standards={
        "s": standard(
            criteria={
                "a": {"statement": "s", "clause": "c", "parts": {"x": {"statement": "s", "clause": "c"}}},
                "b": {"statement": "s", "clause": "c"},
            },
            review="P1Y",
            interim_measures=INTERIM,
        ),
        "strong": standard(subsumes=["s"]),
    },
    actions={
        "deploy": NEEDS
        | {
            "sign_offs": [{"role": "ceo", "verb": "approved", "clause": "c", "max_age": "P30D"}],
            "may_reverse": [{"role": "rso", "clause": "c"}],
        },
        "train": NEEDS,
    },
    reassess={
        "clause": "c",
        "when": {
            "any": [
                {"elapsed": {"at_least": "P6M", "since_assessment": "comprehensive"}},
                {"compute_ratio": {"at_least": "4", "since_assessment": "comprehensive"}},
                {"sign_off": "reassess", "by": "rso"},
            ]
        },
    },
)  # fmt: skip


def test_each_kind_of_thing_that_could_be_recorded_is_told_in_the_words_that_are_kept() -> None:
    model = ModelVersion(model="m@1", developer="dev")
    read = Read(EVERY_KIND, model, Evidence(), datetime(2027, 1, 1, tzinfo=UTC))
    lines = []
    for action in EVERY_KIND.actions:
        for side, moves in (("+", permitting(read, action)), ("-", counting_against(read, action))):
            for i, move in enumerate(moves):
                made = piece(read, action, Placed(move, read.at), f"move_{i}")
                said = [orjson.dumps(body).decode() for _, _, body in pieces_of(made)]
                lines += [f"{action} {side} {move.message}", *(f"    {one}" for one in said)]
    text = "\n".join(lines) + "\n"

    assert text == kept(HERE / "told" / "every-kind.moves.txt", text)


def test_the_proof_of_the_sample_is_the_one_that_is_kept() -> None:
    text = proof_text(prove(SAMPLE)).decode()

    assert text == kept(HERE / "told" / "sample.proof.json", text)


def test_the_small_changes_to_the_sample_are_those_that_are_kept() -> None:
    lines = [f"{m.pointer}: {m.was} -> {m.now}" for m in mutants(SAMPLE)]
    text = "\n".join(lines) + "\n"

    assert text == kept(HERE / "told" / "sample.mutants.txt", text)


def test_what_a_looser_version_allows_is_shown_by_the_cases_that_are_kept() -> None:
    found = {name: on("deploy", stricter, PLAIN) for name, stricter in STRICTER.items()}
    text = yaml.safe_dump(
        {name: {"case": one.case, "because": list(one.because)} for name, one in found.items()},
        sort_keys=False,
    )

    assert text == kept(HERE / "told" / "looser.cases.yaml", text)
