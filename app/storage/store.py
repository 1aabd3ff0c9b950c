"""What an operation needs of storage: what is known, and the one way to record more.

What is read on every determination is kept in memory by the stream version at which it was read;
the ledger checks those versions in the committing transaction, so a stale copy is decided anew and
never answered.
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from app.assessment.assessment import Assessment, ModelVersion
from app.assessment.evidence import Evidence, OtherModel
from app.assessment.evidence import Recorded as RecordedEvidence
from app.assessment.exceptions import (
    ExceptionOnRecord,
    GivenApproval,
    RequestedException,
)
from app.assessment.orders import Order, OrderOnRecord
from app.assessment.safeguards import SafeguardReport
from app.assessment.sign_offs import SignOff
from app.errors import Unavailable
from app.ledger.entry import Kind, Position
from app.policy.language import recorded_policy
from app.policy.timeline import (
    Activated,
    FirstRecorded,
    PolicyInForce,
    RecordedActivation,
    RecordedApproval,
    first_recorded,
    in_force_at,
    timeline,
)
from app.policy.version import PolicyVersion
from app.storage import keys, records, rights
from app.storage.database import (
    REQUEST,
    Database,
    DatabaseConnection,
    UnfitServer,
    UnusableAddress,
    current_revision,
    expected_revision,
)
from app.storage.keys import Credential
from app.storage.ledger import Draft, Ledger, LedgerFault, Recorded, Stale
from app.storage.said import EVIDENCE, approved, fulfilled, leans_on, lifted, piece, said

USE_NOTED_EVERY: Final = timedelta(minutes=1)

TRUSTED_SECONDS: Final = 0.5
"""How long a key that was revoked may still open: on every replica, and no longer."""

_log: Final = logging.getLogger("aslgate.store")

RETRY_SECONDS: Final = 0.5
"""How often a database that was not there at the start is looked for again."""

MOST_OTHERS: Final = 16
"""How many other model versions are read that findings lean on; on what is not read, none holds."""

KEPT: Final = 4096
"""How many models' evidence, and how many policies, are kept in memory."""

T = TypeVar("T")
D = TypeVar("D", bound=BaseModel)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


OPERATOR: Final = "service:operator/command-line"
"""Who acts at the command line of the machine, and by the settings: who has no credential to show."""

POLICIES_STREAM: Final = "policies"
"""The stream that moves whenever it may have moved which versions of any policy are in force."""


def policy_stream(policy: str) -> str:
    """The stream that moves whenever a version of it is recorded, approved or activated."""
    return f"policy:{policy}"


def model_stream(model: str) -> str:
    """The stream that moves whenever the model is registered, or evidence on it or a fulfilment of an
    obligation is recorded.
    """
    return f"model:{model}"


def weights_stream(weights: str) -> str:
    """The stream that moves whenever a model version with these weights is registered, or an
    assessment of one is recorded or withdrawn.
    """
    return f"weights:{weights}"


def found_stream(about: str, principal: str) -> str:
    """The stream that moves whenever *principal* records a finding that permits. *about*: the weights
    of the model version that it is on, or that itself where they are not known.
    """
    return f"found:{about}:{principal}"


def approved_stream(about: str, principal: str) -> str:
    """The stream that moves whenever *principal* approves an action. *about*: as in `found_stream`."""
    return f"approved:{about}:{principal}"


@dataclass(frozen=True, slots=True)
class RecordedPolicy:
    """A recorded policy version, parsed, with its document and where it stands."""

    version: PolicyVersion
    digest: str
    document: bytes
    position: Position


@dataclass(frozen=True, slots=True)
class OnRecord(Generic[T]):
    """A recorded document, and what it says."""

    record: Recorded
    said: T


@dataclass(frozen=True)
class Policies:
    """All recorded versions of one policy and what became of them, as of a stream version.

    `authors`: by digest, who recorded each version.
    """

    stream: int
    versions: tuple[RecordedPolicy, ...]
    timeline: tuple[PolicyInForce, ...]
    approvals: tuple[OnRecord[RecordedApproval], ...]
    activations: tuple[OnRecord[RecordedActivation], ...]
    authors: Mapping[str, str]

    def version(self, label: str) -> RecordedPolicy | None:
        """The version of that label."""
        return next((one for one in self.versions if one.version.version == label), None)

    def spans(self, digest: str) -> tuple[PolicyInForce, ...]:
        """When the version with that digest is in force; none where it was never activated."""
        return tuple(span for span in self.timeline if span.digest == digest)

    def approvals_of(self, digest: str) -> tuple[OnRecord[RecordedApproval], ...]:
        """The approvals of the version with that digest, in the order of recording."""
        return tuple(one for one in self.approvals if one.said.digest == digest)

    def activations_of(self, digest: str) -> tuple[OnRecord[RecordedActivation], ...]:
        """The activations of the version with that digest, in the order of recording."""
        return tuple(one for one in self.activations if one.said.digest == digest)


@dataclass(frozen=True, slots=True)
class Known:
    """By policy, all recorded versions, and those that were ever activated with their times."""

    versions: Mapping[str, tuple[PolicyVersion, ...]]
    timelines: Mapping[str, tuple[PolicyInForce, ...]]

    def every_version(self) -> Iterator[PolicyVersion]:
        """All recorded versions of all policies, drafts included."""
        for versions in self.versions.values():
            yield from versions

    def actions(self) -> frozenset[str]:
        """What any version that is, was or will be in force names as an action."""
        spans = (span for timeline in self.timelines.values() for span in timeline)
        return frozenset(action for span in spans for action in span.version.actions)

    def named_at(self, policy: str, *instants: datetime) -> list[PolicyVersion]:
        """The versions of the policy in force at any of those instants; where none was, all that
        are recorded, drafts included. None at all where the policy is unknown.
        """
        spans = self.timelines.get(policy, ())
        found = [in_force_at(spans, instant) for instant in instants]
        spoke = [one.version for one in found if one is not None]
        return spoke or list(self.versions.get(policy, ()))


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model version as registered, if it is, its weights where known, and its stream version."""

    recorded: Recorded | None
    weights: str | None
    stream: int


@dataclass(frozen=True, slots=True)
class KnownEvidence:
    """A piece of evidence on a model version, what became of it, and the model's stream version.

    `weights`: those of the model. `approvals` are an exception's, `lifted` is an order's.
    """

    record: Recorded
    recorded_by: str
    model: str
    weights: str | None
    withdrawn: bool
    stream: int
    approvals: tuple[OnRecord[GivenApproval], ...] = ()
    lifted: bool = False

    def exception(self) -> RequestedException:
        """What the exception asks for, where it is one."""
        return said(RequestedException, self.record)

    def says(self) -> BaseModel:
        """What it says."""
        return said(EVIDENCE[self.record.kind], self.record)

    def may_count_against(self) -> bool:
        """Whether it could stand in the way of an action; an order that could is never withdrawn."""
        says = self.says()
        return isinstance(says, Assessment | SafeguardReport | SignOff) and says.may_count_against


@dataclass(frozen=True)
class Snapshot:
    """Everything that a determination rests on, with the stream versions at which it was read."""

    streams: Mapping[str, int]
    policies: Policies
    model: ModelVersion | None
    evidence: Evidence = field(default_factory=Evidence)
    recorded_by: Mapping[str, str] = field(default_factory=dict)
    """By id, who recorded each piece of the evidence. It is no part of what is decided on."""

    @property
    def timeline(self) -> tuple[PolicyInForce, ...]:
        """The activated versions of the policy with their times in force."""
        return self.policies.timeline


class Store:
    """Storage, as operations use it. Nothing is connected before `open`."""

    def __init__(
        self,
        database: Database,
        *,
        log: str = "localhost/aslgate",
        deadline_seconds: float = 2.0,
        bootstrap_key: str | None = None,
        bootstrap_policy_roles: Sequence[str] = (),
    ) -> None:
        self._database = database
        self._log = log
        self._bootstrap_key = bootstrap_key
        self._bootstrap_policy_roles = tuple(bootstrap_policy_roles)
        self.ledger = Ledger(database, deadline_seconds=deadline_seconds)
        self._parsed: dict[str, PolicyVersion] = {}
        self._first_recorded: dict[str, FirstRecorded] = {}
        self._policies: dict[str, Policies] = {}
        self._models: dict[str, _ModelRead] = {}
        self._activated: tuple[tuple[str, ...], int] | None = None
        self._trusted: dict[bytes, tuple[float, Credential]] = {}
        self._uses: dict[str, datetime] = {}
        self._noting: set[asyncio.Task[None]] = set()
        self._once = _Once()
        self.gates = Gates()
        self.leaned_on: Counter[tuple[str, str]] = Counter()
        """By policy and exception, how many answers since the start lean on it."""
        self._writing = False
        self._not_open: str | None = "the service is starting"
        self._opening: asyncio.Task[None] | None = None

    async def open(self, now: datetime) -> None:
        """Connect, see that the ledger is whole and named as we are told, and make the first key.

        Where the database is not there yet, or not migrated yet, this goes on trying behind the
        scenes; until then `trouble` says why, and everything else is `Unavailable`. Raises what no
        waiting mends: `LedgerFault`, `UnfitServer`, `UnfitRole`, `UnusableAddress`, `UnusableKey`.
        """
        try:
            await self._open(now)
        except Unavailable as unavailable:
            self._not_open = unavailable.message
            self._opening = asyncio.create_task(self._keep_trying(now))

    async def _open(self, now: datetime) -> None:
        await self._database.open()
        async with self._database.reading() as connection:
            lacking = await self._database.lacks(connection)
            await connection.run_sync(rights.refuse_unfit_role)
            revision = await current_revision(connection)
        if lacking is not None:
            raise UnfitServer(lacking)
        if revision != expected_revision():
            raise Unavailable("database", _other_migration(revision))
        async with self._database.reading() as connection:
            keyless = not await keys.ever_was_one(connection)
        first_key = self._first_key(now)
        await self.ledger.initialise(self._log)
        if not self._writing:
            await self.ledger.start()
            # What comes below may fail and be tried again; there is one writer.
            self._writing = True
        if first_key is not None and keyless:
            # Another replica may have been first: then this rests on what has moved since.
            with suppress(Stale):
                await self.ledger.append(
                    [first_key],
                    actor=OPERATOR,
                    rests_on={keys.CREDENTIALS_STREAM: 0},
                    touches=(keys.CREDENTIALS_STREAM,),
                )
        self._not_open = None

    def _first_key(self, now: datetime) -> Draft | None:
        """The entry of the bootstrap key, where there is one. Raises `UnusableKey`."""
        if self._bootstrap_key is None:
            return None
        secret = keys.given_secret(self._bootstrap_key)
        first = Credential(
            secret.id, "service:bootstrap", ("admin",), self._bootstrap_policy_roles, "bootstrap"
        )
        return keys.credential_draft(first, secret, by=OPERATOR, now=now)

    async def _keep_trying(self, now: datetime) -> None:
        while self._not_open is not None:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self._open(now)
            except Unavailable as unavailable:
                self._not_open = unavailable.message
            except (
                LedgerFault,
                UnfitServer,
                rights.UnfitRole,
                UnusableAddress,
                keys.UnusableKey,
            ) as fault:
                self._not_open = str(fault)
            except Exception as error:  # noqa: BLE001 - said and logged, and tried again
                # Whatever it is, nobody else tries again: the service would never become ready.
                _log.exception("the database cannot be opened")
                self._not_open = f"the database cannot be opened ({type(error).__name__})"

    async def close(self) -> None:
        """Record what waits, and let all connections go."""
        if self._opening is not None:
            self._opening.cancel()
        await asyncio.gather(*self._noting, return_exceptions=True)
        await self.ledger.close()
        await self._database.close()

    @asynccontextmanager
    async def _reading(self, *, to_decide: bool = False) -> AsyncIterator[DatabaseConnection]:
        """A snapshot to read in; `Unavailable` until the store is open. `to_decide`: on a connection of
        those that no crowd of readers has.
        """
        if self._not_open is not None:
            raise Unavailable("database", self._not_open)
        async with self._database.reading(to_decide=to_decide) as connection:
            yield connection

    def _deciding(self) -> AbstractAsyncContextManager[DatabaseConnection]:
        """A snapshot for what comes before something is decided or recorded, and is now and then asked
        for by who only reads.
        """
        request = REQUEST.get()
        return self._reading(to_decide=request is None or not request.only_reads)

    def reading(self) -> AbstractAsyncContextManager[DatabaseConnection]:
        """A snapshot, for what `app.storage.history` reads of it."""
        return self._reading()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[DatabaseConnection]:
        """A transaction for work that goes on and is no record; committed when the block ends well.

        Raises `Unavailable`; then it may have been committed, or not.
        """
        if self._not_open is not None:
            raise Unavailable("database", self._not_open)
        async with self._database.writing() as connection:
            yield connection

    async def trouble(self) -> str | None:
        """Why nothing can be decided or recorded now; `None`: all is well."""
        had = self.ledger.size  # before the snapshot: more may be recorded while we look
        try:
            async with self._reading(to_decide=True) as connection:
                revision = await current_revision(connection)
                if revision != expected_revision():
                    return _other_migration(revision)
                size = await records.ledger_size(connection)
                lacking = await self._database.lacks(connection)
                lacking = lacking or await self._database.skew(connection)
        except Unavailable as unavailable:
            return unavailable.message
        if size < had:
            return f"the ledger has {size} entries, and had {had}: it was put back"
        return self.ledger.halted or lacking or self.ledger.unwritable()

    async def authenticate(self, key: str, now: datetime) -> Credential | None:
        """Whose key it is; `None`: nobody's that counts now.

        A key that was found to count is believed for `TRUSTED_SECONDS`, so that a caller who asks
        a thousand times a second does not make the database say who it is as often.
        """
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        seen, credential = self._trusted.get(name, (0.0, None))
        if credential is None or time.monotonic() - seen > TRUSTED_SECONDS:
            credential = await self._once.do(("key", name), lambda: self._look_up(key, now))
            if credential is None:
                self._trusted.pop(name, None)
                return None
            _keep(self._trusted, name, (time.monotonic(), credential))
            self._note_use(credential, now)
        if credential.expires_at is not None and now >= credential.expires_at:
            return None
        return credential

    def _note_use(self, credential: Credential, now: datetime) -> None:
        """Note in the background, about once a minute, that a key was used."""
        noted = self._uses.get(credential.id)
        if noted is not None and now < noted + USE_NOTED_EVERY:
            return
        _keep(self._uses, credential.id, now)
        task = asyncio.create_task(self._noted(credential.id, now))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _noted(self, id: str, now: datetime) -> None:
        # It is told to people who look for unused keys; nothing rests on it.
        with suppress(Unavailable):
            async with self._database.writing() as connection:
                await keys.note_use(connection, id, now)

    async def _look_up(self, key: str, now: datetime) -> Credential | None:
        async with self._reading(to_decide=True) as connection:
            return await keys.authenticate(connection, key, now=now)

    # --- policies ------------------------------------------------------------------------------

    async def policies(self, policy: str) -> Policies:
        """All recorded versions of the policy as of now; none where it is unknown."""
        async with self._deciding() as connection:
            return await self._read_policies(connection, policy, None)

    async def known(self) -> Known:
        """What the recorded versions of all policies name."""
        async with self._deciding() as connection:
            found = await records.policy_records(connection)
            activated = await records.policy_activations(connection)
        by_policy = _by_policy(self._policy(record) for record in found)
        activations: dict[str, list[OnRecord[RecordedActivation]]] = {}
        for one in _on_record(RecordedActivation, activated):
            activations.setdefault(one.said.policy, []).append(one)
        return Known(
            {policy: tuple(r.version for r in found) for policy, found in by_policy.items()},
            {
                policy: self._timeline(found, activations.get(policy, ()))
                for policy, found in by_policy.items()
            },
        )

    async def _read_policies(
        self, connection: AsyncConnection, policy: str, known_at: int | None
    ) -> Policies:
        found = await records.policy_records(connection, policy, known_at=known_at)
        stream = policy_stream(policy)
        streams = await records.stream_versions(connection, [stream])
        versions = tuple(self._policy(record) for record in found)
        approvals = await records.policy_approvals(connection, policy, known_at=known_at)
        activated = await records.policy_activations(connection, [policy], known_at=known_at)
        activations = _on_record(RecordedActivation, activated)
        return Policies(
            stream=streams[stream],
            versions=versions,
            timeline=self._timeline(versions, activations),
            approvals=_on_record(RecordedApproval, approvals),
            activations=activations,
            authors=await records.policy_authors(connection, policy),
        )

    def _timeline(
        self,
        versions: Sequence[RecordedPolicy],
        activations: Iterable[OnRecord[RecordedActivation]],
    ) -> tuple[PolicyInForce, ...]:
        """When which of *versions* is in force: all recorded ones of a policy."""
        by_digest = {one.digest: one.version for one in versions}
        return timeline(
            Activated(
                by_digest[one.said.digest],
                one.said.digest,
                in_force_from(one.said),
                self.first_recorded(one.said.digest, versions),
            )
            for one in activations
        )

    def first_recorded(self, digest: str, versions: Sequence[RecordedPolicy]) -> FirstRecorded:
        """When what the version with that digest says was first recorded; *versions*: all of its
        policy. What comes after it cannot have been there first, so it is worked out once.
        """
        known = self._first_recorded.get(digest)
        if known is None:
            version = next(one.version for one in versions if one.digest == digest)
            known = first_recorded(version, ((r.version, r.position.index) for r in versions))
            self._first_recorded[digest] = known
        return known

    def _policy(self, record: Recorded) -> RecordedPolicy:
        """The parsed version; a recorded document never changes, so it is parsed once."""
        identity = record.subject
        version = self._parsed.get(identity)
        if version is None:
            version = self._parsed[identity] = recorded_policy(record.document)
        return RecordedPolicy(version, identity, record.document, record.position)

    async def models_with(self, weights: str) -> Sequence[ModelVersion]:
        """The model versions that are registered with those weights."""
        async with self._deciding() as connection:
            found = await records.models_with(connection, weights)
        return [said(ModelVersion, record) for record in found]

    # --- models and evidence -------------------------------------------------------------------

    async def known_model(self, model: str) -> KnownModel:
        """The model version as registered, and its stream version."""
        stream = model_stream(model)
        async with self._deciding() as connection:
            record = await records.model_record(connection, model)
            streams = await records.stream_versions(connection, [stream])
        weights = None if record is None else said(ModelVersion, record).weights
        return KnownModel(record, weights, streams[stream])

    async def known_evidence(self, id: str, kind: Kind) -> KnownEvidence | None:
        """The piece of evidence with that id, if there is one and it is of that kind."""
        async with self._deciding() as connection:
            found = await records.evidence_of_id(connection, id)
            if found is None or found.record.kind is not kind:
                return None
            model = await records.model_record(connection, found.model)
            assert model is not None, "evidence is recorded on what is registered only"
            approvals = await records.approvals_on(connection, found.model)
            liftings = await records.liftings_on(connection, found.model)
            stream = model_stream(found.model)
            streams = await records.stream_versions(connection, [stream])
        return KnownEvidence(
            record=found.record,
            recorded_by=found.by,
            model=found.model,
            weights=said(ModelVersion, model).weights,
            withdrawn=found.withdrawn is not None,
            stream=streams[stream],
            approvals=_on_record(GivenApproval, approvals.get(id, ())),
            lifted=id in liftings,
        )

    async def standing(
        self, model: str, kind: Kind, says: type[D]
    ) -> list[tuple[records.EvidenceRecorded, D]]:
        """What is recorded of that kind on the model version and was not withdrawn, and what it
        says. Assessments include those of other model versions with the same weights.
        """
        async with self._deciding() as connection:
            record = await records.model_record(connection, model)
            weights = None if record is None else said(ModelVersion, record).weights
            found = await records.evidence_on(connection, model, weights=weights)
        return [
            (one, said(says, one.record))
            for one in found
            if one.record.kind is kind and one.withdrawn is None
        ]

    async def models_from(self, first: int, limit: int) -> list[tuple[int, str]]:
        """The first model versions registered from that ledger index on, each behind its own."""
        async with self._reading() as connection:
            return await records.models_from(connection, first, limit)

    async def activated_policies(self) -> tuple[tuple[str, ...], int]:
        """The policies of which a version was ever activated, and the version of the stream
        `policies` at which that was read: from memory where it was read before.
        """
        if self._activated is None:
            async with self._deciding() as connection:
                names = await records.activated_policies(connection)
                streams = await records.stream_versions(connection, [POLICIES_STREAM])
            self._activated = names, streams[POLICIES_STREAM]
        return self._activated

    async def snapshot(
        self, model: str, policy: str, known_at: int | None, *, from_memory: bool = True
    ) -> Snapshot:
        """What a determination rests on, as of a ledger size in the past, or as of now: then from
        memory where it was read before, for whoever checks its streams later, or read anew.
        """
        if known_at is not None:
            async with self._reading() as connection:
                past = await self._read_policies(connection, policy, known_at)
                read = await self._read_model(connection, model, known_at)
            return Snapshot({}, past, read.model, read.evidence, read.recorded_by)
        policies, read_now = self._policies.get(policy), self._models.get(model)
        if not from_memory:
            policies, read_now = await self._read_both(policy, model)
        elif policies is None or read_now is None:
            read_once = await self._once.do(
                ("snapshot", policy, model), lambda: self._read_both(policy, model)
            )
            policies, read_now = read_once
        return Snapshot(
            {policy_stream(policy): policies.stream, **read_now.streams},
            policies,
            read_now.model,
            read_now.evidence,
            read_now.recorded_by,
        )

    async def with_others(self, model: str, evidence: Evidence) -> Evidence:
        """*evidence* on *model* with what is recorded of the model versions that it leans on."""
        async with self._deciding() as connection:
            others, _ = await self._read_others(connection, model, evidence, None, {})
        return replace(evidence, others=others)

    async def _read_both(self, policy: str, model: str) -> "tuple[Policies, _ModelRead]":
        async with self._deciding() as connection:
            policies = await self._read_policies(connection, policy, None)
            read = await self._read_model(connection, model, None)
        # What is unknown is not kept: anyone can ask for any name.
        if policies.versions:
            _keep(self._policies, policy, policies)
        if read.model is not None:
            _keep(self._models, model, read)
        return policies, read

    def forget(self, streams: Iterable[str]) -> None:
        """Read anew what those streams tell of: they have moved."""
        moved = frozenset(streams)
        if POLICIES_STREAM in moved:
            self._activated = None
        for stream in moved:
            self._policies.pop(stream.removeprefix(policy_stream("")), None)
        # The evidence on one model version may lean on others, so it is looked for by its streams.
        for name in [n for n, read in self._models.items() if moved & read.streams.keys()]:
            del self._models[name]

    async def _read_model(
        self, connection: AsyncConnection, model: str, known_at: int | None
    ) -> "_ModelRead":
        """The model version, the evidence on it, and that on those which its findings lean on."""
        by: dict[str, str] = {}
        asked, evidence = await self._read_one(connection, model, known_at, by)
        done = await records.fulfilments_on(connection, model, known_at=known_at)
        evidence = replace(evidence, fulfilments=tuple(map(fulfilled, done)))
        others, streams = await self._read_others(connection, model, evidence, known_at, by)
        streams |= _streams_of(model, asked)
        return _ModelRead(
            await records.stream_versions(connection, streams),
            asked,
            replace(evidence, others=others),
            by,
        )

    async def _read_others(
        self,
        connection: AsyncConnection,
        model: str,
        evidence: Evidence,
        known_at: int | None,
        by: dict[str, str],
    ) -> tuple[dict[str, OtherModel], set[str]]:
        """The other model versions that findings on *model* lean on, and the streams that tell of
        them: nearest first, and of as near ones those whose names come first. *by* is told who
        recorded each piece.
        """
        streams: set[str] = set()
        others: dict[str, OtherModel] = {}
        nearest = _leans_on(evidence)
        while nearest and len(others) < MOST_OTHERS:
            next_nearest: set[str] = set()
            for name in sorted(nearest - others.keys() - {model})[: MOST_OTHERS - len(others)]:
                other, on_other = await self._read_one(connection, name, known_at, by)
                streams |= _streams_of(name, other)
                if other is not None:
                    others[name] = OtherModel(other, on_other)
                    next_nearest |= _leans_on(on_other)
            nearest = next_nearest - others.keys() - {model}
        return others, streams

    async def _read_one(
        self, connection: AsyncConnection, model: str, known_at: int | None, by: dict[str, str]
    ) -> tuple[ModelVersion | None, Evidence]:
        """One model version, if it is registered, and the evidence on it alone; *by* is told who
        recorded each piece.
        """
        record = await records.model_record(connection, model, known_at=known_at)
        if record is None:
            return None, Evidence()
        registered = said(ModelVersion, record)
        found = await records.evidence_on(
            connection, model, weights=registered.weights, known_at=known_at
        )
        pieces: dict[Kind, list[Recorded]] = {kind: [] for kind in EVIDENCE}
        for one in found:
            if one.withdrawn is None:
                pieces[one.record.kind].append(one.record)
                by[one.record.subject] = one.by
        approvals: Mapping[str, Sequence[Recorded]] = {}
        if pieces[Kind.EXCEPTION]:
            approvals = await records.approvals_on(connection, model, known_at=known_at)
        liftings: Mapping[str, Sequence[Recorded]] = {}
        if pieces[Kind.ORDER]:
            liftings = await records.liftings_on(connection, model, known_at=known_at)
        return registered, Evidence(
            tuple(map(piece, pieces[Kind.ASSESSMENT])),
            tuple(map(piece, pieces[Kind.SAFEGUARD])),
            tuple(map(piece, pieces[Kind.SIGN_OFF])),
            tuple(_exception(r, approvals.get(r.subject, ())) for r in pieces[Kind.EXCEPTION]),
            tuple(_order(r, liftings.get(r.subject, ())) for r in pieces[Kind.ORDER]),
        )

    # --- records -------------------------------------------------------------------------------

    async def streams(self, names: Iterable[str]) -> Mapping[str, int]:
        """The version of each stream now."""
        async with self._deciding() as connection:
            return await records.stream_versions(connection, names)

    async def size(self) -> int:
        """How many entries the ledger has."""
        async with self._deciding() as connection:
            return await records.ledger_size(connection)

    async def record(self, subject: str) -> Recorded | None:
        """What is recorded under that id."""
        async with self._deciding() as connection:
            return await records.record_of(connection, subject)

    async def records_of(self, subjects: Iterable[str]) -> Mapping[str, Recorded]:
        """By id, what is recorded under each of those ids."""
        async with self._deciding() as connection:
            return await records.records_of(connection, subjects)

    async def latest_determination(
        self, model: str, action: str, policy: str | None
    ) -> Recorded | None:
        """The determination that speaks for the latest instant."""
        async with self._reading() as connection:
            return await records.latest_determination(connection, model, action, policy)

    async def previous_determination(
        self, model: str, action: str, policy: str, *, at: datetime, before: int
    ) -> Recorded | None:
        """The one that an answer at *at* follows, in a ledger of size *before*."""
        async with self._deciding() as connection:
            return await records.previous_determination(
                connection, model, action, policy, at=at, before=before
            )

    async def determinations(
        self,
        *,
        model: str | None,
        action: str | None,
        decision: str | None,
        policy: str | None,
        before: int | None,
        limit: int,
    ) -> Sequence[Recorded]:
        """The newest determinations that fit, before a ledger index."""
        async with self._reading() as connection:
            return await records.determinations(
                connection,
                model=model,
                action=action,
                decision=decision,
                policy=policy,
                before=before,
                limit=limit,
            )


@dataclass(frozen=True, slots=True)
class _ModelRead:
    """A model version and the evidence on it, as of the versions of all streams that tell of it."""

    streams: Mapping[str, int]
    model: ModelVersion | None
    evidence: Evidence
    recorded_by: Mapping[str, str]


def in_force_from(activation: RecordedActivation) -> datetime:
    """From when it is in force: an activation on record always says so."""
    assert activation.in_force_from is not None, "it is filled in before it is recorded"
    return activation.in_force_from


def _by_policy(versions: Iterable[RecordedPolicy]) -> dict[str, list[RecordedPolicy]]:
    found: dict[str, list[RecordedPolicy]] = {}
    for one in versions:
        found.setdefault(one.version.policy, []).append(one)
    return found


def _on_record(kind: type[D], found: Iterable[Recorded]) -> tuple[OnRecord[D], ...]:
    return tuple(OnRecord(record, said(kind, record)) for record in found)


def _streams_of(model: str, registered: ModelVersion | None) -> set[str]:
    """The streams that tell of one model version."""
    streams = {model_stream(model)}
    if registered is not None and registered.weights is not None:
        streams.add(weights_stream(registered.weights))
    return streams


def _leans_on(evidence: Evidence) -> set[str]:
    return leans_on(one.item for one in evidence.assessments)


def _exception(
    record: Recorded, approvals: Iterable[Recorded]
) -> RecordedEvidence[ExceptionOnRecord]:
    asked = said(RequestedException, record)
    return piece(record, ExceptionOnRecord(asked, tuple(map(approved, approvals))))


def _order(record: Recorded, liftings: Iterable[Recorded]) -> RecordedEvidence[OrderOnRecord]:
    lifting = next(map(lifted, liftings), None)
    return piece(record, OrderOnRecord(said(Order, record), lifting))


def _other_migration(revision: str | None) -> str:
    return (
        f"the database is at migration {revision or 'none'}, and this version needs "
        f"{expected_revision()}: run `aslgate migrate`"
    )


class Gates:
    """Lets writers to a stream wait while something that rests on it is decided anew.

    Without this, a steady flow of evidence on a model could keep every determination on it from
    ever being recorded. It holds back the writers of this process only, and never for long.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def held(self, streams: Iterable[str]) -> AsyncIterator[None]:
        """Hold the gates of *streams* while the block lasts."""
        names = tuple(streams)
        self._held.update(names)
        try:
            yield
        finally:
            self._held.subtract(names)
            self._held = +self._held
            async with self._changed:
                self._changed.notify_all()

    async def passed(self, stream: str) -> None:
        """Wait until nobody holds the gate of *stream*. Raises `Unavailable` after a second."""
        if not self._held[stream]:
            return
        try:
            async with asyncio.timeout(1), self._changed:
                await self._changed.wait_for(lambda: not self._held[stream])
        except TimeoutError:
            message = "determinations on this model are under way; ask again"
            raise Unavailable("contention", message) from None


class _Once:
    """Does a thing once for all who want it at the same time."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def do(self, name: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What *work* gives, or what the work of that name that is under way will give."""
        task: asyncio.Task[T] | None = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(work())
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        # A caller that goes away takes nobody else's answer with it.
        return await asyncio.shield(task)


def _keep(kept: dict[K, V], name: K, value: V) -> None:
    """Keep the newest so many; a dict remembers the order in which they came."""
    kept.pop(name, None)
    kept[name] = value
    if len(kept) > KEPT:
        del kept[next(iter(kept))]
