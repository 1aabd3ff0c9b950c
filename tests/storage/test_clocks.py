"""How far apart two clocks are, and what is not decided then; tests/faults/test_clocks.py turns them."""

from datetime import UTC, datetime, timedelta

import pytest

from app.errors import Unavailable
from app.operations.context import Lapsed, refuse_lapsed
from app.storage.database import CLOCK_SKEW, skew
from app.storage.ledger import Moment

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("off", [0, 1, 5, -1, -5])
def test_clocks_that_are_close_agree(off: int) -> None:
    assert skew(NOON + off * SECOND, NOON, NOON) is None


@pytest.mark.parametrize(("off", "where"), [(6, "6 s ahead of"), (-3600, "3600 s behind")])
def test_clocks_that_are_not_are_said_to_be_so(off: int, where: str) -> None:
    assert where in (skew(NOON + off * SECOND, NOON, NOON) or "")


def test_a_slow_answer_is_no_wrong_clock() -> None:
    """The database looked at its clock at some moment between our two looks at ours."""
    for said in (0, 10, 20):
        assert skew(NOON + said * SECOND, NOON, NOON + 20 * SECOND) is None
    assert skew(NOON + 26 * SECOND, NOON, NOON + 20 * SECOND)
    assert skew(NOON - 6 * SECOND, NOON, NOON + 20 * SECOND)


def test_an_answer_of_a_time_that_has_not_come_is_not_recorded() -> None:
    """It was decided while this server's clock was ahead, and that was put right meanwhile."""
    moment = Moment(7, NOON, None)
    refuse_lapsed(NOON + CLOCK_SKEW, None, moment)
    with pytest.raises(Unavailable) as refused:
        refuse_lapsed(NOON + CLOCK_SKEW + SECOND, None, moment)
    assert refused.value.reason == "clock"
    with pytest.raises(Lapsed):
        refuse_lapsed(NOON - SECOND, NOON, moment)
