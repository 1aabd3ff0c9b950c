"""Approve a recorded policy version, and put it in force from an instant.

Whoever recorded a version neither approves nor activates it; who approved it may activate it, for
with its author they are two. What is checked here is checked again
by the ledger: the request rests on the policy's stream, so of several that come at once each sees
what those before it did.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from app.canonical import canonical_json
from app.errors import (
    AlreadyRecorded,
    Fault,
    InvalidDocument,
    NotApproved,
    NotFound,
    Refusal,
    RetroactiveActivation,
    SelfActivation,
    SelfApproval,
    Unavailable,
)
from app.ledger.entry import Kind
from app.operations.context import ATTEMPTS, NO_VERSION, Context, new_id
from app.policy.timeline import (
    Activation,
    Approval,
    RecordedActivation,
    RecordedApproval,
    in_force_at,
)
from app.storage.ledger import (
    Appended,
    Draft,
    PolicyActivationRow,
    PolicyApprovalRow,
    Stale,
)
from app.storage.store import (
    POLICIES_STREAM,
    OnRecord,
    Policies,
    RecordedPolicy,
    in_force_from,
    policy_stream,
)
from app.vocabulary import write_instant

CLOCK_SLACK: Final = timedelta(minutes=1)
"""How far an instant may lie back, for the caller's clock and the way here, and still be now."""


async def approve_policy(
    context: Context, policy: str, version: str, approval: Approval
) -> Appended:
    """Record that the caller approves the version.

    Raises `NotFound`, `SelfApproval`, and `AlreadyRecorded` where the caller approved it before:
    only the key of that request gives its answer again.
    """

    def refusal(known: Policies, asked: RecordedPolicy) -> Refusal | None:
        if context.is_by_caller(known.authors[asked.digest]):
            return SelfApproval(_name(asked))
        for one in known.approvals_of(asked.digest):
            if context.is_by_caller(one.said.by):
                return AlreadyRecorded("approval of", _name(asked), "its caller approved it before")
        return None

    def draft(asked: RecordedPolicy) -> Draft:
        id = new_id("pap")
        recorded = RecordedApproval(
            reason=approval.reason,
            policy=policy,
            version=version,
            digest=asked.digest,
            by=context.actor,
            given_at=context.now,
        )
        document = canonical_json({"id": id, **recorded.model_dump(mode="json")})
        row = PolicyApprovalRow(id, policy, asked.digest, context.principal, context.now)
        return Draft(Kind.POLICY_APPROVAL, id, row, lambda _: document)

    return await _record(context, policy, version, refusal, draft, (policy_stream(policy),))


async def activate_policy(
    context: Context, policy: str, version: str, activation: Activation
) -> Appended:
    """Record from when the version is in force: from now on, where *activation* does not say.

    It is then in force until the next instant that an activation of the policy names. One that was
    superseded comes back only with a reason, and an approval since, by another than the caller. Raises
    `InvalidDocument`, `NotFound`, `SelfActivation`, `NotApproved`, `RetroactiveActivation`, and
    `AlreadyRecorded` where a version is in force from that very instant already.
    """
    since = activation.in_force_from or context.now
    _refuse_pointless(context, activation)

    def refusal(known: Policies, asked: RecordedPolicy) -> Refusal | None:
        name = _name(asked)
        if context.is_by_caller(known.authors[asked.digest]):
            return SelfActivation(name)
        if not known.approvals_of(asked.digest):
            return NotApproved(name)
        ended = _ended_by(known, asked.digest, since)
        if ended is not None:
            # What was approved then was to be first, and this is to be instead of what came since.
            if activation.reason is None:
                message = "must say why a version that was superseded comes back"
                return InvalidDocument((Fault("/reason", "missing", message),))
            if not any(
                not context.is_by_caller(one.said.by)
                and one.record.position.index > ended.record.position.index
                for one in known.approvals_of(asked.digest)
            ):
                return NotApproved(name, superseded=True)
        if since < context.now - CLOCK_SLACK and not activation.retroactive:
            return RetroactiveActivation(name, write_instant(since))
        for one in known.activations:
            if in_force_from(one.said) == since:
                message = f"version {one.said.version} is in force from {write_instant(since)} on"
                return AlreadyRecorded("activation of", name, message)
        return None

    def draft(asked: RecordedPolicy) -> Draft:
        id = new_id("pac")
        recorded = RecordedActivation(
            in_force_from=since,
            retroactive=activation.retroactive,
            reason=activation.reason,
            policy=policy,
            version=version,
            digest=asked.digest,
            by=context.actor,
            given_at=context.now,
        )
        document = canonical_json({"id": id, **recorded.model_dump(mode="json")})
        row = PolicyActivationRow(id, policy, asked.digest, since, context.now)
        return Draft(Kind.POLICY_ACTIVATION, id, row, lambda _: document)

    touches = (policy_stream(policy), POLICIES_STREAM)
    return await _record(context, policy, version, refusal, draft, touches)


def _ended_by(known: Policies, digest: str, since: datetime) -> OnRecord[RecordedActivation] | None:
    """The activation that superseded the version, where it would come back from *since* on; `None`:
    it was not in force before, or still is.
    """
    before = in_force_at(known.timeline, since)
    if before is None or before.digest == digest:
        return None
    ends = [span.until for span in known.spans(digest) if span.until and span.until <= since]
    if not ends:
        return None
    last = max(ends)
    return next(one for one in known.activations if in_force_from(one.said) == last)


def _refuse_pointless(context: Context, activation: Activation) -> None:
    """`retroactive` says that a past instant is meant, and why: it says neither without both."""
    if not activation.retroactive:
        return
    faults = []
    if activation.in_force_from is None or activation.in_force_from >= context.now:
        message = "is pointless: the instant is not past"
        faults.append(Fault("/retroactive", "not-in-the-past", message))
    if activation.reason is None:
        message = "must say why it reaches back"
        faults.append(Fault("/reason", "missing", message))
    if faults:
        raise InvalidDocument(tuple(faults))


async def _record(
    context: Context,
    policy: str,
    version: str,
    refusal: Callable[[Policies, RecordedPolicy], Refusal | None],
    draft: Callable[[RecordedPolicy], Draft],
    touches: tuple[str, ...],
) -> Appended:
    """Record the draft, unless it is refused on what is there when it is recorded."""
    stream = policy_stream(policy)
    for _ in range(ATTEMPTS):
        known = await context.store.policies(policy)
        asked = known.version(version)
        if asked is None:
            raise NotFound("policy version", f"{policy} {version}")
        refused = refusal(known, asked)
        if refused is not None and context.key is None:
            raise refused
        try:
            return await context.store.ledger.append(
                [draft(asked)],
                actor=context.actor,
                # What is refused now may have been recorded when its key first came.
                rests_on={stream: known.stream if refused is None else NO_VERSION},
                touches=touches,
                key=context.key,
            )
        except Stale:
            if refused is not None:
                raise refused from None
    raise Unavailable("contention", "other records of this policy are being made; ask again")


def _name(recorded: RecordedPolicy) -> str:
    return f"{recorded.version.policy} {recorded.version.version}"
