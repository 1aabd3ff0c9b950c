"""The ledger has a Merkle tree

The head says what the tree's root is, and keeps the few hashes that are needed to extend it. Full
tiles are kept as they are served; what is right of them is hashed from the newest entries when
somebody asks. A tile's root is kept beside it, for it is one hash of a tile of the level above.

The tree of what is recorded already is built here, out of the leaf hashes: a second or two for each
million of entries. The head is locked meanwhile, so whoever records is told to ask again. A service
of before this migration that still runs is refused from then on, as it would leave the tree behind:
the head's root must change with its size. It reads on.

What is hashed is incompressible, so no time is spent on trying.
"""

from collections.abc import Iterator
from hashlib import sha256

from alembic import op
from sqlalchemy import Connection, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WIDTH = 256
READ_AT_ONCE = 64 * WIDTH

TILES = (
    """
    CREATE TABLE ledger_tile (
        level smallint,
        number bigint,
        hashes bytea NOT NULL,
        root bytea NOT NULL,
        CONSTRAINT ledger_tile_pkey PRIMARY KEY (level, number),
        CONSTRAINT a_tile_has_a_place CHECK (level BETWEEN 0 AND 63 AND number >= 0),
        CONSTRAINT a_stored_tile_is_full CHECK (octet_length(hashes) = 8192),
        CONSTRAINT a_tiles_root_is_a_sha256 CHECK (octet_length(root) = 32)
    )
    """,
    "ALTER TABLE ledger_tile ALTER COLUMN hashes SET STORAGE EXTERNAL",
    """
    CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_tile
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    "ALTER TABLE ledger_tile ENABLE ALWAYS TRIGGER never_changed",
    "ALTER TABLE ledger_head ADD COLUMN frontier bytea, ADD COLUMN root bytea",
)

HEAD = (
    """
    ALTER TABLE ledger_head
        ALTER COLUMN frontier SET NOT NULL,
        ALTER COLUMN root SET NOT NULL,
        ADD CONSTRAINT the_frontier_has_a_hash_for_each_bit_of_the_size
            CHECK (octet_length(frontier) = 32 * bit_count(size::bit(64))),
        ADD CONSTRAINT the_root_is_a_sha256 CHECK (octet_length(root) = 32)
    """,
    """
    CREATE OR REPLACE FUNCTION refuse_shrinking_head() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.log <> OLD.log OR NEW.size <= OLD.size OR NEW.last_at < OLD.last_at
            OR NEW.root = OLD.root
        THEN
            RAISE EXCEPTION 'the head may only advance: its log keeps its name, its size grows and '
                'its root with it, its time does not go back' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    for statement in TILES:
        op.execute(statement)
    build(op.get_bind())
    for statement in HEAD:
        op.execute(statement)


def build(connection: Connection) -> None:
    size = connection.scalar(text("SELECT size FROM ledger_head"))
    if size is None:
        return
    frontier: list[bytes] = []
    # By level, the hashes of the tile that is not full yet.
    open_tiles: list[list[bytes]] = []
    count = 0
    for leaf in leaves(connection, size):
        node, number = leaf, count
        while number & 1:
            node, number = sha256(b"\x01" + frontier.pop() + node).digest(), number >> 1
        frontier.append(node)
        fill(connection, open_tiles, count, leaf)
        count += 1
    if count != size:
        raise RuntimeError(f"the ledger's head says {size} entries, and there are {count}")
    root = frontier[-1] if frontier else sha256(b"").digest()
    for node in reversed(frontier[:-1]):
        root = sha256(b"\x01" + node + root).digest()
    op.execute("ALTER TABLE ledger_head DISABLE TRIGGER only_advances")
    connection.execute(
        text("UPDATE ledger_head SET frontier = :frontier, root = :root"),
        {"frontier": b"".join(frontier), "root": root},
    )
    op.execute("ALTER TABLE ledger_head ENABLE ALWAYS TRIGGER only_advances")


def leaves(connection: Connection, size: int) -> Iterator[bytes]:
    some = text(
        "SELECT leaf_hash FROM ledger_entry WHERE index >= :first AND index < :last ORDER BY index"
    )
    for first in range(0, size, READ_AT_ONCE):
        last = min(first + READ_AT_ONCE, size)
        yield from connection.scalars(some, {"first": first, "last": last})


def fill(connection: Connection, open_tiles: list[list[bytes]], index: int, leaf: bytes) -> None:
    """Put the leaf into the open tile of level 0, and each tile that is full into the next one."""
    level, number, node = 0, index, leaf
    while True:
        if level == len(open_tiles):
            open_tiles.append([])
        hashes = open_tiles[level]
        hashes.append(node)
        if len(hashes) < WIDTH:
            return
        number //= WIDTH
        row = hashes
        while len(row) > 1:
            pairs = zip(row[::2], row[1::2], strict=True)
            row = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        connection.execute(
            text("INSERT INTO ledger_tile VALUES (:level, :number, :hashes, :root)"),
            {"level": level, "number": number, "hashes": b"".join(hashes), "root": row[0]},
        )
        hashes.clear()
        level, node = level + 1, row[0]


def downgrade() -> None:
    raise NotImplementedError("a ledger that went on without its tree would prove nothing")
