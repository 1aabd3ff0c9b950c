"""Exceptions and orders have an end, gates are answered, and weights are found by name

Requests for an exception and orders are evidence, and stand where evidence stands. What is recorded
on them later does not: an approval of an exception, the lifting of an order. Each has a table, with
the rule that no second look may get around: one caller approves an exception once, in whatever
role, and an order is lifted once.

A gate is the strictest of several determinations, recorded in one commit with them.

Model versions that serve the same weights share their assessments, so they must be found by them.
Those registered before this say their weights in the recorded document only. The new column is
filled from there: it repeats a word that was always on record, so the trigger that refuses changes
is put aside for this one statement. The table is locked meanwhile; it has a row a model version.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE exception_approval (
        index bigint,
        id text NOT NULL,
        exception_id text NOT NULL,
        model text NOT NULL,
        role text NOT NULL,
        by text NOT NULL,
        given_at timestamptz NOT NULL,
        CONSTRAINT exception_approval_pkey PRIMARY KEY (index),
        CONSTRAINT exception_approval_index_fkey
            FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT exception_approval_exception_id_fkey
            FOREIGN KEY (exception_id) REFERENCES evidence (id),
        CONSTRAINT exception_approval_id_key UNIQUE (id),
        CONSTRAINT exception_approval_exception_id_by_key UNIQUE (exception_id, by)
    )
    """,
    "CREATE INDEX exception_approval_model_index_idx ON exception_approval (model, index)",
    """
    CREATE TABLE lifting (
        index bigint,
        id text NOT NULL,
        order_id text NOT NULL,
        model text NOT NULL,
        lifted_at timestamptz NOT NULL,
        CONSTRAINT lifting_pkey PRIMARY KEY (index),
        CONSTRAINT lifting_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT lifting_order_id_fkey FOREIGN KEY (order_id) REFERENCES evidence (id),
        CONSTRAINT lifting_id_key UNIQUE (id),
        CONSTRAINT lifting_order_id_key UNIQUE (order_id)
    )
    """,
    "CREATE INDEX lifting_model_index_idx ON lifting (model, index)",
    """
    CREATE TABLE gate (
        index bigint,
        id text NOT NULL,
        model text NOT NULL,
        action text NOT NULL,
        decision text NOT NULL,
        at timestamptz NOT NULL,
        valid_until timestamptz,
        CONSTRAINT gate_pkey PRIMARY KEY (index),
        CONSTRAINT gate_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT gate_id_key UNIQUE (id),
        CONSTRAINT a_gate_says_one_of_three
            CHECK (decision IN ('allow', 'allow_with_conditions', 'deny'))
    )
    """,
)

WEIGHTS = (
    "ALTER TABLE model_version ADD COLUMN weights text",
    "ALTER TABLE model_version DISABLE TRIGGER never_changed",
    """
    UPDATE model_version SET weights = convert_from(e.document, 'UTF8')::jsonb ->> 'weights'
    FROM ledger_entry e WHERE e.index = model_version.index
    """,
    "ALTER TABLE model_version ENABLE ALWAYS TRIGGER never_changed",
    "CREATE INDEX model_version_weights_idx ON model_version (weights)",
)

RECORDED = ("exception_approval", "lifting", "gate")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in (*TABLES, *WEIGHTS):
        op.execute(statement)
    for table in RECORDED:
        op.execute(
            f"CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER never_changed")


def downgrade() -> None:
    raise NotImplementedError("a ledger that allowed changes for a while would prove nothing")
