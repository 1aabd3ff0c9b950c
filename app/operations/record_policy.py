"""Record a policy version, once and for all. It is a draft until somebody else approves it."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from app.canonical import digest
from app.errors import AlreadyRecorded, Fault, InvalidDocument, Unavailable
from app.ledger.entry import Kind
from app.operations.context import ATTEMPTS, Context, refuse_reused_key
from app.policy.language import canonical_policy, read_policy
from app.policy.version import PolicyVersion
from app.storage.ledger import Draft, PolicyVersionRow, Stale
from app.storage.store import Policies, RecordedPolicy, policy_stream


@dataclass(frozen=True, slots=True)
class PolicyRecorded:
    """A recorded version, and all that is recorded of its policy now."""

    recorded: RecordedPolicy
    policies: Policies
    replayed: bool


async def record_policy(
    context: Context, policy: str, text: bytes, media: Literal["yaml", "json"]
) -> PolicyRecorded:
    """Record the version that *text* says.

    The same version again gives the same answer. Raises `InvalidDocument` with every fault,
    `AlreadyRecorded` where another document has its label. Two may share a publisher's date: they
    are two readings of one text, and only activations say which counts.
    """
    # A large document takes a while to check, and others must not wait for it.
    version = await asyncio.to_thread(read_policy, text, media)
    if version.policy != policy:
        message = f"must be `{policy}`, the policy that the path names"
        raise InvalidDocument((Fault("/policy", "other-policy", message),))
    document = canonical_policy(version)
    identity = digest(document)
    for _ in range(ATTEMPTS):
        known = await context.store.policies(policy)
        for recorded in known.versions:
            if recorded.digest == identity:
                await refuse_reused_key(context)
                return PolicyRecorded(recorded, known, replayed=True)
            _refuse_a_clash(version, identity, recorded)
        try:
            await context.store.ledger.append(
                [
                    Draft(
                        Kind.POLICY_VERSION,
                        identity,
                        PolicyVersionRow(policy, version.version, identity, version.effective),
                        lambda _: document,
                    )
                ],
                actor=context.actor,
                rests_on={policy_stream(policy): known.stream},
                touches=(policy_stream(policy),),
                key=context.key,
            )
        except Stale:
            continue
        known = await context.store.policies(policy)
        (recorded,) = (r for r in known.versions if r.digest == identity)
        return PolicyRecorded(recorded, known, replayed=False)
    raise Unavailable("contention", "other versions of this policy are being recorded; ask again")


def _refuse_a_clash(version: PolicyVersion, identity: str, recorded: RecordedPolicy) -> None:
    other = recorded.version
    name = f"{version.policy} {version.version}"
    if other.version == version.version:
        message = f"under other bytes, {recorded.digest}; these are {identity}"
        raise AlreadyRecorded("policy version", name, message)
