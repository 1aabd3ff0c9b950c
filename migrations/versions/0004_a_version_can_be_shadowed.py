"""A version can be shadowed: decided beside the one in force, and what differs is kept

Neither table holds records. A shadow is a piece of work that goes on: how far it has come, and what
it has counted. So its row changes, in the same transaction that keeps the differences found, and
each question is looked at once however often the work is cut off. What it says can be found out
again from the ledger at any time (a backtest does), so whoever runs the database may delete old
shadows with their differences.

One version has one shadow at a time: the partial index says so, whatever two callers do at once.

The tables are new and empty. What they refer to is locked for the moment that this takes, and the
time-out bounds how long a busy site may make us wait for that.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE policy_shadow (
        id text,
        policy text NOT NULL,
        version text NOT NULL,
        digest text NOT NULL,
        started_at timestamptz NOT NULL,
        started_by text NOT NULL,
        reason text,
        first bigint NOT NULL,
        next bigint NOT NULL,
        past bigint NOT NULL,
        summary text NOT NULL,
        stopped_at timestamptz,
        stopped_by text,
        stopped_because text,
        CONSTRAINT policy_shadow_pkey PRIMARY KEY (id),
        CONSTRAINT policy_shadow_digest_fkey FOREIGN KEY (digest) REFERENCES policy_version (digest),
        CONSTRAINT a_shadow_only_goes_forward CHECK (first >= 0 AND next >= first),
        CONSTRAINT who_stopped_it_says_when CHECK (stopped_by IS NULL OR stopped_at IS NOT NULL)
    )
    """,
    """
    CREATE UNIQUE INDEX policy_shadow_running_idx
        ON policy_shadow (digest) WHERE stopped_at IS NULL
    """,
    "CREATE INDEX policy_shadow_digest_id_idx ON policy_shadow (digest, id)",
    """
    CREATE TABLE shadow_difference (
        shadow text,
        index bigint,
        difference text NOT NULL,
        CONSTRAINT shadow_difference_pkey PRIMARY KEY (shadow, index),
        CONSTRAINT shadow_difference_shadow_fkey
            FOREIGN KEY (shadow) REFERENCES policy_shadow (id) ON DELETE CASCADE,
        CONSTRAINT shadow_difference_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index)
    )
    """,
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE shadow_difference, policy_shadow")
