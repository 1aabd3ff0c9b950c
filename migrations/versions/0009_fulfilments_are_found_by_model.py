"""Fulfilments of obligations are found by the model version that they are about

A policy version may make an obligation binding, so that its answers rest on what was fulfilled. What
an answer rests on is read whenever it moves, so it must be found by the model at once.

The new column is filled from the recorded documents: it repeats a word that was always on record, so
the trigger that refuses changes is put aside for this one statement. The table is locked meanwhile;
it has a row a fulfilment, which people write by hand.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE fulfilment ADD COLUMN model text",
    "ALTER TABLE fulfilment DISABLE TRIGGER never_changed",
    """
    UPDATE fulfilment SET model = convert_from(e.document, 'UTF8')::jsonb ->> 'model'
        FROM ledger_entry e WHERE e.index = fulfilment.index
    """,
    "ALTER TABLE fulfilment ENABLE ALWAYS TRIGGER never_changed",
    "ALTER TABLE fulfilment ALTER COLUMN model SET NOT NULL",
    "CREATE INDEX fulfilment_model_index_idx ON fulfilment (model, index)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger that allowed changes for a while would prove nothing")
