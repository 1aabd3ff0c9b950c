"""A recorded answer and the same answer made anew: the same bytes, or the places that differ."""

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from app.assessment.evidence import Evidence, Recorded
from app.determination.decide import Question, decide
from app.determination.provenance import (
    NotRebuilt,
    RestsOn,
    answer_document,
    differences,
    question_of,
    recomputed,
    says_what_changed,
)
from app.determination.record import ENGINE_VERSION, SEMANTICS, Engine
from app.parsing import parse
from app.policy.timeline import PolicyInForce
from app.vocabulary import JSON
from tests.determination.test_reading import MODEL, assessed, day, policy, reported

VERSION = policy()
QUESTION = Question("m@1", "deploy", "p", day(10))
RESTS_ON = RestsOn(
    PolicyInForce(VERSION, "sha256:0", VERSION.effective, None),
    parse(MODEL, {"model": "m@1", "developer": "dev"}, JSON),
    Evidence((Recorded("asm_1", "sha256:1", assessed(1, {"T": "ruled-out"})),)),
)


def recorded(
    rests_on: RestsOn = RESTS_ON, *, semantics: int = SEMANTICS, previous: bytes | None = None
) -> bytes:
    """The bytes that recorded the answer to the question on that."""
    answered = decide(QUESTION, rests_on.policy, rests_on.model, rests_on.evidence, semantics)
    return answer_document(
        answered,
        QUESTION,
        rests_on,
        id="det_1",
        engine=Engine(version=ENGINE_VERSION, semantics=semantics),
        known_at=41,
        actor="key_1",
        previous=previous,
    )


def of_engine(document: bytes, **engine: Any) -> dict[str, Any]:
    """The document as if another engine had made it."""
    said: dict[str, Any] = orjson.loads(document)
    provenance = said["provenance"]
    return said | {"provenance": provenance | {"engine": provenance["engine"] | engine}}


@pytest.mark.parametrize("semantics", range(1, SEMANTICS + 1))
def test_what_it_rested_on_gives_the_same_bytes_under_its_own_semantics(semantics: int) -> None:
    bytes_ = recorded(semantics=semantics)

    assert recomputed(orjson.loads(bytes_), RESTS_ON, previous=None) == bytes_


@pytest.mark.parametrize(
    "rests_on", [replace(RESTS_ON, policy=None), replace(RESTS_ON, model=None)], ids=["policy", "model"]
)  # fmt: skip
def test_an_answer_about_nothing_is_made_anew_too(rests_on: RestsOn) -> None:
    bytes_ = recorded(rests_on)
    named = orjson.loads(bytes_)["provenance"]["policy"]

    assert named["name"] == "p"
    assert (named["version"] is None) is (rests_on.policy is None)
    assert (named["digest"] is None) is (rests_on.policy is None)
    assert recomputed(orjson.loads(bytes_), rests_on, previous=None) == bytes_


def test_the_answer_before_it_is_a_part_of_what_it_rests_on() -> None:
    """With it, it says what changed since; without it, of none."""
    before = recorded(replace(RESTS_ON, evidence=Evidence()))
    bytes_ = recorded(previous=before)
    document = orjson.loads(bytes_)

    assert document["changed"]["evidence"] == {"added": ["asm_1"], "removed": []}
    assert recomputed(document, RESTS_ON, previous=before) == bytes_
    places = differences(bytes_, recomputed(document, RESTS_ON, previous=None))
    assert [one.pointer for one in places] == ["/changed"]
    assert places[0].recomputed is None


def test_the_question_is_the_one_that_was_asked() -> None:
    assert question_of(orjson.loads(recorded())) == QUESTION


@pytest.mark.parametrize("semantics", [0, -1, SEMANTICS + 1])
def test_an_engine_that_this_program_does_not_know_is_not_played(semantics: int) -> None:
    document = of_engine(recorded(), semantics=semantics)
    with pytest.raises(NotRebuilt, match=f"under semantics {semantics}, .* up to {SEMANTICS}$"):
        recomputed(document, RESTS_ON, previous=None)


def test_the_version_of_the_engine_is_told_and_not_judged() -> None:
    """Only its semantics decide what it says."""
    document = of_engine(recorded(), version="9.9.9")
    anew = orjson.loads(recomputed(document, RESTS_ON, previous=None))

    assert anew == document


def test_other_evidence_differs_where_it_matters() -> None:
    met = replace(RESTS_ON, evidence=Evidence(safeguards=(Recorded("sfg_1", "sha256:2", reported(1)),)))  # fmt: skip
    places = {
        one.pointer
        for one in differences(recorded(), recomputed(orjson.loads(recorded()), met, previous=None))
    }

    assert "/thresholds/0/status" in places
    assert "/provenance/evidence/0/id" in places
    assert "/decision" not in places, "both allow it"


@pytest.mark.parametrize(
    ("as_known", "semantics", "says"),
    [(False, 1, True), (False, 3, True), (True, 2, False), (True, 3, True), (True, 4, True)],
)
def test_an_answer_as_of_the_past_says_what_had_changed_since_semantics_3(
    as_known: bool, semantics: int, says: bool
) -> None:
    assert says_what_changed(as_known=as_known, semantics=semantics) is says


# --- what differs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "now", "places"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("/a", 1, 2)]),
        ({"a": 1}, {"b": 1}, [("/a", 1, None), ("/b", None, 1)]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("/a/1", 2, 3)]),
        ({"a": [1]}, {"a": [1, 2, 3]}, [("/a/1", None, 2), ("/a/2", None, 3)]),
        ({"a": [1, 2]}, {"a": []}, [("/a/0", 1, None), ("/a/1", 2, None)]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": "1"}}}, [("/a/b/c", 1, "1")]),
        ({"a": {"b": 1}}, {"a": [1]}, [("/a", {"b": 1}, [1])]),
        ({"a": 1}, {"a": True}, [("/a", 1, True)]),
        ({"a": 0}, {"a": False}, [("/a", 0, False)]),
        ({"a/b": 1, "a": {"~": 2}}, {"a/b": 3, "a": {"~": 4}}, [("/a/~0", 2, 4), ("/a~1b", 1, 3)]),
        ([1], {"a": 1}, [("", [1], {"a": 1})]),
    ],
)  # fmt: skip
def test_each_place_is_named_as_deep_as_can_be(
    was: Any, now: Any, places: list[tuple[str, Any, Any]]
) -> None:
    found = differences(json.dumps(was).encode(), json.dumps(now).encode())

    assert [(one.pointer, one.recorded, one.recomputed) for one in found] == places


def test_the_same_in_other_bytes_is_one_difference_at_the_whole() -> None:
    (only,) = differences(b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}')

    assert (only.pointer, only.recorded, only.recomputed) == ("", "other bytes", "the same words")
