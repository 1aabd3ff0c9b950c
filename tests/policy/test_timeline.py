"""Which version is in force: exactly one, or none before the first; and what was said first when."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app.policy.language import read_policy
from app.policy.timeline import Activated, FirstRecorded, first_recorded, in_force_at, timeline
from app.policy.version import PolicyVersion

SAMPLE = read_policy(Path(__file__).with_name("valid.yaml").read_bytes(), "yaml")
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


def activated(day: int, digest: str | None = None) -> Activated:
    """An activation from that day on; what the publisher's date says is of no account."""
    version = SAMPLE.model_copy(update={"version": str(day)})
    return Activated(version, digest or f"sha:{day}", FIRST + timedelta(days=day))


@given(st.sets(st.integers(0, 20), max_size=6).flatmap(lambda days: st.permutations(sorted(days))),
       st.integers(-2, 22), st.sampled_from((-INSTANT, timedelta(), INSTANT)))  # fmt: skip
@settings(max_examples=500, deadline=None, print_blob=True)
def test_exactly_one_is_in_force_from_the_first_on(
    days: list[int], day: int, off: timedelta
) -> None:
    """The one that was activated from the last instant, in whatever order that was said."""
    at = FIRST + timedelta(days=day) + off
    versions = timeline(activated(d) for d in days)
    holding = [v for v in versions if v.since <= at and (v.until is None or at < v.until)]
    begun = [d for d in days if FIRST + timedelta(days=d) <= at]

    assert [v.digest for v in holding] == ([f"sha:{max(begun)}"] if begun else [])
    assert in_force_at(versions, at) == (holding[0] if holding else None)


def test_a_version_is_in_force_from_its_instant_up_to_the_next_one_s() -> None:
    one, two = timeline([activated(10), activated(0)])

    assert (one.until, two.until) == (two.since, None)
    assert in_force_at((one, two), one.since - INSTANT) is None
    assert in_force_at((one, two), one.since) is one
    assert in_force_at((one, two), two.since - INSTANT) is one
    assert in_force_at((one, two), two.since) is two


def test_without_versions_none_is_in_force() -> None:
    assert in_force_at(timeline([]), FIRST) is None


def test_a_version_that_was_superseded_can_be_in_force_again() -> None:
    versions = timeline([activated(0, "old"), activated(1, "new"), activated(2, "old")])

    in_force = [in_force_at(versions, FIRST + timedelta(days=day)) for day in range(3)]

    assert [one.digest for one in in_force if one is not None] == ["old", "new", "old"]


def test_what_was_first_recorded_when_goes_with_the_version() -> None:
    known = FirstRecorded({"a": 1}, {"b": 2})
    (one,) = timeline([Activated(SAMPLE, "sha:1", FIRST, known)])

    assert one.first_recorded is known


LINE = next(iter(SAMPLE.lines))
THRESHOLD = next(iter(SAMPLE.thresholds))


def with_line(**changes: object) -> PolicyVersion:
    """The sample with its first line changed so."""
    line = SAMPLE.lines[LINE].model_copy(update=changes)
    return SAMPLE.model_copy(update={"lines": {**SAMPLE.lines, LINE: line}})


def with_threshold(**changes: object) -> PolicyVersion:
    """The sample with its first threshold changed so."""
    threshold = SAMPLE.thresholds[THRESHOLD].model_copy(update=changes)
    return SAMPLE.model_copy(update={"thresholds": {**SAMPLE.thresholds, THRESHOLD: threshold}})


def test_what_stands_unchanged_was_first_recorded_in_the_oldest_version_that_has_it() -> None:
    found = first_recorded(SAMPLE, [(SAMPLE, 9), (SAMPLE, 4)])

    assert found.lines == dict.fromkeys(SAMPLE.lines, 4)
    assert found.thresholds == dict.fromkeys(SAMPLE.thresholds, 4)


def test_a_line_that_measures_something_else_is_a_new_one() -> None:
    """So is a threshold that means something else; everything beside them keeps its place."""
    found = first_recorded(SAMPLE, [(with_line(unit="another"), 1), (SAMPLE, 5)])
    assert found.lines == dict.fromkeys(SAMPLE.lines, 1) | {LINE: 5}
    assert found.thresholds == dict.fromkeys(SAMPLE.thresholds, 1)

    found = first_recorded(SAMPLE, [(with_threshold(statement="another"), 1), (SAMPLE, 5)])
    assert found.lines == dict.fromkeys(SAMPLE.lines, 1)
    assert found.thresholds == dict.fromkeys(SAMPLE.thresholds, 1) | {THRESHOLD: 5}


def test_the_words_around_a_threshold_do_not_make_it_a_new_one() -> None:
    found = first_recorded(SAMPLE, [(with_threshold(clause="another"), 1), (SAMPLE, 5)])

    assert found.thresholds == dict.fromkeys(SAMPLE.thresholds, 1)


def test_what_another_version_alone_has_is_not_spoken_of() -> None:
    without = SAMPLE.model_copy(update={"lines": {}, "thresholds": {}})

    assert first_recorded(without, [(SAMPLE, 1), (without, 2)]) == FirstRecorded({}, {})
    assert first_recorded(SAMPLE, [(without, 1), (SAMPLE, 2)]).lines == dict.fromkeys(
        SAMPLE.lines, 2
    )
