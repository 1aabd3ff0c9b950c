"""The rows by which records are found, as their documents say them.

A row repeats a few words of one document in columns, so that it can be found. This is the one
statement of which words those are that the rows are held against: whoever bends a column, to have a
record found as another's or not at all, is told by the document, which the tree covers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from app.ledger.entry import Kind
from app.ledger.verification import Finding, StoredEntry
from app.vocabulary import principal_of

Said = Mapping[str, Any]
"""A document, read."""

Row = Sequence[Any]
"""Of a row the entry's index, the columns in the order of `Filing.columns`, and what else is known."""

Filed = Mapping[str, MutableMapping[int, Row]]
"""By table, its rows by the indexes of their entries."""


@dataclass(frozen=True, slots=True)
class Filing:
    """How the entries of some kinds are filed: in which table, under which columns.

    `subject` is the column that holds the entry's subject. `says` gives what should stand in the
    columns by the entry, its document, and what is known beside them: of a determination its
    `as_known`; of what is about a piece of evidence that one's model; else nothing.
    """

    table: str
    kinds: tuple[Kind, ...]
    columns: tuple[str, ...]
    subject: str
    says: Callable[[StoredEntry, Said, Any], tuple[Any, ...]]


def misfiled(entries: Iterable[StoredEntry], filed: Filed) -> Iterator[Finding]:
    """The entries whose row in the table of their kind is missing, or says otherwise than their
    document; and the rows, of the same range of indexes, that no entry has: all that is left in
    *filed* at the end.
    """
    for one in entries:
        if (place := _PLACES.get(one.kind)) is None:
            continue  # There is no such kind, which is said of the entry.
        filing, subject = place
        row = filed[filing.table].pop(one.index, None)
        if row is None:
            yield Finding(one.index, f"its row in `{filing.table}` is missing")
            continue
        try:
            should = filing.says(one, orjson.loads(one.document), row[-1])
        except (ValueError, LookupError, TypeError, AttributeError):
            what = f"its document does not say what `{filing.table}` repeats"
            yield Finding(one.index, what)
            continue
        if row[1:-1] != should or row[subject] != one.subject:
            what = f"its row in `{filing.table}` says otherwise than its document"
            yield Finding(one.index, what)
    for table, rows in filed.items():
        for index in rows:
            what = f"`{table}` has a row for it, and it is of another kind, or not there"
            yield Finding(index, what)


# --- What each table repeats -------------------------------------------------------------------

_instant: Final = datetime.fromisoformat


def _policy_version(one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    return said["policy"], said["version"], one.subject, _instant(said["effective"])


def _policy_approval(_one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    given_at = _instant(said["given_at"])
    return said["id"], said["policy"], said["digest"], principal_of(said["by"]), given_at


def _policy_activation(_one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    since, given_at = _instant(said["in_force_from"]), _instant(said["given_at"])
    return said["id"], said["policy"], said["digest"], since, given_at


def _model_version(_one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    return said["model"], said["developer"], said.get("weights")


_SPEAKS_FOR: Final = {
    Kind.ASSESSMENT.value: "conducted_at",
    Kind.SAFEGUARD.value: "valid_from",
    Kind.SIGN_OFF.value: "given_at",
    Kind.EXCEPTION.value: "valid_from",
    Kind.ORDER.value: "begins_at",
}
"""By kind of evidence, the instant from when on what it says holds."""


def _evidence(one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    policy = None if one.kind == Kind.ASSESSMENT.value else said.get("policy")
    speaks_for = _instant(said[_SPEAKS_FOR[one.kind]])
    return said["id"], one.kind, said["model"], policy, speaks_for


def _withdrawal(_one: StoredEntry, said: Said, model: Any) -> tuple[Any, ...]:
    named = (said.get(one) for one in ("assessment", "safeguard", "sign_off", "exception"))
    return said["id"], next((id for id in named if id is not None), None), model


def _exception_approval(_one: StoredEntry, said: Said, model: Any) -> tuple[Any, ...]:
    by, given_at = principal_of(said["by"]), _instant(said["given_at"])
    return said["id"], said["exception"], model, said["role"], by, given_at


def _lifting(_one: StoredEntry, said: Said, model: Any) -> tuple[Any, ...]:
    return said["id"], said["order"], model, _instant(said["lifted_at"])


def _determination(one: StoredEntry, said: Said, as_known: Any) -> tuple[Any, ...]:
    provenance, until = said["provenance"], said.get("valid_until")
    policy = provenance["policy"]
    return (
        said["id"],
        said["model"],
        said["action"],
        policy["name"],
        policy.get("version"),
        policy.get("digest"),
        said["decision"],
        said.get("level"),
        _instant(provenance["at"]),
        None if until is None else _instant(until),
        # One that saw the ledger up to itself may have been asked for so.
        as_known or provenance["known_at"] != one.index,
    )


def _gate(_one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    until = said.get("valid_until")
    return (
        said["id"],
        said["model"],
        said["action"],
        said["decision"],
        _instant(said["at"]),
        None if until is None else _instant(until),
    )


def _fulfilment(_one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    about = said["obligation"], said["determination"], said["model"]
    return said["id"], *about, said["by"], _instant(said["done_at"])


def _credential(_one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    until = said["expires_at"]
    return (
        said["id"],
        said["principal"],
        bytes.fromhex(said["secret_sha256"]),
        _instant(said["created_at"]),
        None if until is None else _instant(until),
    )


def _revocation(_one: StoredEntry, said: Said, _: Any) -> tuple[Any, ...]:
    return said["id"], said["credential"], _instant(said["revoked_at"])


FILINGS: Final = (
    Filing(
        "policy_version",
        (Kind.POLICY_VERSION,),
        ("policy", "version", "digest", "effective"),
        "digest",
        _policy_version,
    ),
    Filing(
        "policy_approval",
        (Kind.POLICY_APPROVAL,),
        ("id", "policy", "digest", "by", "given_at"),
        "id",
        _policy_approval,
    ),
    Filing(
        "policy_activation",
        (Kind.POLICY_ACTIVATION,),
        ("id", "policy", "digest", "in_force_from", "given_at"),
        "id",
        _policy_activation,
    ),
    Filing(
        "model_version",
        (Kind.MODEL,),
        ("model", "developer", "weights"),
        "model",
        _model_version,
    ),
    Filing(
        "evidence",
        (Kind.ASSESSMENT, Kind.SAFEGUARD, Kind.SIGN_OFF, Kind.EXCEPTION, Kind.ORDER),
        ("id", "kind", "model", "policy", "speaks_for"),
        "id",
        _evidence,
    ),
    Filing(
        "withdrawal",
        (Kind.WITHDRAWAL,),
        ("id", "evidence_id", "model"),
        "id",
        _withdrawal,
    ),
    Filing(
        "exception_approval",
        (Kind.EXCEPTION_APPROVAL,),
        ("id", "exception_id", "model", "role", "by", "given_at"),
        "id",
        _exception_approval,
    ),
    Filing("lifting", (Kind.LIFTING,), ("id", "order_id", "model", "lifted_at"), "id", _lifting),
    Filing(
        "determination",
        (Kind.DETERMINATION,),
        (
            "id",
            "model",
            "action",
            "policy",
            "policy_version",
            "policy_digest",
            "decision",
            "level",
            "at",
            "valid_until",
            "as_known",
        ),
        "id",
        _determination,
    ),
    Filing(
        "gate",
        (Kind.GATE,),
        ("id", "model", "action", "decision", "at", "valid_until"),
        "id",
        _gate,
    ),
    Filing(
        "fulfilment",
        (Kind.FULFILMENT,),
        ("id", "obligation_id", "determination_id", "model", "by", "done_at"),
        "id",
        _fulfilment,
    ),
    Filing(
        "credential",
        (Kind.CREDENTIAL,),
        ("id", "principal", "secret_sha256", "created_at", "expires_at"),
        "id",
        _credential,
    ),
    Filing(
        "credential_revocation",
        (Kind.REVOCATION,),
        ("id", "credential", "revoked_at"),
        "id",
        _revocation,
    ),
)

_PLACES: Final = {
    kind.value: (filing, 1 + filing.columns.index(filing.subject))
    for filing in FILINGS
    for kind in filing.kinds
}
