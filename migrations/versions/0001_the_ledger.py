"""The ledger, what is found in it by name, and the keys

Everything recorded is one entry of one sequence. The head is a single row that each writer locks,
so an index is given only to what commits: no gaps, and nothing rests on a larger index than its
own. A sequence would give both away, and so would an advisory lock under REPEATABLE READ.

Recorded bytes are `bytea`, never `jsonb`, which reorders and rewrites. The checks bind an entry to
its leaf hash and a document to its digest, so a damaged byte cannot be written; a byte that rots
later is the verifier's to find. lz4 takes less time than the default compression; a server that
was built without it keeps the default, for that changes no byte of what is read.

A record is superseded by a later one, never edited. The service's role has no right to UPDATE or
DELETE either: the triggers are for owners and scripts. TRUNCATE fires no row trigger, so they are
per statement, and they fire ALWAYS, or `session_replication_role` would switch them off. An owner
can still drop them; the hashes are what catches that.

All tables are new, so nobody waits for this migration; the time-out is for whoever runs it on a
database in which something of those names is held open.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE ledger_head (
        one boolean DEFAULT true,
        log text NOT NULL,
        size bigint NOT NULL,
        last_at timestamptz NOT NULL,
        CONSTRAINT ledger_head_pkey PRIMARY KEY (one),
        CONSTRAINT there_is_one_head CHECK (one),
        CONSTRAINT the_log_has_a_name CHECK (log <> ''),
        CONSTRAINT a_ledger_is_empty_or_larger CHECK (size >= 0)
    )
    """,
    r"""
    CREATE TABLE ledger_entry (
        index bigint,
        kind text NOT NULL,
        subject text NOT NULL,
        actor text NOT NULL,
        at timestamptz NOT NULL,
        entry bytea NOT NULL,
        leaf_hash bytea NOT NULL,
        document bytea NOT NULL,
        document_sha256 bytea NOT NULL,
        CONSTRAINT ledger_entry_pkey PRIMARY KEY (index),
        CONSTRAINT ledger_entry_subject_key UNIQUE (subject),
        CONSTRAINT the_first_entry_has_index_0 CHECK (index >= 0),
        CONSTRAINT an_entry_fits_a_bundle CHECK (octet_length(entry) BETWEEN 1 AND 65535),
        CONSTRAINT the_leaf_hash_is_that_of_the_entry
            CHECK (leaf_hash = sha256('\x00'::bytea || entry)),
        CONSTRAINT the_digest_is_that_of_the_document CHECK (document_sha256 = sha256(document))
    )
    """,
    """
    DO $$ BEGIN
        ALTER TABLE ledger_entry ALTER COLUMN document SET COMPRESSION lz4;
    EXCEPTION WHEN feature_not_supported THEN
        NULL;
    END $$
    """,
    """
    CREATE TABLE stream (
        name text,
        version bigint NOT NULL,
        CONSTRAINT stream_pkey PRIMARY KEY (name),
        CONSTRAINT a_stream_begins_with_its_first_entry CHECK (version > 0)
    )
    """,
    """
    CREATE TABLE policy_version (
        index bigint,
        policy text NOT NULL,
        version text NOT NULL,
        digest text NOT NULL,
        effective timestamptz NOT NULL,
        CONSTRAINT policy_version_pkey PRIMARY KEY (index),
        CONSTRAINT policy_version_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT policy_version_digest_key UNIQUE (digest),
        CONSTRAINT policy_version_policy_version_key UNIQUE (policy, version),
        CONSTRAINT policy_version_policy_effective_key UNIQUE (policy, effective),
        CONSTRAINT a_digest_names_its_algorithm CHECK (digest ~ '^sha256:[0-9a-f]{64}$')
    )
    """,
    """
    CREATE TABLE model_version (
        index bigint,
        model text NOT NULL,
        developer text NOT NULL,
        CONSTRAINT model_version_pkey PRIMARY KEY (index),
        CONSTRAINT model_version_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT model_version_model_key UNIQUE (model)
    )
    """,
    """
    CREATE TABLE evidence (
        index bigint,
        id text NOT NULL,
        kind text NOT NULL,
        model text NOT NULL,
        policy text,
        speaks_for timestamptz NOT NULL,
        CONSTRAINT evidence_pkey PRIMARY KEY (index),
        CONSTRAINT evidence_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT evidence_id_key UNIQUE (id)
    )
    """,
    "CREATE INDEX evidence_model_index_idx ON evidence (model, index)",
    """
    CREATE TABLE withdrawal (
        index bigint,
        id text NOT NULL,
        evidence_id text NOT NULL,
        model text NOT NULL,
        CONSTRAINT withdrawal_pkey PRIMARY KEY (index),
        CONSTRAINT withdrawal_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT withdrawal_evidence_id_fkey FOREIGN KEY (evidence_id) REFERENCES evidence (id),
        CONSTRAINT withdrawal_id_key UNIQUE (id),
        CONSTRAINT withdrawal_evidence_id_key UNIQUE (evidence_id)
    )
    """,
    """
    CREATE TABLE determination (
        index bigint,
        id text NOT NULL,
        model text NOT NULL,
        action text NOT NULL,
        policy text NOT NULL,
        policy_version text,
        policy_digest text,
        decision text NOT NULL,
        level text,
        at timestamptz NOT NULL,
        valid_until timestamptz,
        as_known boolean NOT NULL,
        CONSTRAINT determination_pkey PRIMARY KEY (index),
        CONSTRAINT determination_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT determination_id_key UNIQUE (id),
        CONSTRAINT a_decision_is_one_of_three
            CHECK (decision IN ('allow', 'allow_with_conditions', 'deny')),
        CONSTRAINT a_policy_version_and_its_digest_stand_together
            CHECK ((policy_version IS NULL) = (policy_digest IS NULL))
    )
    """,
    """
    CREATE INDEX determination_latest_idx
        ON determination (model, action, at, index) WHERE NOT as_known
    """,
    """
    CREATE INDEX determination_latest_of_policy_idx
        ON determination (model, action, policy, at, index) WHERE NOT as_known
    """,
    "CREATE INDEX determination_model_index_idx ON determination (model, index)",
    "CREATE INDEX determination_action_index_idx ON determination (action, index)",
    "CREATE INDEX determination_decision_index_idx ON determination (decision, index)",
    "CREATE INDEX determination_policy_index_idx ON determination (policy, index)",
    """
    CREATE TABLE idempotency (
        credential text,
        key_sha256 bytea,
        request_sha256 bytea NOT NULL,
        index bigint NOT NULL,
        count integer NOT NULL,
        CONSTRAINT idempotency_pkey PRIMARY KEY (credential, key_sha256),
        CONSTRAINT idempotency_index_fkey FOREIGN KEY (index) REFERENCES ledger_entry (index),
        CONSTRAINT keys_are_kept_as_sha256
            CHECK (octet_length(key_sha256) = 32 AND octet_length(request_sha256) = 32),
        CONSTRAINT a_request_records_1_to_1000_entries CHECK (count BETWEEN 1 AND 1000)
    )
    """,
    """
    CREATE TABLE api_key (
        id text,
        name text NOT NULL,
        secret_sha256 bytea NOT NULL,
        roles text[] NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz,
        revoked_at timestamptz,
        CONSTRAINT api_key_pkey PRIMARY KEY (id),
        CONSTRAINT api_key_secret_sha256_key UNIQUE (secret_sha256),
        CONSTRAINT secrets_are_kept_as_sha256 CHECK (octet_length(secret_sha256) = 32),
        CONSTRAINT a_key_has_a_role CHECK (cardinality(roles) > 0)
    )
    """,
)

TRIGGER_FUNCTIONS = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION '% of % is refused: what is recorded is never changed',
            TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE FUNCTION refuse_shrinking_head() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.log <> OLD.log OR NEW.size <= OLD.size OR NEW.last_at < OLD.last_at THEN
            RAISE EXCEPTION 'the head may only advance: its log keeps its name, its size grows, '
                'its time does not go back' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION refuse_returning_stream() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.name <> OLD.name OR NEW.version <= OLD.version THEN
            RAISE EXCEPTION 'a stream may only advance' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION refuse_all_but_revocation() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF OLD.revoked_at IS NOT NULL
            OR to_jsonb(NEW) - 'revoked_at' <> to_jsonb(OLD) - 'revoked_at'
        THEN
            RAISE EXCEPTION 'a key may be revoked, once, and never changed'
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
)

RECORDED = (
    "ledger_entry",
    "policy_version",
    "model_version",
    "evidence",
    "withdrawal",
    "determination",
    "idempotency",
)

MAY_ONLY_ADVANCE = {
    "ledger_head": "refuse_shrinking_head",
    "stream": "refuse_returning_stream",
    "api_key": "refuse_all_but_revocation",
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in (*TABLES, *TRIGGER_FUNCTIONS):
        op.execute(statement)
    for table in RECORDED:
        op.execute(
            f"CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER never_changed")
    for table, function in MAY_ONLY_ADVANCE.items():
        op.execute(
            f"CREATE TRIGGER never_removed BEFORE DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER only_advances BEFORE UPDATE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER never_removed")
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER only_advances")


def downgrade() -> None:
    raise NotImplementedError("a ledger that allowed changes for a while would prove nothing")
