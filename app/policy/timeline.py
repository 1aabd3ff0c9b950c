"""Which version of a policy is in force at an instant: exactly one, or none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest

from app.policy.version import PolicyVersion
from app.vocabulary import Document, Flag, Instant, Line, Sentence


class Approval(Document):
    """That somebody other than its author approves a policy version."""

    reason: Sentence


class Activation(Document):
    """From which instant an approved version is in force: not in the past, unless it says so."""

    in_force_from: Instant | None = None
    """Defaults to the server's time, which is then recorded here."""
    retroactive: Flag = False
    reason: Sentence | None = None
    """Why it reaches back; required where it does."""


class RecordedApproval(Approval):
    """An approval as it is recorded: of which version, by which caller, and the server's time."""

    policy: Line
    version: Line
    digest: Line
    by: Line
    given_at: Instant


class RecordedActivation(Activation):
    """An activation as it is recorded: of which version, by which caller, and the server's time.

    `in_force_from` is what it speaks for, `given_at` when it was said: the record shows both.
    """

    policy: Line
    version: Line
    digest: Line
    by: Line
    given_at: Instant


@dataclass(frozen=True, slots=True)
class FirstRecorded:
    """At which ledger index each line and threshold was first on record as it now stands."""

    lines: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Activated:
    """A version that was activated, from which instant on."""

    version: PolicyVersion
    digest: str
    since: datetime
    first_recorded: FirstRecorded | None = None


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A version with the time in which it is in force: from `since` up to, not including, `until`.

    `until` is `None` where no later activation is recorded. `first_recorded` is `None` where the
    version is recorded nowhere.
    """

    version: PolicyVersion
    digest: str
    since: datetime
    until: datetime | None
    first_recorded: FirstRecorded | None = None


def timeline(activated: Iterable[Activated]) -> tuple[PolicyInForce, ...]:
    """Each activation with its time in force, in order.

    A version is in force from its instant until the next activation's. Two activations of a policy
    from the same instant are refused when the second is recorded. A version may stand here twice,
    where an older one was activated again.
    """
    ordered = sorted(activated, key=lambda one: (one.since, one.digest))
    ends = [one.since for one in ordered[1:]]
    return tuple(
        PolicyInForce(one.version, one.digest, one.since, end, one.first_recorded)
        for one, end in zip_longest(ordered, ends)
    )


def first_recorded(
    version: PolicyVersion, versions: Iterable[tuple[PolicyVersion, int]]
) -> FirstRecorded:
    """When each line and threshold of *version* was first recorded as it stands in it.

    `versions`: all recorded versions of the policy, each with its ledger index. What a line or a
    threshold measures is compared, not the words around it.
    """
    lines: dict[str, int] = {}
    thresholds: dict[str, int] = {}
    for other, index in sorted(versions, key=lambda pair: pair[1]):
        for name, line in version.lines.items():
            was = other.lines.get(name)
            if was is not None and (was.unit, was.riskier, was.rule_out, was.rule_in) == (
                line.unit,
                line.riskier,
                line.rule_out,
                line.rule_in,
            ):
                lines.setdefault(name, index)
        for name, threshold in version.thresholds.items():
            same = other.thresholds.get(name)
            if same is not None and (same.statement, same.reached, same.ruled_out) == (
                threshold.statement,
                threshold.reached,
                threshold.ruled_out,
            ):
                thresholds.setdefault(name, index)
    return FirstRecorded(lines, thresholds)


def in_force_at(versions: Iterable[PolicyInForce], at: datetime) -> PolicyInForce | None:
    """The one in force at *at*, or `None`."""
    for version in versions:
        if version.since <= at and (version.until is None or at < version.until):
            return version
    return None
