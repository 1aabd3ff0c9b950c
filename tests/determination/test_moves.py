"""The smallest sets for which a monotone question holds: all of them, and no others."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.determination.moves import separating, smallest_part, smallest_sets

SIZE = 6
sets = st.sets(st.frozensets(st.integers(0, SIZE - 1), max_size=SIZE), max_size=5)


def smallest(of: set[frozenset[int]]) -> set[frozenset[int]]:
    """Those that hold no other."""
    return {one for one in of if not any(other < one for other in of)}


@given(sets)
@settings(max_examples=300, deadline=None)
def test_all_the_smallest_sets_are_found(wanted: set[frozenset[int]]) -> None:
    found = smallest_sets(SIZE, lambda chosen: any(one <= chosen for one in wanted), limit=100)

    assert {frozenset(one) for one in found.sets} == smallest(wanted)
    assert found.complete


@given(sets.filter(bool))
@settings(max_examples=300, deadline=None)
def test_a_smallest_part_holds_and_no_part_of_it_does(wanted: set[frozenset[int]]) -> None:
    def holds(chosen: frozenset[int]) -> bool:
        return any(one <= chosen for one in wanted)

    part = smallest_part(frozenset(range(SIZE)), holds)

    assert holds(part)
    assert not any(holds(part - {member}) for member in part)


@given(sets, sets)
@settings(max_examples=300, deadline=None)
def test_what_separates_two_questions_is_found_where_there_is_anything(
    first: set[frozenset[int]], second: set[frozenset[int]]
) -> None:
    """As all sets say, looked at one by one; the odd positions say more than the even before them."""

    def holds(wanted: set[frozenset[int]], chosen: frozenset[int]) -> bool:
        # A younger piece of a chain stands for the older one.
        told = chosen | {member - 1 for member in chosen if member % 2}
        return any(one <= told for one in wanted)

    def separates(chosen: frozenset[int]) -> bool:
        return holds(first, chosen) and not holds(second, chosen)

    found = separating(
        SIZE,
        lambda chosen: holds(first, chosen),
        lambda chosen: holds(second, chosen),
        stronger=lambda i: frozenset({i, i | 1}),
        questions=10_000,
    )

    everything = [frozenset(c) for n in range(SIZE + 1) for c in combinations(range(SIZE), n)]
    assert found.complete
    assert (found.found is not None) is any(map(separates, everything))
    assert found.found is None or separates(found.found)


def test_a_search_that_ends_early_says_so() -> None:
    pairs = [frozenset(pair) for pair in combinations(range(SIZE), 2)]

    def holds(chosen: frozenset[int]) -> bool:
        return any(pair <= chosen for pair in pairs)

    assert smallest_sets(SIZE, holds, limit=100).complete
    few = smallest_sets(SIZE, holds, limit=2)
    assert (len(few.sets), few.complete) == (2, False)
    assert not smallest_sets(SIZE, holds, limit=100, questions=3).complete


def test_a_question_that_nothing_makes_hold_has_no_sets() -> None:
    found = smallest_sets(SIZE, lambda _: False, limit=100)

    assert (found.sets, found.complete) == ((), True)
    assert smallest_sets(SIZE, lambda _: True, limit=100).sets == ((),)


def itself(member: int) -> frozenset[int]:
    return frozenset({member})


@given(sets, sets)
@settings(max_examples=300, deadline=None)
def test_what_separates_two_questions_is_found_if_there_is_any(
    first: set[frozenset[int]], second: set[frozenset[int]]
) -> None:
    def one(chosen: frozenset[int]) -> bool:
        return any(wanted <= chosen for wanted in first)

    def other(chosen: frozenset[int]) -> bool:
        return any(wanted <= chosen for wanted in second)

    found = separating(SIZE, one, other, stronger=itself, questions=10_000)

    every = (frozenset(c) for size in range(SIZE + 1) for c in combinations(range(SIZE), size))
    assert found.complete
    assert (found.found is not None) == any(one(c) and not other(c) for c in every)
    assert found.found is None or (one(found.found) and not other(found.found))


def test_a_search_for_what_separates_ends_after_so_many_questions_and_says_so() -> None:
    """At each pair of members both hold, so that every pair has to be looked at."""

    def one(chosen: frozenset[int]) -> bool:
        return len(chosen) >= 3

    def other(chosen: frozenset[int]) -> bool:
        return len(chosen) >= 2

    whole = separating(SIZE, one, other, stronger=itself, questions=10_000)
    few = separating(SIZE, one, other, stronger=itself, questions=whole.looked_at - 1)
    enough = separating(SIZE, one, other, stronger=itself, questions=whole.looked_at)

    assert (whole.found, whole.complete) == (None, True)
    assert (few.found, few.complete, few.looked_at) == (None, False, whole.looked_at - 1)
    assert enough == whole


def test_a_position_that_is_gone_takes_what_says_more_with_it() -> None:
    """Whoever lacks 0 cannot have 1, which says all that 0 says: the set with 1 alone is no set."""

    def with_one(chosen: frozenset[int]) -> bool:
        return 1 in chosen

    def with_zero(chosen: frozenset[int]) -> bool:
        return 0 in chosen

    def says_more(member: int) -> frozenset[int]:
        return frozenset({0, 1}) if member == 0 else itself(member)

    alone = separating(2, with_one, with_zero, stronger=itself, questions=100)
    implied = separating(2, with_one, with_zero, stronger=says_more, questions=100)

    assert (alone.found, alone.complete) == (itself(1), True)
    assert (implied.found, implied.complete) == (None, True)


def test_a_position_stays_where_one_that_says_more_must_be_there() -> None:
    """Whoever has 0 has what 1 says: so no set has 0 alone."""

    def first(chosen: frozenset[int]) -> bool:
        return 0 in chosen

    def second(chosen: frozenset[int]) -> bool:
        return {0, 1} <= chosen

    def says_more(member: int) -> frozenset[int]:
        return frozenset({0, 1}) if member == 1 else itself(member)

    alone = separating(2, first, second, stronger=itself, questions=100)
    implied = separating(2, first, second, stronger=says_more, questions=100)

    assert (alone.found, alone.complete) == (itself(0), True)
    assert (implied.found, implied.complete) == (None, True)
