"""Kleene's tables whole, and when a condition turns, of either polarity."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.policy.conditions import (
    Condition,
    Leaf,
    ModelFact,
    Polarity,
    Reading,
    SignedOff,
    fact_holds,
    truth_of,
)
from app.vocabulary import TEXT, Truth

A_CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)
Y, N, U = Truth.YES, Truth.NO, Truth.UNKNOWN
PERMITS, AGAINST = Polarity.PERMITS, Polarity.COUNTS_AGAINST


def day(number: int | None) -> datetime | None:
    return None if number is None else datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=number)


def group(kind: str, size: int) -> Condition:
    """A group of so many leaves, the i-th of which is the sign-off by `r<i>`."""
    leaves = [{"sign_off": "approved", "by": f"r{i}"} for i in range(size)]
    if kind in ("all", "any"):
        return A_CONDITION.validate_python({kind: leaves}, context=dict(TEXT))
    return A_CONDITION.validate_python(
        {"at_least_k": {"k": kind, "of": leaves}}, context=dict(TEXT)
    )


def read(condition: Condition, readings: Sequence[Reading], towards: Polarity = PERMITS) -> Reading:
    """The condition with its leaves reading so, in their order."""

    def leaf(leaf: Leaf) -> Reading:
        assert isinstance(leaf, SignedOff)
        return readings[int(leaf.by[1:])]

    return truth_of(condition, leaf, towards)


def truth(condition: Condition, *truths: Truth) -> Truth:
    return read(condition, [Reading(t) for t in truths]).truth


@pytest.mark.parametrize(
    ("one", "other", "both", "either"),
    [
        (Y, Y, Y, Y),
        (Y, U, U, Y),
        (Y, N, N, Y),
        (U, Y, U, Y),
        (U, U, U, U),
        (U, N, N, U),
        (N, Y, N, Y),
        (N, U, N, U),
        (N, N, N, N),
    ],
)
def test_all_and_any_are_kleene_s(one: Truth, other: Truth, both: Truth, either: Truth) -> None:
    assert truth(group("all", 2), one, other) is both
    assert truth(group("any", 2), one, other) is either


def test_not_swaps_yes_and_no_only() -> None:
    condition = A_CONDITION.validate_python(
        {"not": {"sign_off": "approved", "by": "r0"}}, context=dict(TEXT)
    )

    assert [truth(condition, t) for t in (Y, N, U)] == [N, Y, U]


@pytest.mark.parametrize("truths", list(product((Y, N, U), repeat=3)))
def test_at_least_two_of_three_is_any_pair_of_them(truths: tuple[Truth, ...]) -> None:
    pairs = [truth(group("all", 2), *pair) for pair in combinations(truths, 2)]

    assert truth(group("2", 3), *truths) is truth(group("any", 3), *pairs)


@pytest.mark.parametrize("truths", list(product((Y, N, U), repeat=2)))
def test_all_and_any_are_the_ends_of_at_least_k(truths: tuple[Truth, ...]) -> None:
    assert truth(group("1", 2), *truths) is truth(group("any", 2), *truths)
    assert truth(group("2", 2), *truths) is truth(group("all", 2), *truths)


@pytest.mark.parametrize(
    ("kind", "lapses", "turns"),
    [
        ("all", (3, 5, 9), 3),
        ("all", (None, 5, 9), 5),
        ("all", (None, None, None), None),
        ("any", (3, 5, 9), 9),
        ("any", (3, None, 9), None),
        ("2", (3, 5, 9), 5),
        ("2", (None, 5, 9), 9),
        ("2", (None, 5, None), None),
    ],
)
def test_what_permits_turns_when_too_few_are_left(
    kind: str, lapses: tuple[int | None, ...], turns: int | None
) -> None:
    readings = [Reading(Y, turns=day(lapse)) for lapse in lapses]

    assert read(group(kind, 3), readings, PERMITS).turns == day(turns)


@pytest.mark.parametrize(
    ("kind", "truths", "begins", "turns"),
    [
        ("all", (N, N, N), (3, 5, 9), 9),
        ("all", (Y, N, N), (None, 5, 9), 9),
        ("all", (Y, Y, N), (None, None, 9), 9),
        ("all", (N, N, N), (3, 5, None), None),
        ("any", (N, N, N), (3, 5, 9), 3),
        ("any", (N, N, N), (None, None, None), None),
        ("2", (N, N, N), (3, 5, 9), 5),
        ("2", (Y, N, N), (None, 5, 9), 5),
        # NO becomes UNKNOWN with the first of the others: stricter too.
        ("all", (U, N, N), (None, 5, 9), 9),
        ("2", (U, N, N), (None, 5, 9), 5),
        ("all", (U, N, N), (4, 5, 9), 9),
        # UNKNOWN becomes YES where all that is open has turned.
        ("all", (Y, U, U), (None, 5, 9), 9),
        ("any", (U, N, N), (None, 5, 9), 5),
        ("any", (U, N, N), (4, 5, 9), 4),
    ],
)
def test_what_counts_against_turns_when_enough_have_begun(
    kind: str, truths: tuple[Truth, ...], begins: tuple[int | None, ...], turns: int | None
) -> None:
    readings = [Reading(t, turns=day(b)) for t, b in zip(truths, begins, strict=True)]

    assert read(group(kind, 3), readings, AGAINST).turns == day(turns)


def test_what_does_not_hold_does_not_turn_and_what_holds_against_stays() -> None:
    lapsing = [Reading(Y, turns=day(3)), Reading(U)]

    assert read(group("all", 2), lapsing, PERMITS).turns is None
    assert read(group("any", 2), [Reading(Y), Reading(N, turns=day(3))], AGAINST).turns is None


def test_a_group_rests_on_those_that_settle_it() -> None:
    yes, no = Reading(Y, frozenset("y")), Reading(N, frozenset("n"))
    open_ = Reading(U, frozenset("u"))

    assert read(group("any", 3), [yes, no, open_]).evidence == {"y"}
    assert read(group("all", 3), [yes, no, open_]).evidence == {"n"}
    assert read(group("all", 2), [yes, open_]).evidence == {"y", "u"}


LEAVES = st.tuples(st.sampled_from((Y, N, U)), st.none() | st.integers(1, 9))
STRICTNESS = {
    PERMITS: {Y: 0, U: 1, N: 1},
    AGAINST: {N: 0, U: 1, Y: 2},
}


@given(st.lists(LEAVES, min_size=1, max_size=5), st.data(), st.sampled_from((PERMITS, AGAINST)))
@settings(max_examples=1000, deadline=None, print_blob=True)
def test_nothing_is_stricter_before_it_turns(
    leaves: list[tuple[Truth, int | None]], data: st.DataObject, towards: Polarity
) -> None:
    """Each leaf moves, at its own turn, as far to the strict side as it can."""
    condition = group(str(data.draw(st.integers(1, len(leaves)))), len(leaves))
    end = {PERMITS: U, AGAINST: Y}[towards]

    def at(now: int) -> Truth:
        return truth(condition, *(end if t and t <= now else was for was, t in leaves))

    now = read(condition, [Reading(was, turns=day(t)) for was, t in leaves], towards)
    strictness = STRICTNESS[towards]
    for later in range(10):
        if now.turns is None or day(later) < now.turns:  # type: ignore[operator]
            assert strictness[at(later)] <= strictness[now.truth]


@pytest.mark.parametrize(
    ("bound", "below", "on_it", "above"),
    [
        ("at_least", Truth.NO, Truth.YES, Truth.YES),
        ("above", Truth.NO, Truth.NO, Truth.YES),
        ("at_most", Truth.YES, Truth.YES, Truth.NO),
        ("below", Truth.YES, Truth.NO, Truth.NO),
    ],
)
def test_a_fact_is_held_against_its_bound_to_the_last_digit(
    bound: str, below: Truth, on_it: Truth, above: Truth
) -> None:
    fact = ModelFact.model_validate({"fact": "f", bound: Decimal(3)})

    read = [fact_holds(fact, Decimal(value)) for value in ("2.999", "3", "3.001")]
    assert read == [below, on_it, above]
