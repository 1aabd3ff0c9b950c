"""Runs the migrations on the connection that `app.storage.database.migrate` made.

It holds the lock under which one starter at a time migrates, so there is no other way in. For
`alembic revision` no connection is needed.
"""

from alembic import context

from app.storage.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `aslgate migrate`: it takes the lock and grants the service its rights")
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=True,
    # A step that waits for nobody else holds no lock longer than itself.
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
