"""Which version is in force: exactly one, or none before the first."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app.policy.language import read_policy
from app.policy.timeline import in_force_at, timeline
from app.policy.version import PolicyVersion

SAMPLE = read_policy(Path(__file__).with_name("valid.yaml").read_bytes(), "yaml")
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


def version(day: int) -> tuple[PolicyVersion, str]:
    """A version in force from that day on, and its digest."""
    effective = FIRST + timedelta(days=day)
    return SAMPLE.model_copy(update={"version": str(day), "effective": effective}), f"sha:{day}"


@given(st.sets(st.integers(0, 20), max_size=6).flatmap(lambda days: st.permutations(sorted(days))),
       st.integers(-2, 22), st.sampled_from((-INSTANT, timedelta(), INSTANT)))  # fmt: skip
@settings(max_examples=500, deadline=None, print_blob=True)
def test_exactly_one_is_in_force_from_the_first_on(
    days: list[int], day: int, off: timedelta
) -> None:
    """The newest that has taken effect, in whatever order they were recorded."""
    at = FIRST + timedelta(days=day) + off
    versions = timeline(version(d) for d in days)
    holding = [v for v in versions if v.since <= at and (v.until is None or at < v.until)]
    begun = [d for d in days if FIRST + timedelta(days=d) <= at]

    assert [v.digest for v in holding] == ([f"sha:{max(begun)}"] if begun else [])
    assert in_force_at(versions, at) == (holding[0] if holding else None)


def test_a_version_is_in_force_from_its_instant_up_to_the_next_one_s() -> None:
    one, two = timeline([version(10), version(0)])

    assert (one.until, two.until) == (two.since, None)
    assert in_force_at((one, two), one.since - INSTANT) is None
    assert in_force_at((one, two), one.since) is one
    assert in_force_at((one, two), two.since - INSTANT) is one
    assert in_force_at((one, two), two.since) is two


def test_without_versions_none_is_in_force() -> None:
    assert in_force_at(timeline([]), FIRST) is None
