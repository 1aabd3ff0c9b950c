"""Which version of a policy is in force at an instant: exactly one, or none."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from app.policy.version import PolicyVersion


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A version with the time in which it is in force: from `since` up to, not including, `until`.

    `until` is `None` where no later version is recorded.
    """

    version: PolicyVersion
    digest: str
    since: datetime
    until: datetime | None


def timeline(versions: Iterable[tuple[PolicyVersion, str]]) -> tuple[PolicyInForce, ...]:
    """Each version with its time in force, in order; `versions` are (version, digest) pairs.

    A version is in force from its effective instant until the next one's. Two versions of a policy
    that take effect at the same instant are refused when the second is recorded.
    """
    ordered = sorted(versions, key=lambda pair: (pair[0].effective, pair[1]))
    ends = [version.effective for version, _ in ordered[1:]]
    return tuple(
        PolicyInForce(version, digest, version.effective, end)
        for (version, digest), end in zip_longest(ordered, ends)
    )


def in_force_at(versions: Iterable[PolicyInForce], at: datetime) -> PolicyInForce | None:
    """The one in force at *at*, or `None`."""
    for version in versions:
        if version.since <= at and (version.until is None or at < version.until):
            return version
    return None
