"""The smallest sets for which a monotone question holds: all of them, and no others."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.determination.moves import smallest_part, smallest_sets

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
