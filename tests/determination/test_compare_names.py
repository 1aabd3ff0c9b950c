"""Versions that name a threshold otherwise are compared on the same evidence."""

from typing import Any

import pytest
import yaml

from app.determination import compare as compare_module
from app.determination.cases import read_cases, run_case
from app.determination.compare import compare
from app.policy.version import PolicyVersion
from tests.determination.test_compare import on, version
from tests.determination.test_reading import BY_LINE, RULED_OUT, Json, threshold

T_BEFORE: Json = {"lineage": [{"version": "1", "threshold": "T", "change": "renamed"}]}
BY_ONE: Json = {"finding": "ruled-out", "by": ["ceo"]}
OLD = version("1")


def renamed(label: str = "2", **more: Any) -> PolicyVersion:
    """A version in which `T` is called `U`, with those changes to it."""
    return version(label, thresholds={"U": threshold(**T_BEFORE | more)})


def test_a_new_name_alone_makes_no_version_looser() -> None:
    assert compare(OLD, renamed()).verdict == "never"
    assert compare(renamed(), OLD).verdict == "never"


def test_under_a_new_name_too_a_stricter_version_is_stricter() -> None:
    """And the case that shows it gives what was found under both names."""
    looser = renamed(ruled_out=BY_ONE)

    assert compare(looser, OLD).verdict == "never"
    found = on("deploy", OLD, looser)
    assert (found.verdict, bool(found.because)) == ("found", True)
    text = yaml.safe_dump({"policy": "p@2", "cases": [found.case]})
    (case,) = read_cases(text.encode()).cases
    assert run_case(case, looser) == ()
    assert [one.got for one in run_case(case, OLD)] == ["deny"]


LEANING: dict[str, Json] = {
    "alone": {"threshold_ruled_out": "NAME"},
    "in any": {"any": [{"threshold_ruled_out": "NAME"}, RULED_OUT]},
    "in all": {"all": [{"threshold_ruled_out": "NAME"}, BY_LINE["ruled_out"]]},
    "in a count": {
        "at_least_k": {"k": 2, "of": [{"threshold_ruled_out": "NAME"}, BY_LINE["ruled_out"], RULED_OUT]}
    },
}  # fmt: skip


def said_of(name: str, tree: Any) -> Any:
    """The tree with that name in it."""
    if isinstance(tree, dict):
        return {key: said_of(name, below) for key, below in tree.items()}
    if isinstance(tree, list):
        return [said_of(name, below) for below in tree]
    return name if tree == "NAME" else tree


@pytest.mark.parametrize("tree", LEANING.values(), ids=LEANING)
def test_what_rests_on_a_renamed_threshold_rests_on_it_under_either_name(tree: Json) -> None:
    older, newer = (
        version(
            label,
            thresholds={
                name: threshold(**more),
                "S": threshold(ruled_out=said_of(name, tree)),
            },
        )
        for label, name, more in (("1", "T", {}), ("2", "U", T_BEFORE))
    )

    assert compare(older, newer).verdict == "never"
    assert compare(newer, older).verdict == "never"


def test_a_search_that_ends_early_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "_QUESTIONS", 0)
    stricter = version(
        "2", thresholds={"T": threshold(reached={"finding": "reached", "by": ["ceo"]})}
    )

    found = compare(stricter, OLD)

    assert found.verdict == "not-found"
    assert {one.verdict for one in found.actions} <= {"never", "not-found"}


def test_a_half_of_a_threshold_is_another_threshold() -> None:
    """What was found of the half says nothing of the whole, so that it is not the same evidence."""
    half: Json = {"lineage": [{"version": "1", "threshold": "T", "change": "split"}]}

    assert on("deploy", OLD, renamed(**half)).verdict == "found"


def test_models_that_the_looser_version_does_not_speak_of_are_not_looked_at() -> None:
    """On either side of each bound of a fact there is one; that it does not apply is a denial."""
    large = {"fact": "training_compute_flop", "at_least": "1e25"}
    scoped = version("2", applies_to={"developer": ["dev"], "when": large})

    assert compare(OLD, scoped).verdict == "never"
    assert on("deploy", scoped, OLD).verdict == "found"
    stricter = version(
        "2",
        applies_to={"developer": ["dev"], "when": large},
        thresholds={
            "T": threshold(
                reached={"finding": "reached"},
                ruled_out={"finding": "ruled-out", "by": ["ceo", "rso"], "max_age": "P6M"},
            )
        },
    )
    assert compare(OLD, stricter).verdict == "never"
