"""Credentials are recorded: who may call, since when, and until when

An API key says who acted, and as what; who made it, for whom and with which roles belongs on record
as much as what was done with it. So a key is an entry of the ledger now, and so is its revocation.
The tables repeat what is needed to find them. The hash of the secret is in the document too: whoever
puts another one into the table does not agree with what is on record.

The keys that there were are not carried over: they belong to nobody in particular, and a ledger
entry cannot be made up for them. New ones are made by `aslgate keys create`, or the first one by
ASLGATE_BOOTSTRAP_KEY, as at a first start. What they recorded stays theirs, by their ids.

When a key was last used is work that goes on, and no record.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = (
    "DROP TABLE api_key",
    """
    CREATE TABLE credential (
        index bigint,
        id text NOT NULL,
        principal text NOT NULL,
        secret_sha256 bytea NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz,
        CONSTRAINT credential_pkey PRIMARY KEY (index),
        CONSTRAINT credential_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT credential_id_key UNIQUE (id),
        CONSTRAINT credential_secret_sha256_key UNIQUE (secret_sha256),
        CONSTRAINT secrets_are_kept_as_sha256 CHECK (octet_length(secret_sha256) = 32)
    )
    """,
    """
    CREATE TABLE credential_revocation (
        index bigint,
        id text NOT NULL,
        credential text NOT NULL,
        revoked_at timestamptz NOT NULL,
        CONSTRAINT credential_revocation_pkey PRIMARY KEY (index),
        CONSTRAINT credential_revocation_index_fkey
            FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT credential_revocation_credential_fkey
            FOREIGN KEY (credential) REFERENCES credential (id),
        CONSTRAINT credential_revocation_id_key UNIQUE (id),
        CONSTRAINT credential_revocation_credential_key UNIQUE (credential)
    )
    """,
    """
    CREATE TABLE credential_use (
        credential text,
        used_at timestamptz NOT NULL,
        CONSTRAINT credential_use_pkey PRIMARY KEY (credential),
        CONSTRAINT credential_use_credential_fkey
            FOREIGN KEY (credential) REFERENCES credential (id)
    )
    """,
)

RECORDED = ("credential", "credential_revocation")


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
