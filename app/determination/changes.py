"""What changed since the previous determination for the same model, action and policy, and why."""

from collections.abc import Iterable, Mapping
from typing import Any

Recorded = Mapping[str, Any]
"""A determination's recorded document, read as JSON."""


def changes(previous: Recorded, current: Recorded) -> dict[str, Any]:
    """What *current* says otherwise than *previous*, and what it rests on otherwise.

    `because` names what moved: another policy version, evidence that came or went, or time alone.
    """
    before, after = previous["provenance"], current["provenance"]
    known_before = {piece["id"] for piece in before["evidence"]}
    known_after = {piece["id"] for piece in after["evidence"]}
    policy = _from_to(before["policy"]["version"], after["policy"]["version"])
    engine = _from_to(before["engine"]["semantics"], after["engine"]["semantics"])
    added, removed = sorted(known_after - known_before), sorted(known_before - known_after)
    because = [
        word
        for word, moved in (
            ("policy", before["policy"]["digest"] != after["policy"]["digest"]),
            ("evidence", bool(added or removed)),
            ("engine", engine is not None),
        )
        if moved
    ]
    found = {
        "decision": _from_to(previous["decision"], current["decision"]),
        "level": _from_to(previous["level"], current["level"]),
        "thresholds": _by_id(previous["thresholds"], current["thresholds"], "status"),
        "standards": _by_id(previous["standards"], current["standards"], "met"),
    }
    return {
        "since": previous["id"],
        **found,
        "policy": policy,
        "evidence": {"added": added, "removed": removed},
        "because": because or (["time"] if any(found.values()) else []),
    }


def _from_to(before: object, after: object) -> dict[str, object] | None:
    return None if before == after else {"from": before, "to": after}


def _by_id(
    before: Iterable[Recorded], after: Iterable[Recorded], field: str
) -> list[dict[str, object]]:
    """Each thing whose *field* differs, by id; `null` on the side where it is not there."""
    was = {item["id"]: item[field] for item in before}
    is_ = {item["id"]: item[field] for item in after}
    return [
        {"id": id, "from": was.get(id), "to": is_.get(id)}
        for id in sorted(was.keys() | is_.keys())
        if was.get(id) != is_.get(id)
    ]
