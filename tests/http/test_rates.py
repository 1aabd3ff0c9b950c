"""A caller that asks too often is told when to come back, and nobody else is kept waiting by it."""

import pytest

from app.errors import TooManyRequests
from app.http.rates import MOST_KEPT, Rates
from app.storage.embedded import EmbeddedPostgres
from tests.http.conftest import BOOTSTRAP_KEY, running
from tests.http.published import problem


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_ten_seconds_worth_may_come_at_once_and_then_one_at_a_time() -> None:
    clock = Clock()
    rates = Rates(clock)
    for _ in range(10):
        rates.spend("a", 60)

    with pytest.raises(TooManyRequests) as refused:
        rates.spend("a", 60)
    assert refused.value.after_seconds == 1

    clock.now += refused.value.after_seconds
    rates.spend("a", 60)
    with pytest.raises(TooManyRequests):
        rates.spend("a", 60)


def test_who_is_refused_is_not_charged_for_it() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.spend("a", 1)
    for _ in range(5):
        with pytest.raises(TooManyRequests) as refused:
            rates.spend("a", 1)
        assert refused.value.after_seconds == 60

    clock.now += 60
    rates.spend("a", 1)


def test_one_callers_allowance_is_not_anothers() -> None:
    rates = Rates(Clock())
    rates.spend("a", 1)

    rates.spend("b", 1)


def test_many_callers_take_no_memory_for_good() -> None:
    clock = Clock()
    rates = Rates(clock)
    for number in range(MOST_KEPT + 1):
        rates.spend(str(number), 60_000)
        clock.now += 0.001

    assert len(rates._spent_until) < MOST_KEPT


async def test_a_credential_that_asks_too_often_is_told_when_to_come_back(
    postgres: EmbeddedPostgres, template: str
) -> None:
    """Those who look after the service ask without a credential, as often as they like."""
    async with (
        running(postgres, template, requests_per_minute=6) as service,
        service.client(BOOTSTRAP_KEY) as client,
        service.client((await service.new_key("reader")).text) as other,
    ):
        first = await client.get("/v1/determinations")
        second = await client.get("/v1/determinations")
        others = await other.get("/v1/determinations")
        health = [await other.get("/healthz") for _ in range(3)]

    assert first.status_code == 200
    assert problem(second) == (429, "too-many-requests")
    assert 1 <= int(second.headers["Retry-After"]) <= 10
    assert others.status_code == 200
    assert [one.status_code for one in health] == [200] * 3
