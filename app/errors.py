"""Everything that a caller can be told instead of an answer.

A refusal is plain data and knows no transport: HTTP gives it a status in one table
(`app/http/problems.py`), the command line gives it an exit code. A "no" is not a refusal: a
determination that denies is an answer.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a document, and where.

    `pointer` is an RFC 6901 JSON pointer into the document (`""`: the whole of it); `line` and
    `column` count from 1 and are known only where the document was text with lines.
    """

    pointer: str
    code: str
    message: str
    line: int | None = None
    column: int | None = None


class Refusal(Exception):
    """The root of everything a caller can be told; `str()` of it is one plain sentence."""


@dataclass(eq=False)
class InvalidDocument(Refusal):
    """The document was read, and does not say what it must. Every fault is listed at once."""

    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        first = self.faults[0]
        return f"{first.pointer or 'document'}: {first.message}{more}"


@dataclass(eq=False)
class UndecodableDocument(InvalidDocument):
    """The bytes are not the JSON or YAML that we accept, so nothing further could be checked."""


@dataclass(eq=False)
class DocumentTooLarge(Refusal):
    """More bytes than we read of such a document."""

    limit_bytes: int

    def __str__(self) -> str:
        return f"the document is larger than {self.limit_bytes} bytes"


@dataclass(eq=False)
class DocumentTooSlow(Refusal):
    """The body did not arrive in time."""

    limit_seconds: float

    def __str__(self) -> str:
        return f"the body did not arrive within {self.limit_seconds:g} s"


@dataclass(eq=False)
class UnsupportedMediaType(Refusal):
    """The body's type is not one that this operation reads."""

    accepted: tuple[str, ...]

    def __str__(self) -> str:
        return f"send the body as {' or '.join(self.accepted)}"


@dataclass(eq=False)
class InvalidParameter(Refusal):
    """A header or a query or path parameter has a value that cannot be used."""

    name: str
    message: str

    def __str__(self) -> str:
        return f"`{self.name}`: {self.message}"


@dataclass(eq=False)
class Unauthenticated(Refusal):
    """No valid credential came with the request.

    `reason`, and the id of the key that was tried, are for our log: a caller is not told how near it
    came. `reason` is `none` where nothing came at all.
    """

    reason: str = "none"
    credential: str | None = None

    def __str__(self) -> str:
        return "a valid API key or token is needed: send `Authorization: Bearer …`"


@dataclass(eq=False)
class Forbidden(Refusal):
    """The caller is known, and lacks the permission."""

    permission: str

    def __str__(self) -> str:
        return f"this caller lacks the permission `{self.permission}`"


@dataclass(eq=False)
class NotFromSender(Refusal):
    """A delivery that is not signed as its binding says, or was signed too long ago.

    `reason` is for our log: a caller is not told how near it came.
    """

    reason: str

    def __str__(self) -> str:
        return "the delivery is not signed by who it should come from, or not of this time"


@dataclass(eq=False)
class OutsideBinding(Refusal):
    """A binding speaks of a model or an action that its settings do not let it speak of."""

    what: str

    def __str__(self) -> str:
        return f"this binding may not speak of `{self.what}`"


@dataclass(eq=False)
class TooManyRequests(Refusal):
    """The caller asks more often than it may."""

    after_seconds: int

    def __str__(self) -> str:
        return f"too many requests of this caller; ask again in {self.after_seconds} s"


@dataclass(eq=False)
class RoleNotHeld(Refusal):
    """The caller says what only a role of a policy can say, and does not hold that role."""

    roles: tuple[str, ...]

    def __str__(self) -> str:
        named = " and ".join(f"`{role}`" for role in self.roles)
        return f"this caller does not hold {named} of the policy, and speaks for nobody else"


@dataclass(eq=False)
class SoleApprover(Refusal):
    """Who recorded a finding that permits is, or would be, the only one to have approved on it.

    `sign_offs` and `assessments`: by their ids, what an answer would have rested on. `pointer`: which
    question of several it is.
    """

    model: str
    sign_offs: tuple[str, ...] = ()
    assessments: tuple[str, ...] = ()
    pointer: str | None = None

    def __str__(self) -> str:
        if not self.sign_offs:
            return (
                f"what permits `{self.model}` would be found and approved by one and the same: "
                "somebody else must approve first"
            )
        place = f"{self.pointer}: " if self.pointer else ""
        found, approved = _listed(self.assessments), _listed(self.sign_offs)
        return (
            f"{place}what permits `{self.model}` was found ({found}) and approved ({approved}) by one "
            "and the same, and by nobody else: somebody else must approve first"
        )


def _listed(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return ", ".join(f"`{id}`" for id in ids[:3]) + more


@dataclass(eq=False)
class NotFound(Refusal):
    """Nothing of that kind is recorded under that name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"no {self.kind} `{self.name}` is recorded"


@dataclass(eq=False)
class NoPolicyInForce(Refusal):
    """No recorded version of the policy was in force at that instant."""

    policy: str
    at: str

    def __str__(self) -> str:
        return f"no recorded version of `{self.policy}` was in force at {self.at}"


@dataclass(eq=False)
class SelfApproval(Refusal):
    """Whoever recorded a policy version, or asked for an exception, does not also approve it."""

    name: str

    def __str__(self) -> str:
        return f"`{self.name}` was recorded by this very caller: somebody else must approve it"


@dataclass(eq=False)
class FourEyes(Refusal):
    """Two roles are two people: one caller does not approve an exception in both."""

    name: str
    role: str

    def __str__(self) -> str:
        return f"this very caller approved `{self.name}` as `{self.role}`: somebody else must do so too"


@dataclass(eq=False)
class ExceptionEnded(Refusal):
    """An exception that was withdrawn, or has lapsed, is approved no more."""

    name: str
    message: str

    def __str__(self) -> str:
        return f"`{self.name}` can no longer be approved: {self.message}"


@dataclass(eq=False)
class SelfActivation(Refusal):
    """Whoever recorded a policy version does not also put it in force."""

    name: str

    def __str__(self) -> str:
        return f"`{self.name}` was recorded by this very caller: somebody else must activate it"


@dataclass(eq=False)
class NotApproved(Refusal):
    """A draft, or a version that was superseded, cannot be activated before a second person has
    approved it.
    """

    name: str
    superseded: bool = False
    """It was approved and in force; what counted then does not count for its return."""

    def __str__(self) -> str:
        if self.superseded:
            return (
                f"`{self.name}` was superseded: it comes back only once somebody other than who "
                "activates it has approved it since"
            )
        return f"`{self.name}` is a draft: a second person must approve it first"


@dataclass(eq=False)
class AlreadyInForce(Refusal):
    """A shadow is of a version that is not in force: beside itself it would say the same."""

    name: str

    def __str__(self) -> str:
        return f"`{self.name}` is in force: it decides, and has no shadow"


@dataclass(eq=False)
class RetroactiveActivation(Refusal):
    """An activation from an instant in the past, which does not say that it means that."""

    name: str
    at: str

    def __str__(self) -> str:
        return (
            f"{self.at} is past: to put `{self.name}` in force from then on, say `retroactive` and "
            "the reason"
        )


@dataclass(eq=False)
class WithdrawalByAnother(Refusal):
    """What may count against an action is taken back only by who recorded it: everybody else records
    what they found, and both are seen.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return (
            f"{self.kind} `{self.name}` may count against an action and was recorded with another "
            "key: only that one withdraws it; record what speaks otherwise instead"
        )


@dataclass(eq=False)
class AlreadyRecorded(Refusal):
    """Something else is recorded under that name, and recorded things do not change."""

    kind: str
    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind} `{self.name}` is already recorded: {self.message}"


@dataclass(eq=False)
class IdempotencyKeyReused(Refusal):
    """The same Idempotency-Key came before, with another request."""

    def __str__(self) -> str:
        return "this Idempotency-Key was used for another request; use a new one"


@dataclass(eq=False)
class DeterminationSuperseded(Refusal):
    """A recorded answer has lapsed, or what it rested on has moved since.

    `by_key`: it was asked for again by its idempotency key.
    """

    determination: str
    message: str
    by_key: bool = True

    def __str__(self) -> str:
        again = "ask again with a new key" if self.by_key else "ask again"
        return f"`{self.determination}` no longer answers: {self.message}; {again}"


@dataclass(eq=False)
class DeterminationLapsed(Refusal):
    """A determination that no longer holds is not attested."""

    determination: str
    valid_until: str

    def __str__(self) -> str:
        return f"`{self.determination}` held until {self.valid_until}; ask again"


@dataclass(eq=False)
class NotRecomputable(Refusal):
    """What is recorded of a determination is none of what this program records, or by an engine that
    it does not know: nothing that rests on it is given out.
    """

    determination: str
    why: str

    def __str__(self) -> str:
        return f"`{self.determination}` cannot be recomputed: {self.why}"


@dataclass(eq=False)
class NotAboutNow(Refusal):
    """An answer about the past is not attested: a verifier would take it for one about now."""

    determination: str
    message: str

    def __str__(self) -> str:
        return f"`{self.determination}` is not about now: {self.message}"


@dataclass(eq=False)
class NoDigest(Refusal):
    """A model version that was registered without a digest: there is nothing to attest it of."""

    model: str

    def __str__(self) -> str:
        return f"`{self.model}` was registered without a digest, so no artefact can be named"


@dataclass(eq=False)
class NoAttestationKey(Refusal):
    """The service was given no key to sign attestations with."""

    def __str__(self) -> str:
        return "this service has no attestation key; its operator sets ASLGATE_ATTESTATION_KEY_FILE"


@dataclass(eq=False)
class Unavailable(Refusal):
    """We cannot decide or record now. Nothing is acknowledged; ask again.

    `reason` is a stable word: `queue-full`, `database`, `outcome-unknown`, `contention`, `stopping`,
    `ledger`, `replica`, `clock`, `busy`, `checkpoint-pending`, `issuer`, `secret`, `inbox-full`.
    `outcome-unknown` means that the record may or may not be there: repeat it with the same
    Idempotency-Key to learn which.
    """

    reason: str
    message: str

    def __str__(self) -> str:
        return self.message
