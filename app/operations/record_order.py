"""Record an order from outside the policy, and lift one. Nothing else ends it."""

from app.assessment.orders import Lifting, Order
from app.canonical import canonical_json
from app.errors import AlreadyRecorded, InvalidDocument, Refusal
from app.ledger.entry import Kind
from app.operations.context import Context, new_id
from app.operations.names import unknown_in_order
from app.operations.record_evidence import in_the_future, record_on, record_piece
from app.storage.ledger import Appended, Draft, EvidenceRow, LiftingRow
from app.storage.store import KnownEvidence


async def record_order(context: Context, order: Order) -> Appended:
    """Record *order*, which stands from now on where it does not say from when.

    Raises `InvalidDocument` naming everything in it that is unknown.
    """
    begins = order.begins_at or context.now
    standing = order.model_copy(update={"begins_at": begins})
    known = await context.store.known()
    return await record_piece(
        context,
        Kind.ORDER,
        "ord",
        standing,
        order.model,
        unknown_in_order(
            order, lambda policy: known.named_at(policy, begins, context.now), known.actions()
        ),
        lambda id: EvidenceRow(id, Kind.ORDER.value, order.model, order.policy, begins),
    )


async def lift_order(context: Context, id: str, lifting: Lifting) -> Appended:
    """Record that the order no longer stands, since now where it does not say since when.

    Raises `NotFound`, `AlreadyRecorded` where it was lifted before, and `InvalidDocument` where it
    is to be lifted in the future: what is to come is recorded when it has come.
    """
    lifted_at = lifting.lifted_at or context.now
    said = lifting.model_copy(update={"lifted_at": lifted_at})
    faults = in_the_future(context, "lifted_at", lifted_at)

    async def refusal(known: KnownEvidence) -> Refusal | None:
        if known.lifted:
            return AlreadyRecorded("lifting of", id, "it was lifted before")
        return InvalidDocument(tuple(faults)) if faults else None

    def draft(known: KnownEvidence) -> Draft:
        own = new_id("lft")
        document = canonical_json({"id": own, "order": id, **said.model_dump(mode="json")})
        row = LiftingRow(own, id, known.model, lifted_at)
        return Draft(Kind.LIFTING, own, row, lambda _: document)

    return await record_on(context, Kind.ORDER, id, refusal, draft)
