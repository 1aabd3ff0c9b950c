"""Obligations are followed: when each was raised and is due, and that it was fulfilled

That an obligation was fulfilled is a record, as all that people say: it names the obligation and the
determination that raised it, and of each raising there is one fulfilment at most, whatever two
callers do at once.

What is raised is no record but found in the determinations, by a follower that reads them after they
were recorded: one row an obligation, and one row that says up to which ledger index they were read.
All of it can be found again: whoever runs the database may empty `obligation` and set the position
back to 0. It begins at 0, so that what was raised before this migration is found too.

The tables are new and empty. What they refer to is locked for the moment that this takes, and the
time-out bounds how long a busy site may make us wait for that.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE fulfilment (
        index bigint,
        id text NOT NULL,
        obligation_id text NOT NULL,
        determination_id text NOT NULL,
        by text NOT NULL,
        done_at timestamptz NOT NULL,
        CONSTRAINT fulfilment_pkey PRIMARY KEY (index),
        CONSTRAINT fulfilment_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT fulfilment_determination_id_fkey
            FOREIGN KEY (determination_id) REFERENCES determination (id),
        CONSTRAINT fulfilment_id_key UNIQUE (id),
        CONSTRAINT fulfilment_obligation_id_determination_id_key
            UNIQUE (obligation_id, determination_id)
    )
    """,
    """
    CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON fulfilment
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    "ALTER TABLE fulfilment ENABLE ALWAYS TRIGGER never_changed",
    """
    CREATE TABLE obligation (
        id text,
        model text NOT NULL,
        policy text NOT NULL,
        version text NOT NULL,
        pointer text NOT NULL,
        name text NOT NULL,
        statement text NOT NULL,
        clause text NOT NULL,
        by text,
        before_action boolean NOT NULL,
        due timestamptz,
        of_evidence boolean NOT NULL,
        determination_id text NOT NULL,
        index bigint NOT NULL,
        CONSTRAINT obligation_pkey PRIMARY KEY (id),
        CONSTRAINT obligation_determination_id_fkey
            FOREIGN KEY (determination_id) REFERENCES determination (id)
    )
    """,
    "CREATE INDEX obligation_due_id_idx ON obligation (due, id)",
    "CREATE INDEX obligation_model_due_id_idx ON obligation (model, due, id)",
    """
    CREATE TABLE obligation_position (
        one boolean DEFAULT true,
        next bigint NOT NULL,
        CONSTRAINT obligation_position_pkey PRIMARY KEY (one),
        CONSTRAINT there_is_one_position CHECK (one),
        CONSTRAINT the_first_position_is_0 CHECK (next >= 0)
    )
    """,
    "INSERT INTO obligation_position (next) VALUES (0)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger that allowed changes for a while would prove nothing")
