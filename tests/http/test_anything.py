"""Any JSON at all, to every POST, is answered: recorded or refused, and never a failure of ours."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from app.http.bodies import BODIES
from app.policy.version import PolicyVersion
from app.storage.embedded import EmbeddedPostgres
from tests.http.conftest import BOOTSTRAP_KEY, running
from tests.http.published import ACTION, OPUS, POLICY
from tests.http.test_bad_input import GOOD
from tests.http.test_policies import document

PATHS = [
    *GOOD,
    "/v1/simulations",
    f"/v1/policies/{POLICY}/versions",
    "/v1/assessments/x/withdrawal",
]


def field_names() -> list[str]:
    """Every field that a body of ours has anywhere, so that a random document gets further in."""
    names = set[str]()
    kinds: list[type[BaseModel]] = [*BODIES.values(), PolicyVersion]
    for kind in kinds:
        schema = kind.model_json_schema()
        for part in (schema, *schema.get("$defs", {}).values()):
            names |= part.get("properties", {}).keys()
    return sorted(names)


NAMES = field_names()
WORDS = [
    OPUS,
    POLICY,
    ACTION,
    "new@1",
    "no@1",
    "ceo",
    "asl-3-security",
    "CBRN-3",
    "2.2",
    "ruled-out",
]
texts = st.sampled_from(
    [*NAMES, *WORDS, "2025-05-22T16:00:00Z", "9999-12-31T23:59:59-23:59", "P1Y"]
) | st.text(max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3)
    | st.floats(allow_nan=True)
    | texts
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=20,
)


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A good body with a few of its places overwritten, emptied or added to."""
    body = json.loads(json.dumps(draw(st.sampled_from(list(GOOD.values())))))
    for _ in range(draw(st.integers(1, 3))):
        here = body
        while True:
            if not here or not isinstance(here, dict | list):
                break
            steps = list(here) if isinstance(here, dict) else list(range(len(here)))
            step = draw(st.sampled_from(steps))
            if not isinstance(here[step], dict | list) or draw(st.booleans()):
                if isinstance(here, dict) and draw(st.integers(0, 4)) == 0:
                    here[draw(texts)] = draw(documents)
                else:
                    here[step] = draw(documents)
                break
            here = here[step]
    return body


class Blocking:
    """A service that a Hypothesis test, which is not asynchronous, can post to."""

    def __init__(self, server: EmbeddedPostgres, template: str) -> None:
        self._runner = asyncio.Runner()
        self._running = running(server, template)
        self.service = self._runner.run(self._running.__aenter__())
        self.client = self.service.client(BOOTSTRAP_KEY)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self._runner.run(
            self.client.post(
                path, content=json.dumps(body), headers={"Content-Type": "application/json"}
            )
        )

    def size(self) -> int:
        return self._runner.run(self.service.size())

    def close(self) -> None:
        self._runner.run(self.client.aclose())
        self._runner.run(self._running.__aexit__(None, None, None))
        self._runner.close()


@pytest.fixture(scope="module")
def blocking(postgres: EmbeddedPostgres, seeded_template: str) -> Iterator[Blocking]:
    service = Blocking(postgres, seeded_template)
    yield service
    service.close()


LATER_VERSION = document() | {"version": "9.0", "effective": "2031-01-01"}
EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
)


@EXAMPLES
@given(path=st.sampled_from(PATHS), body=documents)
def test_any_json_is_recorded_or_refused(blocking: Blocking, path: str, body: Any) -> None:
    answer = blocking.post(path, body)

    assert answer.status_code in (200, 201, 400, 404, 409, 422), answer.text


@EXAMPLES
@given(path=st.sampled_from(PATHS), body=spoilt())
def test_a_good_body_that_was_spoilt_is_recorded_whole_or_not_at_all(
    blocking: Blocking, path: str, body: Any
) -> None:
    """Each answer but 201 leaves the ledger as it was, and a 201 adds what was sent."""
    size = blocking.size()

    answer = blocking.post(path, body)

    assert answer.status_code in (200, 201, 400, 404, 409, 422), answer.text
    added = 0
    if answer.status_code == 201 and "Idempotency-Replayed" not in answer.headers:
        added = len(answer.json().get("determinations", [answer]))
    assert blocking.size() == size + added


@EXAMPLES
@given(
    field=st.sampled_from(
        ["levels", "roles", "domains", "lines", "thresholds", "standards", "confidence"]
    ),
    body=documents,
)
def test_whatever_stands_in_a_good_policy_it_is_recorded_or_refused(
    blocking: Blocking, field: str, body: Any
) -> None:
    answer = blocking.post(f"/v1/policies/{POLICY}/versions", LATER_VERSION | {field: body})

    assert answer.status_code in (201, 400, 409, 422), answer.text
