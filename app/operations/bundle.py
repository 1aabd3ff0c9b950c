"""Bundle: one determination with all that it rests on, for whoever checks it elsewhere.

`make_bundle` reads it from the ledger; `check_bundle` needs nothing but the bundle, the log's key,
and this program.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from app.canonical import canonical_json, digest
from app.determination.provenance import (
    NotRebuilt,
    RestsOn,
    engine_of,
    question_of,
    recomputed,
)
from app.determination.record import Engine
from app.errors import NotFound, NotRecomputable, Unavailable
from app.ledger.bundle import Bundle, InvalidBundle, Proven, bundle_of, proven
from app.ledger.checkpoint import Checkpoint
from app.ledger.entry import Entry, Kind, Position
from app.ledger.note import VerifierKey
from app.operations.replay import SKEW, answer_before, why_not_rebuilt
from app.policy.timeline import PolicyInForce, in_force_at
from app.storage import checkpoints, records, tree
from app.storage.database import DatabaseConnection
from app.storage.history import gathered_model, gathered_policy
from app.storage.ledger import Recorded
from app.storage.said import EVIDENCE, leans_on, piece
from app.vocabulary import Decision, principal_of, read_instant, write_instant

_ABOUT_EVIDENCE: Final = frozenset(
    {*EVIDENCE, Kind.EXCEPTION_APPROVAL, Kind.LIFTING, Kind.FULFILMENT}
)
"""What is left out of a bundle without evidence."""


# --- Making --------------------------------------------------------------------------------------


async def make_bundle(
    connection: DatabaseConnection, id: str, *, quorum: int, with_evidence: bool = True
) -> Bundle:
    """The bundle of the determination with that id, against the largest checkpoint that so many
    witnesses have cosigned. Without evidence: what the evidence says is left out, and the
    registrations of other models too.

    Raises `NotFound`, `NotRecomputable` where what it says is none of what we record, or by an
    engine that is not known here, and `Unavailable` while no checkpoint holds it yet.
    """
    record = await records.record_of(connection, id)
    if record is None or record.kind is not Kind.DETERMINATION:
        raise NotFound("determination", id)
    try:
        document = orjson.loads(record.document)
        engine_of(document["provenance"])
        found = {one.position.index: one for one in await _rests_on(connection, record, document)}
        own = document["model"]
    except Exception as error:
        raise NotRecomputable(id, why_not_rebuilt(error)) from error
    index = record.position.index
    signed = await checkpoints.latest(connection, at_least=index + 1, quorum=quorum)
    if signed is None:
        message = f"no checkpoint holds entry {index} yet; ask again"
        raise Unavailable("checkpoint-pending", message)
    if not with_evidence:
        found = {
            i: one for i, one in found.items() if one.kind is not Kind.MODEL or one.subject == own
        }
    indexes = sorted(found)
    entries = await records.entries_at(connection, indexes)
    proofs = await tree.inclusion_proofs(connection, indexes, signed.size)

    def written() -> Iterator[tuple[int, bytes, bytes | None, tuple[bytes, ...]]]:
        for index, proof in zip(indexes, proofs, strict=True):
            one = found[index]
            is_shown = with_evidence or one.kind not in _ABOUT_EVIDENCE
            yield index, entries[index], one.document if is_shown else None, proof

    return await asyncio.to_thread(bundle_of, id, signed.note, written())


async def _rests_on(
    connection: DatabaseConnection, record: Recorded, document: Mapping[str, Any]
) -> Sequence[Recorded]:
    """The determination *record*, and

    1. the one since which it says what changed;
    2. every version of its policy that there was, with their approvals and activations;
    3. the evidence that it names;
    4. the registrations of its model, of those that evidence is on, and of those that it leans on.
    """
    question, provenance = question_of(document), document["provenance"]
    known_at = provenance["known_at"]
    found = [record]
    previous = await answer_before(connection, record, document)  # (1)
    if previous is not None:
        found.append(previous)
    policy = question.policy  # (2)
    found += await records.policy_records(connection, policy, known_at=known_at)
    found += await records.policy_approvals(connection, policy, known_at=known_at)
    found += await records.policy_activations(connection, [policy], known_at=known_at)
    names = [one["id"] for one in provenance["evidence"]]  # (3)
    evidence = tuple((await records.records_of(connection, names)).values())
    found += evidence
    # There may be thousands of pieces, and everyone else would wait for it.
    models = {question.model, *await asyncio.to_thread(_models_in, evidence)}  # (4)
    registered = (await records.records_of(connection, models)).values()
    found += (one for one in registered if one.position.index < known_at)
    return found


def _models_in(evidence: Iterable[Recorded]) -> set[str]:
    """The models that the evidence is on, and those that it leans on."""
    on = {orjson.loads(one.document)["model"] for one in evidence if one.kind in EVIDENCE}
    return on | leans_on(piece(one).item for one in evidence if one.kind is Kind.ASSESSMENT)


# --- Checking ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checked:
    """A bundle that holds. `is_recomputed`: the determination was decided again, to the same bytes;
    else the evidence was left out, and it is not seen whether it follows.
    `is_of_the_past`: it was asked about an earlier instant than that of recording, or with what was
    known at an earlier ledger size, and so it never was an answer about now. `valid_until` is `None`
    where time alone does not end it.
    """

    checkpoint: Checkpoint
    entry: Entry
    document: Mapping[str, Any]
    decision: Decision
    valid_until: datetime | None
    engine: Engine
    records: int
    is_recomputed: bool
    is_of_the_past: bool


def check_bundle(
    bundle: Bundle,
    keys: Iterable[VerifierKey],
    witnesses: Iterable[VerifierKey] = (),
    *,
    origin: str,
) -> Checked:
    """What the bundle shows, once it is seen that

    1. everything in it is in the tree of its checkpoint, and as it was recorded;
    2. nothing but evidence was left out, the determination names itself, who recorded it, and an
       engine that is known here, speaks for no instant after that, and came after all that it rests
       on;
    3. the policy version that it names was recorded, approved by somebody else than recorded
       it, and activated;
    4. the evidence that it names was recorded, in these bytes, and no other is in the bundle;
    5. that policy version was in force at its instant; decided again on this, it is the same to the
       byte; where evidence was left out, that its model was registered.

    Raises `InvalidBundle`.
    """
    checkpoint, there = proven(bundle, keys, witnesses, origin=origin)  # (1)
    by_subject = {one.entry.subject: one for one in there}
    if len(by_subject) != len(there):
        raise InvalidBundle("two of its records have one name")
    own = by_subject.get(bundle.determination)
    if own is None or own.entry.kind is not Kind.DETERMINATION or own.document is None:
        raise InvalidBundle(f"the determination `{bundle.determination}` is not in it")
    try:
        document = orjson.loads(own.document)
        engine = engine_of(document["provenance"])  # (2)
        _check_order(own, document, by_subject)
        _check_policy(document["provenance"]["policy"], there)  # (3)
        _check_evidence(document, there)  # (4)
        again = _recomputed(own, document, there)  # (5)
        decision, until = Decision(document["decision"]), document["valid_until"]
        valid_until = None if until is None else read_instant(until)
    except InvalidBundle:
        raise
    except NotRebuilt as reason:
        raise InvalidBundle(f"it cannot be recomputed: {reason}") from reason
    except Exception as error:
        # It was recorded, and is still not what we record: whatever that does is a finding.
        why = f"{type(error).__name__}: {error}"
        raise InvalidBundle(f"what it says or rests on cannot be read ({why})") from error
    if again is not None and again != own.document:
        was, now = digest(own.document), digest(again)
        raise InvalidBundle(f"recomputed, the determination is {now}, and {was} was recorded")
    asked_at, known_at = question_of(document).at, document["provenance"]["known_at"]
    is_of_the_past = known_at != own.entry.index or asked_at < own.entry.at - SKEW
    return Checked(
        checkpoint,
        own.entry,
        document,
        decision,
        valid_until,
        engine,
        records=len(there),
        is_recomputed=again is not None,
        is_of_the_past=is_of_the_past,
    )


def _check_order(
    own: Proven, document: Mapping[str, Any], by_subject: Mapping[str, Proven]
) -> None:
    known_at, actor = document["provenance"]["known_at"], document["provenance"]["actor"]
    if document["id"] != own.entry.subject:
        raise InvalidBundle(f"the determination calls itself `{document['id']}`")
    if canonical_json(document) != own.document:
        raise InvalidBundle("the determination is not in the one spelling that there is")
    if actor != own.entry.actor:
        raise InvalidBundle(f"it names `{actor}`, and `{own.entry.actor}` recorded it")
    if (at := question_of(document).at) > own.entry.at + SKEW:
        raise InvalidBundle(f"it speaks for {write_instant(at)}, after it was recorded")
    if known_at > own.entry.index:
        raise InvalidBundle(f"the determination saw {known_at} entries, and is {own.entry.index}")
    for one in by_subject.values():
        if one is not own and one.entry.index >= known_at:
            raise InvalidBundle(f"entry {one.entry.index} was recorded after what it saw")
        if one.document is None and one.entry.kind not in _ABOUT_EVIDENCE:
            raise InvalidBundle(f"the document of entry {one.entry.index} is not in it")
    if (since := (document["changed"] or {}).get("since")) and since not in by_subject:
        raise InvalidBundle(f"it says what changed since `{since}`, which is not in it")


def _check_policy(policy: Mapping[str, Any], there: Iterable[Proven]) -> None:
    version = policy["digest"]
    recorded, activated, approved_by = None, None, dict[int, str]()
    for one in there:
        entry = one.entry
        if one.document is None or entry.kind not in (_VERSION, _APPROVAL, _ACTIVATION):
            continue
        said = orjson.loads(one.document)
        if said["policy"] != policy["name"]:
            raise InvalidBundle(f"entry {entry.index} is about another policy")
        if entry.kind is _VERSION and digest(one.document) == entry.subject == version:
            recorded = entry
        elif entry.kind is _APPROVAL and said["digest"] == version:
            approved_by[entry.index] = principal_of(entry.actor)
        elif entry.kind is _ACTIVATION and said["digest"] == version and activated is None:
            activated = entry.index
    if version is None:
        return
    if recorded is None:
        raise InvalidBundle(f"the policy version `{version}` is not in it")
    if activated is None:
        raise InvalidBundle(f"nothing in it put the policy version `{version}` in force")
    others = {who for index, who in approved_by.items() if index < activated}
    others -= {principal_of(recorded.actor)}
    if not others:
        raise InvalidBundle(f"nobody but its author approved the policy version `{version}`")


_VERSION: Final = Kind.POLICY_VERSION
_APPROVAL: Final = Kind.POLICY_APPROVAL
_ACTIVATION: Final = Kind.POLICY_ACTIVATION


def _check_evidence(document: Mapping[str, Any], there: Iterable[Proven]) -> None:
    named = {one["id"]: one["digest"] for one in document["provenance"]["evidence"]}
    found = {
        one.entry.subject: f"sha256:{one.entry.sha256}"
        for one in there
        if one.entry.kind in _ABOUT_EVIDENCE
    }
    for id, digest_ in named.items():
        if id not in found:
            raise InvalidBundle(f"it rests on `{id}`, which is not in it")
        if found[id] != digest_:
            raise InvalidBundle(f"it rests on `{id}` in other bytes than those that were recorded")
    for id in found.keys() - named.keys():
        raise InvalidBundle(f"it does not rest on `{id}`, which is in it")


def _recomputed(own: Proven, document: Mapping[str, Any], there: Iterable[Proven]) -> bytes | None:
    """The determination decided again under the policy version in force; `None` where something was
    left out.
    """
    question, known_at = question_of(document), document["provenance"]["known_at"]
    found: dict[Kind, list[Recorded]] = {}
    is_whole = True
    for one in there:
        if one.entry.kind in (Kind.WITHDRAWAL, Kind.GATE):
            raise InvalidBundle(f"entry {one.entry.index} is nothing that an answer rests on")
        if one.document is None:
            is_whole = False
        elif one is not own:
            position = Position(one.entry.index, one.leaf_hash.hex(), one.entry.at)
            record = Recorded(one.entry.kind, one.entry.subject, one.document, position)
            found.setdefault(record.kind, []).append(record)
    previous = found.pop(Kind.DETERMINATION, [])
    if len(previous) > 1:
        raise InvalidBundle("there are several determinations before it")
    policies = gathered_policy(question.policy, found.pop(_VERSION, []), found.pop(_ACTIVATION, []))
    policy = in_force_at(policies.known_at(known_at), question.at)
    _check_in_force(policy, document["provenance"])
    if not is_whole:
        _check_registered(question.model, document, there)
        return None
    models = gathered_model(question.model, [one for some in found.values() for one in some])
    known = models.known_at(known_at)
    return recomputed(
        document,
        RestsOn(policy, known.model, known.evidence),
        previous=previous[0].document if previous else None,
    )


def _check_in_force(policy: PolicyInForce | None, provenance: Mapping[str, Any]) -> None:
    """All versions and activations are in every bundle, so this needs no evidence."""
    named = provenance["policy"]
    there = (policy.version.version, policy.digest) if policy else (None, None)
    if there != (named["version"], named["digest"]):
        was = f"version `{there[0]}`, `{there[1]}`," if policy else "no version"
        raise InvalidBundle(
            f"at {provenance['at']} {was} of its policy was in force, and it names "
            f"`{named['version']}`, `{named['digest']}`"
        )


def _check_registered(model: str, document: Mapping[str, Any], there: Iterable[Proven]) -> None:
    """Evidence is only recorded on what is registered."""
    registered = {one.entry.subject for one in there if one.entry.kind is Kind.MODEL}
    if document["provenance"]["evidence"] and model not in registered:
        raise InvalidBundle(f"the registration of `{model}` is not in it")
