"""The rows by which records are found say what their documents say, column by column."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.canonical import canonical_json
from app.ledger.entry import Kind
from app.ledger.filing import FILINGS, Filing, misfiled
from app.ledger.verification import StoredEntry

INDEX = 7
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = "2026-01-01T12:00:00Z"
POLICY = {"name": "p", "version": "2.2", "digest": "sha256:d"}
SAID: dict[Kind, dict[str, Any]] = {
    Kind.POLICY_VERSION: {"policy": "p", "version": "2.2", "effective": AT},
    Kind.POLICY_APPROVAL: {"policy": "p", "digest": "sha256:d", "by": "b/key_1", "given_at": AT},
    Kind.POLICY_ACTIVATION: {
        "policy": "p",
        "digest": "sha256:d",
        "in_force_from": AT,
        "given_at": AT,
    },
    Kind.MODEL: {"model": "m@1", "developer": "lab", "weights": "w"},
    Kind.ASSESSMENT: {"model": "m@1", "conducted_at": AT},
    Kind.SAFEGUARD: {"model": "m@1", "policy": "p", "valid_from": AT},
    Kind.SIGN_OFF: {"model": "m@1", "policy": "p", "given_at": AT},
    Kind.EXCEPTION: {"model": "m@1", "policy": "p", "valid_from": AT},
    Kind.ORDER: {"model": "m@1", "policy": None, "begins_at": AT},
    Kind.WITHDRAWAL: {"safeguard": "sfg_1"},
    Kind.EXCEPTION_APPROVAL: {"exception": "exc_1", "role": "ceo", "by": "b", "given_at": AT},
    Kind.LIFTING: {"order": "ord_1", "lifted_at": AT},
    Kind.DETERMINATION: {
        "model": "m@1",
        "action": "deploy",
        "decision": "deny",
        "level": None,
        "valid_until": None,
        "provenance": {"policy": POLICY, "at": AT, "known_at": INDEX},
    },
    Kind.GATE: {"model": "m@1", "action": "deploy", "decision": "deny", "at": AT},
    Kind.FULFILMENT: {
        "obligation": "obl_1",
        "determination": "det_1",
        "model": "m@1",
        "by": "b",
        "done_at": AT,
    },
    Kind.CREDENTIAL: {
        "principal": "person:ada",
        "secret_sha256": "ab" * 32,
        "created_at": AT,
        "expires_at": None,
    },
    Kind.REVOCATION: {"credential": "key_1", "revoked_at": AT},
}
ROWS: dict[str, dict[str, Any]] = {
    "policy_version": {"policy": "p", "version": "2.2", "digest": "x_1", "effective": NOON},
    "policy_approval": {"policy": "p", "digest": "sha256:d", "by": "b", "given_at": NOON},
    "policy_activation": {
        "policy": "p",
        "digest": "sha256:d",
        "in_force_from": NOON,
        "given_at": NOON,
    },
    "model_version": {"model": "m@1", "developer": "lab", "weights": "w"},
    "evidence": {"model": "m@1", "policy": "p", "speaks_for": NOON},
    "withdrawal": {"evidence_id": "sfg_1", "model": "m@1"},
    "exception_approval": {
        "exception_id": "exc_1",
        "model": "m@1",
        "role": "ceo",
        "by": "b",
        "given_at": NOON,
    },
    "lifting": {"order_id": "ord_1", "model": "m@1", "lifted_at": NOON},
    "determination": {
        "model": "m@1",
        "action": "deploy",
        "policy": "p",
        "policy_version": "2.2",
        "policy_digest": "sha256:d",
        "decision": "deny",
        "level": None,
        "at": NOON,
        "valid_until": None,
        "as_known": False,
    },
    "gate": {
        "model": "m@1",
        "action": "deploy",
        "decision": "deny",
        "at": NOON,
        "valid_until": None,
    },
    "fulfilment": {
        "obligation_id": "obl_1",
        "determination_id": "det_1",
        "model": "m@1",
        "by": "b",
        "done_at": NOON,
    },
    "credential": {
        "principal": "person:ada",
        "secret_sha256": b"\xab" * 32,
        "created_at": NOON,
        "expires_at": None,
    },
    "credential_revocation": {"credential": "key_1", "revoked_at": NOON},
}
OF_KINDS = [pytest.param(one, kind, id=kind.value) for one in FILINGS for kind in one.kinds]
OF_COLUMNS = [
    pytest.param(one, kind, column, id=f"{kind.value}-{column}")
    for one in FILINGS
    for kind in one.kinds
    for column in one.columns
]


def entry(kind: Kind, said: Mapping[str, Any] | None = None) -> StoredEntry:
    subject = "m@1" if kind is Kind.MODEL else "x_1"
    document = canonical_json({"id": "x_1", **(SAID[kind] if said is None else said)})
    return StoredEntry(INDEX, kind.value, subject, "key_1", NOON, b"", b"", document, b"")


def row(filing: Filing, kind: Kind, /, **other: Any) -> tuple[Any, ...]:
    """The row of that entry, and what is known beside it."""
    columns = {"id": "x_1", "kind": kind.value, **ROWS[filing.table]}
    if kind in (Kind.ASSESSMENT, Kind.ORDER):
        columns["policy"] = None
    columns |= other
    known = columns["as_known"] if filing.table == "determination" else "m@1"
    return INDEX, *(columns[name] for name in filing.columns), known


def found(one: StoredEntry, filing: Filing, *rows: tuple[Any, ...]) -> list[str]:
    filed = {each.table: dict[int, Any]() for each in FILINGS}
    filed[filing.table] = {each[0]: each for each in rows}
    findings = list(misfiled([one], filed))
    assert {finding.index for finding in findings} <= {INDEX}
    return [finding.what for finding in findings]


@pytest.mark.parametrize(("filing", "kind"), OF_KINDS)
def test_a_row_that_says_what_its_document_says_is_sound(filing: Filing, kind: Kind) -> None:
    assert found(entry(kind), filing, row(filing, kind)) == []


@pytest.mark.parametrize(("filing", "kind", "column"), OF_COLUMNS)
def test_a_bent_column_is_found(filing: Filing, kind: Kind, column: str) -> None:
    """But for a determination that saw all before it, which may have been asked for so."""
    honest = dict(zip(filing.columns, row(filing, kind)[1:-1], strict=True))[column]
    others = [NOON + timedelta(microseconds=1)] if isinstance(honest, datetime) else ["other", None]
    if column == "as_known":
        others = []
        assert found(entry(kind), filing, row(filing, kind, as_known=True)) == []
        past = SAID[kind] | {"provenance": SAID[kind]["provenance"] | {"known_at": INDEX - 1}}
        bent = row(filing, kind, as_known=False)
        assert "says otherwise" in "".join(found(entry(kind, past), filing, bent))
    for other in others:
        if other != honest:
            (what,) = found(entry(kind), filing, row(filing, kind, **{column: other}))
            assert what == f"its row in `{filing.table}` says otherwise than its document"


@pytest.mark.parametrize(("filing", "kind"), OF_KINDS)
def test_a_row_that_is_missing_or_of_nothing_is_found(filing: Filing, kind: Kind) -> None:
    assert found(entry(kind), filing) == [f"its row in `{filing.table}` is missing"]
    stranger = Kind.GATE if kind is not Kind.GATE else Kind.MODEL
    whats = found(entry(stranger), filing, row(filing, kind))
    assert any(f"`{filing.table}` has a row for it" in what for what in whats)


@pytest.mark.parametrize("document", [b"", b"{", b"\xff", b"[]", b"1", b"null", b'"x"', b"{}"])
@pytest.mark.parametrize(("filing", "kind"), OF_KINDS)
def test_what_is_no_such_document_is_said(filing: Filing, kind: Kind, document: bytes) -> None:
    one = entry(kind)
    one.document = document
    (what,) = found(one, filing, row(filing, kind))
    assert f"`{filing.table}`" in what


def test_the_words_of_a_document_are_not_believed_to_be_its_subject() -> None:
    """The row fits the document, and the entry is called otherwise."""
    (filing,) = (one for one in FILINGS if one.table == "gate")
    one = entry(Kind.GATE)
    one.subject = "x_2"
    assert found(one, filing, row(filing, Kind.GATE)) == [
        "its row in `gate` says otherwise than its document"
    ]
