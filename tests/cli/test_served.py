"""The main job over a socket, on the service as it is started for real, and again after a restart."""

import httpx

from tests.faults.service import KEY, Service
from tests.http.published import (
    ACTION,
    OPUS,
    POLICIES,
    POLICY,
    RELEASE,
    activation,
    asked,
    evidence_bodies,
)


def client_of(service: Service) -> httpx.Client:
    """A client with the bootstrap key."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{service.port}",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=10,
    )


def test_from_the_bootstrap_key_to_a_determination_that_outlives_a_restart(
    service: Service,
) -> None:
    """Policy, model, assessment, safeguards, sign-offs, determination; all there again after."""
    with client_of(service) as client:
        for file in POLICIES.values():
            recorded = client.post(
                f"/v1/policies/{POLICY}/versions",
                content=file.read_bytes(),
                headers={"Content-Type": "application/yaml"},
            )
            assert recorded.status_code == 201, recorded.text
        second = {"Authorization": f"Bearer {service.new_key('policy-approver', 'approver')}"}
        for label in POLICIES:
            path = f"/v1/policies/{POLICY}/versions/{label}"
            for step, said in (
                ("approvals", {"reason": "as published"}),
                ("activation", activation(label)),
            ):
                recorded = client.post(f"{path}/{step}", json=said, headers=second)
                assert recorded.status_code == 201, recorded.text
        for path, body in evidence_bodies(OPUS):
            by = second if path == "/v1/sign-offs" else None
            recorded = client.post(path, json=body, headers=by)
            assert recorded.status_code == 201, recorded.text
        answer = client.post("/v1/determinations", json=asked(OPUS, at=RELEASE))
        assert answer.status_code == 201
        assert (answer.json()["decision"], answer.json()["level"]) == ("allow", "ASL-3")

    assert service.terminate() in (0, 143)
    service.start()

    with client_of(service) as client:
        again = client.get(answer.headers["Location"])
        assert (again.status_code, again.content) == (200, answer.content)
        listed = client.get("/v1/determinations", params={"model": OPUS, "action": ACTION})
        assert [d["id"] for d in listed.json()["determinations"]] == [answer.json()["id"]]
        in_force = {
            day: client.get(f"/v1/policies/{POLICY}", params={"at": f"{day}T12:00:00Z"}).json()
            for day in ("2025-05-13", "2025-05-14")
        }
        assert {day: said["version"] for day, said in in_force.items()} == {
            "2025-05-13": "2.1",
            "2025-05-14": "2.2",
        }
