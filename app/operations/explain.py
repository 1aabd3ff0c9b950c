"""Explain: a recorded determination as a page that a person can follow."""

import orjson

from app.canonical import digest
from app.determination.explain import Form, explain, pieces_explained
from app.determination.record import SEMANTICS
from app.operations.context import Context
from app.operations.settle import seen_by, settle_seen


async def explain_determination(
    context: Context, id: str, form: Form, *, with_settling: bool
) -> str:
    """The page about the determination with that id. Raises `NotFound`, and `Unavailable` where too
    many ask at once.

    `with_settling`: it also says what would have changed the answer, unless an engine of another
    meaning gave it.
    """
    seen = await seen_by(context, id)
    document = orjson.loads(seen.record.document)
    named = document["provenance"]["policy"]["digest"]
    version = next(
        (one.version for one in seen.snapshot.policies.versions if one.digest == named), None
    )
    recorded = await context.store.records_of(pieces_explained(document))
    pieces = {subject: orjson.loads(one.document) for subject, one in recorded.items()}
    same_meaning = document["provenance"]["engine"]["semantics"] == SEMANTICS
    settling = await settle_seen(context, seen) if with_settling and same_meaning else None
    position = seen.record.position
    document["ledger"] = {"index": position.index, "leaf_hash": position.leaf_hash}
    document["digest"] = digest(seen.record.document)
    return explain(document, version, pieces, settling, form)
