"""Law 8: a gate is never more permissive than any of the determinations that it rests on.

The order of decisions is written out here once more, so that a slip in the order that the service
itself compares by would be seen and not shared.
"""

from typing import Final, Literal

from hypothesis import example, given
from hypothesis import strategies as st

from app.determination.decide import strictest
from app.determination.record import Determination
from app.vocabulary import Decision
from tests.laws.situations import law

Word = Literal["allow", "allow_with_conditions", "deny"]

ORDER: Final[tuple[Word, ...]] = ("allow", "allow_with_conditions", "deny")
"""What a determination can say, most permissive first."""


def place(decision: str | Decision) -> int:
    """Where the decision stands in `ORDER`; the further on, the less it permits."""
    words: tuple[str, ...] = ORDER
    return words.index(decision.value if isinstance(decision, Decision) else decision)


def said(*words: Word) -> list[Determination]:
    """One determination for each word."""
    return [Determination(decision=word, level=None) for word in words]


determinations: Final = st.lists(st.sampled_from(ORDER), max_size=16).map(
    lambda words: said(*words)
)


@law
@given(determinations)
@example(said("allow", "deny", "allow_with_conditions"))
def test_a_gate_is_never_more_permissive_than_any_of_its_determinations(
    made: list[Determination],
) -> None:
    gate = place(strictest(made))
    assert all(gate >= place(one.decision) for one in made)


@law
@given(determinations)
def test_a_gate_says_what_one_of_its_determinations_says(made: list[Determination]) -> None:
    """It is no stricter than the strictest either, or it would be closed always and prove little."""
    if made:
        assert strictest(made).value in {one.decision for one in made}


@law
@given(determinations.flatmap(lambda made: st.tuples(st.just(made), st.permutations(made))))
def test_the_order_of_the_policies_does_not_matter(
    both: tuple[list[Determination], list[Determination]],
) -> None:
    made, shuffled = both
    assert strictest(made) is strictest(shuffled)


@law
@given(determinations.filter(bool), st.sampled_from(ORDER))
def test_one_more_policy_never_opens_a_gate(made: list[Determination], word: Word) -> None:
    assert place(strictest([*made, *said(word)])) >= place(strictest(made))


def test_a_gate_that_no_policy_answers_is_closed() -> None:
    assert strictest([]) is Decision.DENY
