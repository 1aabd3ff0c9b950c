"""Policy versions are approved by a second person and activated from an instant

A recorded version is a draft until somebody else approves it, and it is in force only from the
instant that an activation names. Both are records like all others: an approval cannot be taken back
by an edit, nor the time moved from which a version counted.

What is in force at an instant must have one answer. So no two activations of a policy name the same
instant; the stream of the policy keeps concurrent writers apart, and the constraint stands behind
it. The publisher's own date decides nothing any more, and two readings of one text share it: what
kept it unique goes.

Versions that were recorded before this are drafts after it: nobody approved them.

The new tables are empty. Dropping the constraint needs the table for a moment only; the time-out
keeps a determination that reads it from waiting long behind this.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE policy_approval (
        index bigint,
        id text NOT NULL,
        policy text NOT NULL,
        digest text NOT NULL,
        by text NOT NULL,
        given_at timestamptz NOT NULL,
        CONSTRAINT policy_approval_pkey PRIMARY KEY (index),
        CONSTRAINT policy_approval_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT policy_approval_digest_fkey
            FOREIGN KEY (digest) REFERENCES policy_version (digest),
        CONSTRAINT policy_approval_id_key UNIQUE (id),
        CONSTRAINT policy_approval_digest_by_key UNIQUE (digest, by)
    )
    """,
    "CREATE INDEX policy_approval_policy_index_idx ON policy_approval (policy, index)",
    """
    CREATE TABLE policy_activation (
        index bigint,
        id text NOT NULL,
        policy text NOT NULL,
        digest text NOT NULL,
        in_force_from timestamptz NOT NULL,
        given_at timestamptz NOT NULL,
        CONSTRAINT policy_activation_pkey PRIMARY KEY (index),
        CONSTRAINT policy_activation_index_fkey
            FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT policy_activation_digest_fkey
            FOREIGN KEY (digest) REFERENCES policy_version (digest),
        CONSTRAINT policy_activation_id_key UNIQUE (id),
        CONSTRAINT policy_activation_policy_in_force_from_key UNIQUE (policy, in_force_from)
    )
    """,
)

RECORDED = ("policy_approval", "policy_activation")


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
    op.execute("ALTER TABLE policy_version DROP CONSTRAINT policy_version_policy_effective_key")


def downgrade() -> None:
    raise NotImplementedError("a ledger that allowed changes for a while would prove nothing")
