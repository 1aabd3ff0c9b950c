"""Orders: instructions from outside the policy that stop, limit or burden an action."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.assessment.assessment import SourceDocument
from app.vocabulary import Document, Instant, Line, ModelRef, Sentence, Slug


class Order(Document):
    """What a government, a customer or the company itself orders about a model version.

    `stop` closes the gate, `limit` lets the action go ahead only as the statement says, `require`
    asks for standards of a policy that the policy itself may not ask for.
    """

    model: ModelRef
    issuer: Line
    issued_by: Literal["government", "customer", "company", "other"]
    effect: Literal["stop", "limit", "require"]
    actions: Annotated[tuple[Slug, ...], Field(min_length=1)] | None = None
    """Not given: every action."""
    policy: Slug | None = None
    standards: tuple[Slug, ...] = ()
    statement: Sentence
    begins_at: Instant | None = None
    """Defaults to the server's time, which is then recorded here."""
    sources: tuple[SourceDocument, ...] = ()

    @model_validator(mode="after")
    def _says_what_it_requires(self) -> "Order":
        requires = self.effect == "require"
        if requires is not bool(self.standards) or requires is not (self.policy is not None):
            raise ValueError(
                "`policy` and `standards` go with the effect `require`, and only there"
            )
        return self


class Lifting(Document):
    """That an order no longer stands, from when and why. Nothing else ends an order."""

    reason: Sentence
    lifted_at: Instant | None = None
    """Defaults to the server's time, which is then recorded here."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """The lifting of an order, by its id and the digest of its recorded bytes."""

    id: str
    digest: str
    item: Lifting


@dataclass(frozen=True, slots=True)
class OrderOnRecord:
    """An order, and its lifting if there is one."""

    order: Order
    lifted: Lifted | None = None

    @property
    def begins(self) -> datetime:
        """From when on it stands."""
        begins = self.order.begins_at
        assert begins is not None, "the server's time is filled in before it is recorded"
        return begins

    def is_about(self, action: str) -> bool:
        """Whether it says anything of that action."""
        return self.order.actions is None or action in self.order.actions

    def is_lifted(self, at: datetime) -> bool:
        """Whether it no longer stands at that instant."""
        lifted_at = None if self.lifted is None else self.lifted.item.lifted_at
        return lifted_at is not None and lifted_at <= at

    def stands(self, at: datetime) -> bool:
        """Whether it stands at that instant."""
        return self.begins <= at and not self.is_lifted(at)
