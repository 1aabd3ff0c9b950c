"""What others send is kept until it is worked on

A registry's webhook is answered once its delivery is here for good, and worked on after that: whoever
sends it waits for a few seconds only, and some never send it again. A delivery has an id, so that one
that is sent twice is worked on once; its body goes a week after it was, and its digest stays.

It is no record: what a delivery says carries no authority, and what is made of it is recorded by
operations like anything else. So whoever runs the database may delete old rows; what comes again after
that is worked on again.

The table is new, empty, and refers to no other.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE inbox (
        binding text,
        delivery_id text,
        event text NOT NULL,
        received_at timestamptz NOT NULL,
        body_sha256 bytea NOT NULL,
        body bytea,
        state text NOT NULL DEFAULT 'waiting',
        attempts integer NOT NULL DEFAULT 0,
        not_before timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        outcome text,
        CONSTRAINT inbox_pkey PRIMARY KEY (binding, delivery_id),
        CONSTRAINT a_delivery_waits_or_is_done_or_failed
            CHECK (state IN ('waiting', 'done', 'failed')),
        CONSTRAINT what_is_finished_says_when CHECK ((state = 'waiting') = (finished_at IS NULL)),
        CONSTRAINT what_waits_has_its_body CHECK (body IS NOT NULL OR state <> 'waiting'),
        CONSTRAINT the_digest_is_a_sha256 CHECK (octet_length(body_sha256) = 32)
    )
    """,
    """
    CREATE INDEX inbox_waiting_idx ON inbox (binding, not_before) WHERE state = 'waiting'
    """,
    """
    CREATE INDEX inbox_bodies_idx ON inbox (finished_at)
        WHERE body IS NOT NULL AND finished_at IS NOT NULL
    """,
    """
    CREATE INDEX inbox_binding_received_at_delivery_id_idx
        ON inbox (binding, received_at, delivery_id)
    """,
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("what came and was not worked on yet would be lost")
