"""An answer recomputed from its provenance has the same bytes, and where not, each place is named."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from app.assessment.evidence import Evidence
from app.canonical import canonical_json
from app.determination.decide import Question, decide
from app.determination.provenance import (
    Differing,
    NotRebuilt,
    RestsOn,
    answer_document,
    differences,
    question_of,
    recomputed,
    says_what_changed,
)
from app.determination.record import SEMANTICS, Engine
from app.vocabulary import read_instant

AT = read_instant("2026-01-01T00:00:00Z")
ASKED = Question("m@1", "deploy", "small", AT)
NOTHING = RestsOn(None, None, Evidence())


def recorded(semantics: int = SEMANTICS, previous: bytes | None = None) -> bytes:
    """What was said of a policy of which no version is in force."""
    return answer_document(
        decide(ASKED, None, None, Evidence(), semantics),
        ASKED,
        NOTHING,
        id="det_2",
        engine=Engine(version="0.0.1", semantics=semantics),
        known_at=7,
        actor="key_1",
        previous=previous,
    )


@pytest.mark.parametrize("semantics", range(1, SEMANTICS + 1))
def test_recomputed_it_is_the_same_under_its_own_semantics(semantics: int) -> None:
    """It names the engine that gave it, not the one that recomputes it."""
    before = canonical_json(orjson.loads(recorded(1)) | {"id": "det_1"})
    document = recorded(semantics, before)
    said = orjson.loads(document)

    assert said["changed"]["since"] == "det_1"
    assert question_of(said) == ASKED
    assert recomputed(said, NOTHING, previous=before) == document
    assert recomputed(said, NOTHING, previous=None) != document


@pytest.mark.parametrize("semantics", [0, -1, SEMANTICS + 1])
def test_semantics_that_nobody_knows_are_not_guessed_at(semantics: int) -> None:
    said = orjson.loads(recorded())
    said["provenance"]["engine"]["semantics"] = semantics
    with pytest.raises(NotRebuilt, match=f"under semantics {semantics}, and this program knows"):
        recomputed(said, NOTHING, previous=None)


def test_an_answer_of_the_past_says_what_changed_since_semantics_3() -> None:
    assert [says_what_changed(as_known=True, semantics=s) for s in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]
    assert says_what_changed(as_known=False, semantics=1)


@pytest.mark.parametrize(
    ("was", "now", "places"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("/a", 1, 2)]),
        ({"a": 1}, {"b": 1}, [("/a", 1, None), ("/b", None, 1)]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, [("/a/1", 2, 3), ("/a/2", None, 4)]),
        ({"a": [1, 2]}, {"a": [1]}, [("/a/1", 2, None)]),
        ({"a": {"b/c": "x"}}, {"a": {"b/c": "y"}}, [("/a/b~1c", "x", "y")]),
        ({"a": 1}, {"a": True}, [("/a", 1, True)]),
        ({"a": [1]}, {"a": {"0": 1}}, [("/a", [1], {"0": 1})]),
        ([1], {"a": 1}, [("", [1], {"a": 1})]),
    ],
)
def test_each_place_that_differs_is_named(
    was: Any, now: Any, places: list[tuple[str, Any, Any]]
) -> None:
    found = differences(canonical_json(was), canonical_json(now))
    assert [(one.pointer, one.recorded, one.recomputed) for one in found] == places


@pytest.mark.parametrize("other", [b'{"a": 1}', b'{"a":1,"b":null}'])
def test_the_same_words_in_other_bytes_differ_as_a_whole(other: bytes) -> None:
    (one,) = differences(other, b'{"a":1}')
    assert one == Differing(pointer="", recorded="other bytes", recomputed="the same words")


def test_the_kept_answers_name_their_questions() -> None:
    folder = Path(__file__).parents[1] / "records" / "semantics-1-opus-4"
    said = orjson.loads((folder / "determination.json").read_bytes())
    assert question_of(said).model == said["model"]
