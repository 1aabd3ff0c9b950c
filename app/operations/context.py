"""What every operation is given: who asks, when, and where records are kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from uuid_utils import uuid7

from app.storage.ledger import IdempotencyKey
from app.storage.store import Store

ATTEMPTS: Final = 3
"""How often something is decided anew because what it rested on moved, before it is refused."""


@dataclass(frozen=True, slots=True)
class Context:
    """One request: the store, the caller's key id, the server's time, and the idempotency key."""

    store: Store
    actor: str
    now: datetime
    key: IdempotencyKey | None = None


def new_id(prefix: str) -> str:
    """A UUIDv7 with a prefix, e.g. `det_…`: unique, and sorted by time of making."""
    return f"{prefix}_{uuid7().hex}"
