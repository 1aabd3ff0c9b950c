"""The page that explains a determination: whole, safe to show, and understood without us.

To accept a change of a kept page, delete it, run this once, and read the diff.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import TypeAdapter

from app.assessment.assessment import ModelVersion
from app.assessment.evidence import Evidence, Recorded
from app.assessment.exceptions import Approved, ExceptionOnRecord, GivenApproval, RequestedException
from app.assessment.orders import Lifted, Lifting, Order, OrderOnRecord
from app.canonical import digest
from app.decoding import decode_json
from app.determination import decide as decide_module
from app.determination import explain as explain_module
from app.determination.decide import Question, decide
from app.determination.explain import FLAGS, Form, explain, pieces_explained
from app.determination.record import (
    SEMANTICS,
    Engine,
    EvidenceNamed,
    PolicyNamed,
    Provenance,
    Zone,
    determination_document,
)
from app.determination.settling import Settling, settling
from app.parsing import parse
from app.policy.language import recorded_policy
from app.policy.timeline import Activated, PolicyInForce, in_force_at, timeline
from app.policy.version import Domain, PolicyVersion
from app.vocabulary import JSON, Basis, Outcome, Status, Truth, read_instant
from tests.laws.recording import pieces_of, recorded_determination
from tests.laws.situations import Situation, begun_in, instant, law, situations
from tests.records.test_records import evidence_of

KEPT: Final = Path(__file__).parent / "explained"
RECORDS: Final = Path(__file__).parents[1] / "records"
FORMS: Final[tuple[Form, ...]] = get_args(Form)
AT: Final = read_instant("2025-08-01T09:30:00Z")
ACTION: Final = "external-deployment"

Json = dict[str, Any]


def kept_page(name: str, page: str) -> str:
    """The page that is kept under that name; a new one is kept as it is."""
    file = KEPT / name
    if not file.exists():
        file.write_text(page)
    return file.read_text()


def kept_record(model: str) -> tuple[Json, PolicyVersion, Evidence, ModelVersion]:
    """A kept determination, with the policy version and the evidence that it rests on."""
    folder = RECORDS / f"semantics-{SEMANTICS}-{model}"
    bodies = decode_json((folder / "evidence.json").read_bytes())
    assert isinstance(bodies, dict)
    return (
        orjson.loads((folder / "determination.json").read_bytes()),
        recorded_policy((folder / "policy.json").read_bytes()),
        evidence_of(bodies),
        parse(TypeAdapter(ModelVersion), bodies["model"], JSON),
    )


def bodies_of(evidence: Evidence) -> Mapping[str, Json]:
    return {id: body for id, _, body in pieces_of(evidence)}


@pytest.mark.parametrize("model", ["opus-4", "sonnet-4"])
@pytest.mark.parametrize("form", FORMS)
def test_a_published_release_is_told_as_it_was(model: str, form: Form) -> None:
    document, policy, evidence, _ = kept_record(model)

    page = explain(document, policy, bodies_of(evidence), None, form)

    assert page == kept_page(f"{model}.{'md' if form == 'markdown' else 'txt'}", page)


def _order(id: str, effect: str, statement: str, lifted: Lifted | None = None) -> Any:
    body = {
        "model": "claude-opus-4@20250514",
        "issuer": "An agency",
        "issued_by": "government",
        "effect": effect,
        "statement": statement,
        "begins_at": "2025-07-01T00:00:00Z",
    }
    return Recorded(id, digest(b""), OrderOnRecord(parse(TypeAdapter(Order), body, JSON), lifted))


def _interim_measures() -> Recorded[ExceptionOnRecord]:
    request = {
        "model": "claude-opus-4@20250514",
        "policy": "anthropic-rsp",
        "action": ACTION,
        "exception": "interim-measures",
        "standard": "asl-3-deployment",
        "measures": "A second classifier, and no new accounts.",
        "reason": "The safeguards are being rebuilt.",
        "valid_from": "2025-07-20T00:00:00Z",
        "valid_until": "2025-08-20T00:00:00Z",
        "requested_by": "key_1",
    }
    approvals = tuple(
        Approved(
            f"exa_{i}",
            digest(b""),
            parse(
                TypeAdapter(GivenApproval),
                {
                    "role": role,
                    "reason": "It is as good for a month.",
                    "exception": "exc_1",
                    "by": f"key_{i}",
                    "given_at": "2025-07-21T00:00:00Z",
                },
                JSON,
            ),
        )
        for i, role in enumerate(("ceo", "responsible-scaling-officer"), start=2)
    )
    item = ExceptionOnRecord(parse(TypeAdapter(RequestedException), request, JSON), approvals)
    return Recorded("exc_1", digest(b""), item)


def a_denial() -> tuple[Json, PolicyVersion, Evidence, Settling]:
    """Opus 4 without its safeguards and its CEO's signature, with an exception, and with orders."""
    earlier, policy, evidence, model = kept_record("opus-4")
    lifting = parse(
        TypeAdapter(Lifting),
        {"reason": "The inquiry is over.", "lifted_at": "2025-07-15T00:00:00Z"},
        JSON,
    )
    evidence = replace(
        evidence,
        safeguards=(),
        sign_offs=evidence.sign_offs[1:],
        exceptions=(_interim_measures(),),
        orders=(
            _order("ord_1", "stop", "Nothing is released before the inquiry is over."),
            _order("ord_2", "limit", "Only to verified customers."),
            _order("ord_3", "stop", "Stop.", Lifted("lft_1", digest(b""), lifting)),
        ),
    )
    named = earlier["provenance"]["policy"]["digest"]
    (span,) = timeline([Activated(policy, named, policy.effective)])
    assert in_force_at([span], AT) is span
    question = Question(model.model, ACTION, policy.policy, AT)
    document = _document(question, span, decide(question, span, model, evidence), evidence, earlier)
    return document, policy, evidence, settling(question, span, model, evidence)


def _document(
    question: Question, span: PolicyInForce, determination: Any, evidence: Evidence, earlier: Json
) -> Json:
    said: Json = orjson.loads(
        determination_document(
            determination,
            id="det_1",
            model=question.model,
            action=question.action,
            provenance=Provenance(
                policy=PolicyNamed(
                    name=question.policy, version=span.version.version, digest=span.digest
                ),
                evidence=tuple(EvidenceNamed(id=id, digest=one) for id, one in evidence.names()),
                engine=Engine(version="0.1.0", semantics=SEMANTICS),
                at=question.at,
                known_at=40,
                actor="key_0",
            ),
            previous=orjson.dumps(earlier),
        )
    )
    return said | {"ledger": {"index": 40, "leaf_hash": "ab" * 32}}


def test_a_denial_says_all_that_stands_in_its_way() -> None:
    document, policy, evidence, settled = a_denial()
    assert document["conditions"], "an exception and an order make conditions"
    assert document["consequences"]
    assert document["obligations"]

    page = explain(document, policy, bodies_of(evidence), settled, "markdown")

    assert page == kept_page("denial.md", page)


_CLOSED: Final[Json] = {
    "reasons": [
        {
            "code": "policy.none_in_force",
            "pointer": "",
            "clause": None,
            "evidence": [],
            "blocks": True,
            "message": "no version of `anthropic-rsp` is in force at 2020-01-01T00:00:00Z",
        }
    ]
}


def test_a_page_about_nothing_in_force_says_so() -> None:
    document, *_ = kept_record("opus-4")
    none = {"name": "anthropic-rsp", "version": None, "digest": None}
    provenance = document["provenance"] | {"policy": none, "evidence": []}
    empty: Json = {"thresholds": [], "standards": [], "obligations": [], "flags": [], "level": None}
    unknown = document | empty | {"decision": "deny", "provenance": provenance}

    page = explain(unknown | _CLOSED, None, {}, None, "plain")

    assert "no evidence was looked at" in page
    assert "No version of anthropic-rsp was in force" in page


# --- what holds of every page ------------------------------------------------------------------


def bare(text: str) -> str:
    """Letters and digits alone: what stays whatever a form does to a text."""
    return re.sub(r"[\W_]+", "", text)


@given(situations(), st.sampled_from(FORMS))
@law
def test_any_determination_is_explained(situation: Situation, form: Form) -> None:
    """With its decision, each reason that closes the gate, each flag, and all that it rests on."""
    before = begun_in(situation.evidence, instant(-1), situation.at)
    first = recorded_determination(replace(situation, evidence=before), known_at=5, id="det_0")
    document = orjson.loads(recorded_determination(situation, previous=first))
    asked = set(pieces_explained(document))
    pieces = {id: one for id, one in bodies_of(situation.evidence).items() if id in asked}

    page = explain(document, situation.version, pieces, None, form)

    assert "which is not shown here" not in page, "no other piece is needed than is asked for"
    assert page == explain(document, situation.version, pieces, None, form)
    told = bare(page)
    assert bare(f"decision: {document['decision']}") in told
    for reason in document["reasons"]:
        assert bare(reason["message"]) in told
        assert not reason["blocks"] or bare(reason["code"]) in told
    for field in ("conditions", "consequences", "obligations"):
        assert all(bare(one["message"]) in told for one in document[field])
    for flag in document["flags"]:
        assert bare(FLAGS[flag]) in told
    for piece in document["provenance"]["evidence"]:
        assert bare(piece["digest"]) in told
    for answer in document["thresholds"]:
        for found in findings_counted(answer, document, pieces):
            assert bare(f"Their reason: {found['reason']}") in told


def findings_counted(answer: Json, document: Json, pieces: Mapping[str, Json]) -> Iterator[Json]:
    """The findings on a threshold in the evidence that its answer names."""
    asked = (document["provenance"]["policy"]["name"], answer["id"])
    for id in answer["evidence"]:
        for finding in pieces[id].get("findings", ()):
            if (finding["policy"], finding["threshold"]) == asked:
                yield finding


@given(situations(), st.sampled_from(FORMS))
@law
def test_a_page_can_be_made_without_a_piece_at_hand(situation: Situation, form: Form) -> None:
    """What is not at hand is named by its id; nothing raises, with or without the policy."""
    document = orjson.loads(recorded_determination(situation))

    for policy in (situation.version, None):
        assert bare(document["decision"]) in bare(explain(document, policy, {}, None, form))


FORGERIES: Final = (
    "fine\n# Yes: it may go ahead",
    "fine\n\n- Decision: allow",
    "# Yes",
    "1. one",
    "- one",
    "+ one",
    "===",
    "> quoted",
    "    code",
    "```\ncode\n```",
    "[here](https://example.org)",
    "![x](https://example.org/x.png)",
    "<https://example.org>",
    "https://example.org and www.example.org",
    "<script>alert(1)</script>",
    "<b>bold</b> **bold** __bold__ ~~gone~~ `code`",
    "&lt;b&gt; &#x41;",
    "| a | b |\n|---|---|\n| c | d |",
    "a  \nb\\\nc",
    "\N{RIGHT-TO-LEFT OVERRIDE}swolla\x1b[31m\x00\x07\N{ZERO WIDTH SPACE}\N{LINE SEPARATOR}x",
    "[a]: https://example.org",
    "$x$ :smile: @somebody #1",
)


def forged(value: Any, text: str) -> Any:
    """The document with *text* in place of everything in it that is for people."""
    if isinstance(value, dict):
        return {
            key: text if key in _FOR_PEOPLE and isinstance(item, str) else forged(item, text)
            for key, item in value.items()
        }
    return [forged(item, text) for item in value] if isinstance(value, list) else value


_FOR_PEOPLE: Final = {
    *("reason", "message", "clause", "note", "stated_by", "assessor", "issuer", "statement"),
    *("measures", "requested_by", "variant", "unit", "actor", "digest", "kind"),
}


def structure(page: str) -> list[str]:
    """The Markdown that a page is, without its text: what opens and closes, in order."""
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    kinds = []
    for token in parser.parse(page):
        kinds.append(token.type)
        kinds += [one.type for one in token.children or () if one.type not in _TEXT]
    return kinds


_TEXT: Final = {"text", "text_special"}


@pytest.mark.parametrize("text", FORGERIES)
def test_text_from_documents_stays_text(text: str) -> None:
    """It adds no heading, item, link, HTML or code to the page."""
    document, policy, evidence, _ = a_denial()
    pieces = dict(bodies_of(evidence))
    honest = explain(forged(document, "fine"), policy, forged(pieces, "fine"), None, "markdown")

    page = explain(forged(document, text), policy, forged(pieces, text), None, "markdown")

    assert structure(page) == structure(honest)
    assert all(c.isprintable() or c == "\n" for c in page)


@pytest.mark.parametrize("text", FORGERIES)
def test_plain_text_keeps_its_lines_and_holds_nothing_unseen(text: str) -> None:
    document, policy, evidence, _ = a_denial()
    pieces = dict(bodies_of(evidence))
    honest = explain(forged(document, "fine"), policy, forged(pieces, "fine"), None, "plain")

    page = explain(forged(document, text), policy, forged(pieces, text), None, "plain")

    assert page.count("\n") == honest.count("\n")
    assert all(c.isprintable() or c == "\n" for c in page)


def test_every_word_of_an_answer_has_a_sentence() -> None:
    """A new one would raise only where it is first given."""
    assert set(explain_module._STATUSES) | {"no_threshold"} == {one.value for one in Status}
    assert set(explain_module._REST_ON) == {one.value for one in Basis}
    assert set(explain_module._ZONES) == set(get_args(Zone))
    assert set(explain_module._OUTCOMES) == {one.value for one in Outcome}
    assert set(explain_module._MET) == {one.value for one in Truth}
    assert set(explain_module._EFFECTS) == set(get_args(Order.model_fields["effect"].annotation))


def test_every_flag_that_can_be_given_is_explained() -> None:
    source = Path(decide_module.__file__).read_text()
    given_out = set(re.findall(r'flags\.add\("(\w+)"\)|yield "(\w+)"', source))
    named = {one or other for one, other in given_out}
    assert {"precautionary", "line_after_result"} <= named, "the source is read as it is written"

    statuses = set(get_args(Domain.model_fields["status"].annotation))

    assert set(FLAGS) == named | statuses
