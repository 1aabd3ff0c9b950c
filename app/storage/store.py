"""What an operation needs of storage: what is known, and the one way to record more.

What is read on every determination is kept in memory by the stream version at which it was read;
the ledger checks those versions in the committing transaction, so a stale copy is decided anew and
never answered.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence
from app.assessment.evidence import Recorded as RecordedEvidence
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.canonical import digest
from app.decoding import decode_json
from app.ledger.entry import Kind, Position
from app.policy.language import recorded_policy
from app.policy.timeline import PolicyInForce, timeline
from app.policy.version import PolicyVersion
from app.storage import keys, records
from app.storage.database import Database, current_revision, expected_revision
from app.storage.keys import Credential
from app.storage.ledger import Ledger, Recorded
from app.vocabulary import TEXT

KEPT_SNAPSHOTS: Final = 4096
KEPT_CREDENTIALS: Final = 1024


def policy_stream(policy: str) -> str:
    """The stream that moves whenever a version of the policy is recorded."""
    return f"policy:{policy}"


def model_stream(model: str) -> str:
    """The stream that moves whenever the model is registered or evidence on it is recorded."""
    return f"model:{model}"


@dataclass(frozen=True, slots=True)
class RecordedPolicy:
    """A recorded policy version, parsed, with its document and where it stands."""

    version: PolicyVersion
    digest: str
    document: bytes
    position: Position


@dataclass(frozen=True)
class Policies:
    """All recorded versions of one policy, as of a stream version."""

    stream: int
    versions: tuple[RecordedPolicy, ...]
    timeline: tuple[PolicyInForce, ...]

    def in_force(self, digest: str) -> PolicyInForce:
        """When the version with that digest is in force."""
        return next(in_force for in_force in self.timeline if in_force.digest == digest)


@dataclass(frozen=True, slots=True)
class Known:
    """What the recorded versions of some policies name, and which lines any policy has."""

    by_policy: Mapping[str, tuple[PolicyVersion, ...]]
    lines: frozenset[str]

    def versions(self, policy: str) -> tuple[PolicyVersion, ...]:
        """The recorded versions of the policy; none where it is unknown."""
        return self.by_policy.get(policy, ())

    def has_line(self, line: str) -> bool:
        """Whether any recorded version of any policy has that line."""
        return line in self.lines


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model version as registered, if it is, and its stream version."""

    recorded: Recorded | None
    stream: int


@dataclass(frozen=True, slots=True)
class KnownAssessment:
    """Whose assessment it is, whether it was withdrawn, and the model's stream version."""

    model: str
    withdrawn: bool
    stream: int


@dataclass(frozen=True)
class Snapshot:
    """Everything that a determination rests on, with the stream versions at which it was read."""

    streams: Mapping[str, int]
    size: int
    timeline: tuple[PolicyInForce, ...]
    model: ModelVersion | None
    evidence: Evidence = field(default_factory=Evidence)


_MODEL = TypeAdapter(ModelVersion)
_ASSESSMENT = TypeAdapter(Assessment)
_SAFEGUARD = TypeAdapter(SafeguardReport)
_SIGN_OFF = TypeAdapter(SignOff)
