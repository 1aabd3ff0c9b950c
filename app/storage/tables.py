"""The tables, as the migrations make them; a test holds the two equal.

What is recorded stands in `ledger_entry`, as the exact bytes that were hashed. The tables below it
repeat a few words of each document in columns, so that it can be found: one row an entry, under
the entry's index. Nothing in any of them is ever updated or deleted, and triggers see to it. The
three that are not records are `ledger_head` and `stream`, which only grow, and `idempotency`. What
`WORKING` names holds work that goes on, and changes.

A check's name is the sentence that a reader of the database's log sees.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(constraint_name)s",
    }
)

_INSTANT: Final = DateTime(timezone=True)


def _index_of_entry() -> Column[int]:
    return Column(
        "index", BigInteger, ForeignKey("ledger_entry.index"), primary_key=True, autoincrement=False
    )


ledger_head: Final = Table(
    "ledger_head",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("log", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("last_at", _INSTANT, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
    CheckConstraint("one", name="there_is_one_head"),
    CheckConstraint("log <> ''", name="the_log_has_a_name"),
    CheckConstraint("size >= 0", name="a_ledger_is_empty_or_larger"),
    CheckConstraint(
        "octet_length(frontier) = 32 * bit_count(size::bit(64))",
        name="the_frontier_has_a_hash_for_each_bit_of_the_size",
    ),
    CheckConstraint("octet_length(root) = 32", name="the_root_is_a_sha256"),
)
"""The one row that every writer locks: the size of the ledger is the index of its next entry.

`log` is the ledger's name, in each entry; set once. `last_at`: when the last entry was recorded.
`frontier` and `root` are those of the Merkle tree over all entries.
"""

ledger_entry: Final = Table(
    "ledger_entry",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", _INSTANT, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("document_sha256", LargeBinary, nullable=False),
    UniqueConstraint("subject"),
    CheckConstraint("index >= 0", name="the_first_entry_has_index_0"),
    CheckConstraint("octet_length(entry) BETWEEN 1 AND 65535", name="an_entry_fits_a_bundle"),
    CheckConstraint(
        r"leaf_hash = sha256('\x00'::bytea || entry)", name="the_leaf_hash_is_that_of_the_entry"
    ),
    CheckConstraint(
        "document_sha256 = sha256(document)", name="the_digest_is_that_of_the_document"
    ),
)

ledger_tile: Final = Table(
    "ledger_tile",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
    CheckConstraint("level BETWEEN 0 AND 63 AND number >= 0", name="a_tile_has_a_place"),
    CheckConstraint("octet_length(hashes) = 8192", name="a_stored_tile_is_full"),
    CheckConstraint("octet_length(root) = 32", name="a_tiles_root_is_a_sha256"),
)
"""The full tiles of the Merkle tree. `root` is the node over all of a tile, which is one hash of a
tile of the level above: where that one is not full yet, it is read from here.
"""

ledger_key: Final = Table(
    "ledger_key",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("vkey", Text, nullable=False),
    Column("signs", Boolean, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    UniqueConstraint("vkey", "signs"),
    CheckConstraint("size >= 0", name="a_key_signs_from_a_size_on"),
    CheckConstraint("number >= 0", name="the_first_statement_has_number_0"),
)
"""Which key signs checkpoints from which size on, or no more, in the order in which that was said:
a key begins once, and ends once. `note` is the statement, signed by a key that signed until then.
"""

ledger_checkpoint: Final = Table(
    "ledger_checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    CheckConstraint("size >= 0", name="a_checkpoint_is_of_a_size"),
)
"""What the log has signed. Of one size there is one, whoever signs."""

ledger_cosignature: Final = Table(
    "ledger_cosignature",
    metadata,
    Column(
        "size",
        BigInteger,
        ForeignKey("ledger_checkpoint.size"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("vkey", Text, primary_key=True),
    Column("line", Text, nullable=False),
)
"""The line that a witness has put under the checkpoint of that size."""

stream: Final = Table(
    "stream",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("version > 0", name="a_stream_begins_with_its_first_entry"),
)
"""When what a decision may rest on last moved: one more than the index of the last entry that
touched it. A stream without a row was never touched, and has version 0.
"""

policy_version: Final = Table(
    "policy_version",
    metadata,
    _index_of_entry(),
    Column("policy", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("effective", _INSTANT, nullable=False),
    UniqueConstraint("digest"),
    UniqueConstraint("policy", "version"),
    CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name="a_digest_names_its_algorithm"),
)

policy_approval: Final = Table(
    "policy_approval",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("digest", Text, ForeignKey("policy_version.digest"), nullable=False),
    Column("by", Text, nullable=False),
    Column("given_at", _INSTANT, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("digest", "by"),
    Index(None, "policy", "index"),
)

policy_activation: Final = Table(
    "policy_activation",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("digest", Text, ForeignKey("policy_version.digest"), nullable=False),
    Column("in_force_from", _INSTANT, nullable=False),
    Column("given_at", _INSTANT, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("policy", "in_force_from"),
)
"""`in_force_from` is the instant that it speaks for, `given_at` when it was said."""

model_version: Final = Table(
    "model_version",
    metadata,
    _index_of_entry(),
    Column("model", Text, nullable=False),
    Column("developer", Text, nullable=False),
    Column("weights", Text),
    UniqueConstraint("model"),
    Index(None, "weights"),
)

evidence: Final = Table(
    "evidence",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("policy", Text),
    Column("speaks_for", _INSTANT, nullable=False),
    UniqueConstraint("id"),
    Index(None, "model", "index"),
)

withdrawal: Final = Table(
    "withdrawal",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("evidence_id", Text, ForeignKey("evidence.id"), nullable=False),
    Column("model", Text, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("evidence_id"),
)

exception_approval: Final = Table(
    "exception_approval",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("exception_id", Text, ForeignKey("evidence.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("given_at", _INSTANT, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("exception_id", "by"),
    Index(None, "model", "index"),
)

lifting: Final = Table(
    "lifting",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("order_id", Text, ForeignKey("evidence.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("lifted_at", _INSTANT, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("order_id"),
    Index(None, "model", "index"),
)
"""`lifted_at` is the instant from which the order no longer stands."""

determination: Final = Table(
    "determination",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("policy_version", Text),
    Column("policy_digest", Text),
    Column("decision", Text, nullable=False),
    Column("level", Text),
    Column("at", _INSTANT, nullable=False),
    Column("valid_until", _INSTANT),
    Column("as_known", Boolean, nullable=False),
    UniqueConstraint("id"),
    CheckConstraint(
        "decision IN ('allow', 'allow_with_conditions', 'deny')", name="a_decision_is_one_of_three"
    ),
    CheckConstraint(
        "(policy_version IS NULL) = (policy_digest IS NULL)",
        name="a_policy_version_and_its_digest_stand_together",
    ),
    # The latest one of a question, under any policy and under one; read backwards.
    Index(
        "determination_latest_idx",
        "model",
        "action",
        "at",
        "index",
        postgresql_where=text("NOT as_known"),
    ),
    Index(
        "determination_latest_of_policy_idx",
        "model",
        "action",
        "policy",
        "at",
        "index",
        postgresql_where=text("NOT as_known"),
    ),
    # Lists, newest first.
    Index(None, "model", "index"),
    Index(None, "action", "index"),
    Index(None, "decision", "index"),
    Index(None, "policy", "index"),
)
"""`as_known`: it was asked for with what was known in the past, and so is nobody's latest."""

gate: Final = Table(
    "gate",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("at", _INSTANT, nullable=False),
    Column("valid_until", _INSTANT),
    UniqueConstraint("id"),
    CheckConstraint(
        "decision IN ('allow', 'allow_with_conditions', 'deny')", name="a_gate_says_one_of_three"
    ),
)

fulfilment: Final = Table(
    "fulfilment",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("obligation_id", Text, nullable=False),
    Column("determination_id", Text, ForeignKey("determination.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("done_at", _INSTANT, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("obligation_id", "determination_id"),
    Index(None, "model", "index"),
)
"""`determination_id` is the one that raised the obligation, which may be raised again by others."""

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("credential", Text, primary_key=True),
    Column("key_sha256", LargeBinary, primary_key=True),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("index", BigInteger, ForeignKey("ledger_entry.index"), nullable=False),
    Column("count", Integer, nullable=False),
    CheckConstraint(
        "octet_length(key_sha256) = 32 AND octet_length(request_sha256) = 32",
        name="keys_are_kept_as_sha256",
    ),
    CheckConstraint("count BETWEEN 1 AND 1000", name="a_request_records_1_to_1000_entries"),
)
"""Which entries a request recorded: `count` of them, from `index` on."""

credential: Final = Table(
    "credential",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("created_at", _INSTANT, nullable=False),
    Column("expires_at", _INSTANT),
    UniqueConstraint("id"),
    UniqueConstraint("secret_sha256"),
    CheckConstraint("octet_length(secret_sha256) = 32", name="secrets_are_kept_as_sha256"),
)
"""API keys. What else is said of one, its roles before all, stands in its document only."""

credential_revocation: Final = Table(
    "credential_revocation",
    metadata,
    _index_of_entry(),
    Column("id", Text, nullable=False),
    Column("credential", Text, ForeignKey("credential.id"), nullable=False),
    Column("revoked_at", _INSTANT, nullable=False),
    UniqueConstraint("id"),
    UniqueConstraint("credential"),
)

credential_use: Final = Table(
    "credential_use",
    metadata,
    Column("credential", Text, ForeignKey("credential.id"), primary_key=True),
    Column("used_at", _INSTANT, nullable=False),
)
"""When a key was last seen to be used, to about a minute: for whoever looks for unused ones."""

policy_shadow: Final = Table(
    "policy_shadow",
    metadata,
    Column("id", Text, primary_key=True),
    Column("policy", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, ForeignKey("policy_version.digest"), nullable=False),
    Column("started_at", _INSTANT, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("reason", Text),
    Column("first", BigInteger, nullable=False),
    Column("next", BigInteger, nullable=False),
    Column("past", BigInteger, nullable=False),
    Column("summary", Text, nullable=False),
    Column("stopped_at", _INSTANT),
    Column("stopped_by", Text),
    Column("stopped_because", Text),
    CheckConstraint("first >= 0 AND next >= first", name="a_shadow_only_goes_forward"),
    CheckConstraint(
        "stopped_by IS NULL OR stopped_at IS NOT NULL", name="who_stopped_it_says_when"
    ),
    Index(
        "policy_shadow_running_idx",
        "digest",
        unique=True,
        postgresql_where=text("stopped_at IS NULL"),
    ),
    Index(None, "digest", "id"),
)
"""A version that is decided beside the one in force: from which ledger index on, up to which it was
looked at, how many questions there were about the past, and the summary of those that were live.
"""

shadow_difference: Final = Table(
    "shadow_difference",
    metadata,
    Column("shadow", Text, ForeignKey("policy_shadow.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "index",
        BigInteger,
        ForeignKey("ledger_entry.index"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("difference", Text, nullable=False),
)
"""What a shadow would have said otherwise than the determination, or the gate, at that index."""

obligation: Final = Table(
    "obligation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("pointer", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("statement", Text, nullable=False),
    Column("clause", Text, nullable=False),
    Column("by", Text),
    Column("before_action", Boolean, nullable=False),
    Column("due", _INSTANT),
    Column("of_evidence", Boolean, nullable=False),
    Column("determination_id", Text, ForeignKey("determination.id"), nullable=False),
    Column("index", BigInteger, nullable=False),
    Index(None, "due", "id"),
    Index(None, "model", "due", "id"),
)
"""What must be done, as the determination at `index` raised it, whose due stands."""

obligation_position: Final = Table(
    "obligation_position",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("next", BigInteger, nullable=False),
    CheckConstraint("one", name="there_is_one_position"),
    CheckConstraint("next >= 0", name="the_first_position_is_0"),
)
"""The one row that says up to which ledger index determinations were read for obligations."""

inbox: Final = Table(
    "inbox",
    metadata,
    Column("binding", Text, primary_key=True),
    Column("delivery_id", Text, primary_key=True),
    Column("event", Text, nullable=False),
    Column("received_at", _INSTANT, nullable=False),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("body", LargeBinary),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("not_before", _INSTANT, nullable=False, server_default=text("now()")),
    Column("finished_at", _INSTANT),
    Column("outcome", Text),
    CheckConstraint(
        "state IN ('waiting', 'done', 'failed')", name="a_delivery_waits_or_is_done_or_failed"
    ),
    CheckConstraint(
        "(state = 'waiting') = (finished_at IS NULL)", name="what_is_finished_says_when"
    ),
    CheckConstraint("body IS NOT NULL OR state <> 'waiting'", name="what_waits_has_its_body"),
    CheckConstraint("octet_length(body_sha256) = 32", name="the_digest_is_a_sha256"),
    Index("inbox_waiting_idx", "binding", "not_before", postgresql_where=text("state = 'waiting'")),
    Index(
        "inbox_bodies_idx",
        "finished_at",
        postgresql_where=text("body IS NOT NULL AND finished_at IS NOT NULL"),
    ),
    Index(None, "binding", "received_at", "delivery_id"),
)
"""What came from others and is worked on later. It carries no authority, and is no record."""

WORKING: Final = (
    policy_shadow,
    shadow_difference,
    obligation,
    obligation_position,
    credential_use,
    inbox,
)
"""The tables that hold no records, but work that goes on: their rows may change, and be deleted."""

FILED: Final = (
    policy_version,
    policy_approval,
    policy_activation,
    model_version,
    evidence,
    withdrawal,
    exception_approval,
    lifting,
    determination,
    gate,
    fulfilment,
    credential,
    credential_revocation,
)
"""The tables by which records are found: each refers to none but those before it."""

RECORDED: Final = (
    ledger_entry,
    ledger_tile,
    ledger_key,
    ledger_checkpoint,
    ledger_cosignature,
    *FILED,
    idempotency,
)
"""The tables in which triggers refuse every UPDATE, DELETE and TRUNCATE."""
