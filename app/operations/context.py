"""What every operation is given: who asks, when, and where records are kept."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from uuid_utils import uuid7

from app.errors import RoleNotHeld, Unavailable
from app.ledger.entry import Kind
from app.operations.turns import Turns
from app.storage.database import CLOCK_SKEW
from app.storage.keys import EVERY_ROLE
from app.storage.ledger import Appended, Draft, IdempotencyKey, ModelRow, Moment, Stale
from app.storage.store import Store
from app.vocabulary import principal_of

ATTEMPTS: Final = 3
"""How often something is decided anew because what it rested on moved, before it is refused."""


NO_VERSION: Final = -1
"""A version that no stream has: what rests on it can only be answered by a replay of its key."""


@dataclass(frozen=True, slots=True)
class Context:
    """One request: the store, the caller, the server's time, and the idempotency key.

    `actor`: who asks and by which credential, as records name it.
    """

    store: Store
    actor: str
    now: datetime
    key: IdempotencyKey | None = None
    clock: Callable[[], datetime] | None = None
    """Tells the time anew, for what has to be decided anew."""
    turns: Turns = field(default_factory=Turns)
    """What long computations wait for."""
    policy_roles: frozenset[str] = frozenset()
    """As which roles of policies the caller may sign and find; `*`: as any."""

    @property
    def principal(self) -> str:
        """Who asks, whatever the credential: two keys of one person are one person."""
        return principal_of(self.actor)

    def refuse_unheld(self, roles: Iterable[str]) -> None:
        """Raise `RoleNotHeld` where the caller may not speak as all of *roles* of a policy."""
        if EVERY_ROLE in self.policy_roles:
            return
        unheld = tuple(dict.fromkeys(role for role in roles if role not in self.policy_roles))
        if unheld:
            raise RoleNotHeld(unheld)

    def is_by_caller(self, actor: str) -> bool:
        """Whether the caller is who *actor* was."""
        return principal_of(actor) == self.principal

    def renewed(self, not_before: datetime | None = None) -> "Context":
        """The request as of now: what was recorded while it waited has begun by then. `not_before`:
        what the ledger's clock said, which may be ahead of ours.
        """
        now = self.now if self.clock is None else self.clock()
        return replace(self, now=now if not_before is None else max(now, not_before))


@dataclass(eq=False)
class Lapsed(Exception):
    """An answer held no longer when its turn to be recorded came, at *at*: it is decided again."""

    at: datetime


def refuse_lapsed(at: datetime, valid_until: datetime | None, moment: Moment) -> None:
    """Raise `Lapsed` where an answer about now, decided at *at*, that holds until *valid_until* is
    recorded too late; `Unavailable` where it is of a time that the ledger has not come to, for our
    clock was wrong when it was decided.

    For `Draft.build`, so that nobody is given an allow that ceased to hold while it waited.
    """
    if at - moment.at > CLOCK_SKEW:
        raise Unavailable("clock", "this server's clock was ahead of the database's; ask again")
    if valid_until is not None and valid_until <= moment.at:
        raise Lapsed(moment.at)


async def recorded_anew(
    context: Context, attempt: Callable[[Context], Awaitable[Appended]]
) -> Appended:
    """What *attempt* records; where what it rests on moved meanwhile, or its answer lapsed before it
    was recorded, it is made anew, as of then. Raises `Unavailable` where that goes on.
    """
    moving: frozenset[str] = frozenset()
    for _ in range(1 + ATTEMPTS):
        # Once it had to be decided anew, new evidence waits until it is.
        async with context.store.gates.held(moving):
            try:
                return await attempt(context)
            except Stale as stale:
                moving |= stale.moved
                context.store.forget(stale.moved)
                context = context.renewed()
            except Lapsed as lapsed:
                context = context.renewed(lapsed.at)
    raise Unavailable("contention", "the evidence is moving; ask again")


def new_id(prefix: str) -> str:
    """A UUIDv7 with a prefix, e.g. `det_…`: unique, and sorted by time of making."""
    return f"{prefix}_{uuid7().hex}"


async def refuse_reused_key(context: Context) -> None:
    """For an operation that finds its result recorded already: raise `IdempotencyKeyReused` where
    the request's key came before with another request.
    """
    if context.key is None:
        return

    def never(_: Moment) -> bytes:
        raise AssertionError("it rests on what no stream has, so it is never built")

    draft = Draft(Kind.MODEL, "", ModelRow("", ""), never)
    with suppress(Stale):
        await context.store.ledger.append(
            [draft], actor=context.actor, rests_on={"": NO_VERSION}, touches=(), key=context.key
        )
