"""What a result's uncertainty allows: known values, rounding outwards, more confidence is wider."""

from decimal import ROUND_HALF_EVEN, Decimal, getcontext, localcontext
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.assessment.intervals import normal_range, wilson_range
from app.vocabulary import TWO_SIDED_Z

CONFIDENCES = sorted(TWO_SIDED_Z)
many = settings(max_examples=500, deadline=None, print_blob=True)
decimals = st.decimals(-1000, 1000, places=6)
shares = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # From published tables; without a success the upper end is z² / (n + z²).
        (8, 10, "0.4901625", "0.9433178"),
        (0, 10, "0", "0.2775328"),
        (10, 10, "0.7224672", "1"),
        (1, 1, "0.2065493", "1"),
        (50, 100, "0.4038315", "0.5961685"),
        (0, 18, "0", "0.1758792"),
    ],
)
def test_wilson_s_known_values(successes: int, trials: int, low: str, high: str) -> None:
    found = wilson_range(successes, trials, Decimal("0.95"))
    seven = Decimal("1E-7")

    assert found.low.quantize(seven) == Decimal(low)
    assert found.high.quantize(seven) == Decimal(high)
    assert found.ours


def test_the_quantiles_are_those_of_the_normal_distribution() -> None:
    for confidence, z in TWO_SIDED_Z.items():
        expected = NormalDist().inv_cdf((1 + float(confidence)) / 2)
        assert abs(float(z) - expected) < 1e-9


@given(shares)
@many
def test_wilson_contains_the_share_and_stays_between_0_and_1(share: tuple[int, int]) -> None:
    successes, trials = share
    for confidence in CONFIDENCES:
        found = wilson_range(successes, trials, confidence)
        assert 0 <= found.low <= Decimal(successes) / trials <= found.high <= 1
        assert (successes == 0) == (found.low == 0)
        assert (successes == trials) == (found.high == 1)


@given(shares)
@many
def test_wilson_is_wider_at_more_confidence(share: tuple[int, int]) -> None:
    found = [wilson_range(*share, confidence) for confidence in CONFIDENCES]
    for narrow, wide in pairwise(found):
        assert wide.low <= narrow.low
        assert narrow.high <= wide.high


@given(shares)
@many
def test_wilson_rises_with_each_success_and_mirrors_failures(share: tuple[int, int]) -> None:
    successes, trials = share
    found = wilson_range(successes, trials, Decimal("0.95"))
    mirrored = wilson_range(trials - successes, trials, Decimal("0.95"))

    assert (found.low, found.high) == (1 - mirrored.high, 1 - mirrored.low)
    if successes < trials:
        more = wilson_range(successes + 1, trials, Decimal("0.95"))
        assert found.low < more.low
        assert found.high < more.high


def exactly(value: Decimal, stderr: Decimal, z: Decimal) -> tuple[Decimal, Decimal]:
    with localcontext(prec=200):
        return value - z * stderr, value + z * stderr


@given(decimals, st.decimals(0, 100, places=7), st.sampled_from(CONFIDENCES))
@many
def test_the_normal_range_is_rounded_outwards_by_less_than_a_digit(
    value: Decimal, stderr: Decimal, confidence: Decimal
) -> None:
    found = normal_range(value, stderr, confidence)
    low, high = exactly(value, stderr, TWO_SIDED_Z[confidence])

    assert low - Decimal("1E-12") < found.low <= low
    assert high <= found.high < high + Decimal("1E-12")


@given(decimals, st.decimals(0, 100, places=7))
@many
def test_the_normal_range_is_wider_at_more_confidence(value: Decimal, stderr: Decimal) -> None:
    found = [normal_range(value, stderr, confidence) for confidence in CONFIDENCES]
    for narrow, wide in pairwise(found):
        assert wide.low <= narrow.low <= value <= narrow.high <= wide.high


def test_no_error_is_no_range() -> None:
    found = normal_range(Decimal("2.53"), Decimal(0), Decimal("0.95"))

    assert found.low == found.high == Decimal("2.53")


def test_the_caller_s_decimal_context_changes_no_digit() -> None:
    """A determination may not depend on what a thread did to its context."""
    expected = (
        wilson_range(3, 7, Decimal("0.95")),
        normal_range(Decimal(1) / 3, Decimal("0.1"), Decimal("0.95")),
    )
    value = Decimal(1) / 3
    with localcontext() as context:
        context.prec = 3
        context.rounding = ROUND_HALF_EVEN
        assert getcontext().prec == 3
        found = (
            wilson_range(3, 7, Decimal("0.95")),
            normal_range(value, Decimal("0.1"), Decimal("0.95")),
        )

    assert found == expected
