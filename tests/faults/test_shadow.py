"""A shadow whose process is killed again and again counts each question once."""

import random
import time
from typing import Any

import httpx
import pytest

from tests.faults.conftest import POLICY_FILE, Figures
from tests.faults.service import KEY, Service

VERSIONS = "/v1/policies/anthropic-rsp/versions"
SHADOW = f"{VERSIONS}/2.2-shadowed/shadow"
MANY = 300

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


def send(service: Service, method: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {KEY}"}
    address = f"http://127.0.0.1:{service.port}{path}"
    answer = httpx.request(method, address, json=body, headers=headers, timeout=30)
    assert answer.is_success, answer.text
    return answer.json()


def test_a_kill_loses_and_doubles_no_question(service: Service, figures: Figures) -> None:
    """The draft says the same as the version in force, so that nothing but the count tells."""
    draft = POLICY_FILE.read_text().replace('version: "2.2"', 'version: "2.2-shadowed"', 1)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/yaml"}
    address = f"http://127.0.0.1:{service.port}{VERSIONS}"
    recorded = httpx.post(address, content=draft, headers=headers, timeout=30)
    assert recorded.status_code == 201, recorded.text
    send(service, "POST", "/v1/models", {"model": "m@1", "developer": "anthropic"})
    send(service, "POST", SHADOW, {})
    question = {"model": "m@1", "action": "external-deployment", "policy": "anthropic-rsp"}
    for _ in range(MANY // 100):
        send(service, "POST", "/v1/determinations/batch", {"determinations": [question] * 100})
    chance, kills = random.Random(), 0
    while (said := send(service, "GET", SHADOW))["behind"]:
        time.sleep(chance.uniform(0.2, 1.2))
        if kills < 3:
            service.kill()
            service.start()
            kills += 1

    figures(f"{kills} kills, {MANY} questions")
    assert kills > 1
    assert (said["summary"]["decided"], said["summary"]["failed"]) == (MANY, 0)
