"""Checkpoints are signed, and which key signs them is on record

A checkpoint says that the ledger has a size and a root; a signer makes it after the commit, and keeps
its last one outside this database too. What was signed once is never changed, nor is which key
signed from which size on: the rows are added to, and triggers refuse the rest. Each statement on a
key is a note that a key which signed until then has signed, so that a reader who was told of the
first key can follow to the last.

A witness's cosignature comes later than the checkpoint that it is for, or never, so it has a row of
its own.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE ledger_key (
        number integer,
        vkey text NOT NULL,
        signs boolean NOT NULL,
        size bigint NOT NULL,
        note text NOT NULL,
        CONSTRAINT ledger_key_pkey PRIMARY KEY (number),
        CONSTRAINT ledger_key_vkey_signs_key UNIQUE (vkey, signs),
        CONSTRAINT a_key_signs_from_a_size_on CHECK (size >= 0),
        CONSTRAINT the_first_statement_has_number_0 CHECK (number >= 0)
    )
    """,
    """
    CREATE TABLE ledger_checkpoint (
        size bigint,
        note text NOT NULL,
        CONSTRAINT ledger_checkpoint_pkey PRIMARY KEY (size),
        CONSTRAINT a_checkpoint_is_of_a_size CHECK (size >= 0)
    )
    """,
    """
    CREATE TABLE ledger_cosignature (
        size bigint,
        vkey text,
        line text NOT NULL,
        CONSTRAINT ledger_cosignature_pkey PRIMARY KEY (size, vkey),
        CONSTRAINT ledger_cosignature_size_fkey
            FOREIGN KEY (size) REFERENCES ledger_checkpoint (size)
    )
    """,
)

RECORDED = ("ledger_key", "ledger_checkpoint", "ledger_cosignature")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in TABLES:
        op.execute(statement)
    for table in RECORDED:
        op.execute(
            f"CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER never_changed")


def downgrade() -> None:
    raise NotImplementedError("a ledger that allowed changes for a while would prove nothing")
