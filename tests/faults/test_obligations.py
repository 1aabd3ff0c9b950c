"""A follower of obligations whose process is killed again and again passes over none of them."""

import asyncio
import random
import time
from typing import Any

import asyncpg
import pytest

from tests.faults.conftest import Figures
from tests.faults.service import Service
from tests.faults.test_shadow import send

PATH = "/v1/obligations"
MANY = 20
EACH = 100
KILLS = 3

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


def test_a_kill_passes_over_no_obligation(service: Service, figures: Figures) -> None:
    """Each model's are raised by its first answer, and by no later one."""
    firsts: dict[str, dict[str, Any]] = {}
    for i in range(MANY):
        model = f"m@{i}"
        send(service, "POST", "/v1/models", {"model": model, "developer": "anthropic"})
        question = {"model": model, "action": "external-deployment", "policy": "anthropic-rsp"}
        asked = {"determinations": [question] * EACH}
        answers = send(service, "POST", "/v1/determinations/batch", asked)["determinations"]
        firsts[model] = answers[0]
    asyncio.run(forget(service))
    chance, behind = random.Random(), list[int]()
    while (said := send(service, "GET", f"{PATH}?limit=1"))["behind"] or len(behind) < KILLS:
        if len(behind) < KILLS:
            behind.append(said["behind"])
            service.kill()
            service.start()
        time.sleep(chance.uniform(0, 0.1))

    raised = 0
    for model, first in firsts.items():
        found = send(service, "GET", f"{PATH}?model={model}")["obligations"]
        assert {one["raised_by"]["determination"] for one in found} == {first["id"]}
        assert sorted(map(place, found)) == sorted(map(place, first["obligations"]))
        raised += len(found)
    figures(f"{behind} entries behind at a kill, {raised} obligations of {EACH * MANY} answers")
    assert any(behind), "no kill came in the midst of it"


async def forget(service: Service) -> None:
    """Let all of it be found again from the first entry on, which takes a while."""
    connection = await asyncpg.connect(str(service.address()))
    try:
        await connection.execute("DELETE FROM obligation; UPDATE obligation_position SET next = 0")
    finally:
        await connection.close()


def place(obligation: dict[str, Any]) -> tuple[str, str]:
    """Where the policy version asks for it, and what says so."""
    return obligation["pointer"], obligation["clause"]
