"""A log of others, read over HTTP as C2SP tlog-tiles has it. Nothing that it says is believed here:
what is fetched is given as it came, to be verified.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from app.decoding import decode_json
from app.errors import UndecodableDocument
from app.ledger.merkle import HASH_BYTES, Node, consistency_ranges, nodes_of, range_hash
from app.ledger.note import MOST_BYTES, InvalidNote, Note, VerifierKey, read_note, read_verifier_key
from app.ledger.tiles import HEIGHT, WIDTH, Tile, node_in, tile_of

_PREFIX: Final = "/v1/ledger"
_NOT_FOUND: Final = httpx.codes.NOT_FOUND
_SILENT_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 30


class NoAnswer(Exception):
    """The log does not answer, or not with what was asked for; `str()` of it says so."""


@dataclass(frozen=True, slots=True)
class OfferedKeys:
    """The keys that a log says are its own now, and the statements that make them so."""

    vkeys: tuple[VerifierKey, ...]
    statements: tuple[Note, ...]


class TiledLog:
    """The log at *url*, which is its prefix or, of a service like ours, the service's address.

    Each answer must be there, whole, *within* so many seconds, however slowly it comes, and in
    `MOST_BYTES`. For one thread, which leaves it as a context. Raises `NoAnswer`.
    """

    def __init__(self, url: str, *, within: float = _ANSWER_SECONDS) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise NoAnswer(f"`{url}` is not an address") from error
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise NoAnswer(f"`{url}` is not an address")
        self._within = within
        # What a few bytes unpack to has no bound, so nothing is to come packed.
        self._http = httpx.AsyncClient(
            timeout=_SILENT_SECONDS, headers={"Accept-Encoding": "identity"}
        )
        # Asynchronous within, for that can be cut off at any point: a blocking client has a bound for
        # each read only, and one byte is enough for the next.
        self._runner = asyncio.Runner()
        self._prefix = url.rstrip("/") if parts.path.strip("/") else url.rstrip("/") + _PREFIX

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._http.aclose())
        self._runner.close()

    def checkpoint(self) -> Note:
        """The newest checkpoint. Raises `NoAnswer`."""
        try:
            return read_note(self._get("checkpoint").content())
        except InvalidNote as fault:
            raise NoAnswer(f"what `{self._prefix}` gives is no checkpoint: {fault}") from fault

    def keys(self) -> OfferedKeys:
        """The log's keys; none of a log that does not say. Raises `NoAnswer`."""
        answer = self._get("keys")
        if answer.status == _NOT_FOUND:
            return OfferedKeys((), ())
        try:
            said: Any = decode_json(answer.content())
            return OfferedKeys(
                tuple(
                    read_verifier_key(one["vkey"])
                    for one in said["keys"]
                    if one["until_size"] is None
                ),
                tuple(read_note(one.encode()) for one in said["statements"]),
            )
        except (UndecodableDocument, ValueError, KeyError, TypeError, AttributeError) as fault:
            raise NoAnswer(f"`{self._prefix}/keys` cannot be read: {fault}") from fault

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the tree of *new* entries extends that of *old*, from tiles of the former.

        Raises `NoAnswer`.
        """
        ranges = consistency_ranges(old, new)
        hashes = self._nodes((node for part in ranges for node in nodes_of(part)), new)
        return tuple(range_hash(part, hashes) for part in ranges)

    def _nodes(self, nodes: Iterable[Node], size: int) -> dict[Node, bytes]:
        tiles: dict[Tile, bytes] = {}
        found: dict[Node, bytes] = {}
        for node in nodes:
            tile = tile_of(node)
            if tile not in tiles:
                tiles[tile] = self._tile(tile, size)
            found[node] = node_in(tile, tiles[tile], node)
        return found

    def _tile(self, full: Tile, size: int) -> bytes:
        """As much of a tile as the tree of that size has."""
        width = min(WIDTH, (size >> full.level * HEIGHT) - full.number * WIDTH)
        answer = self._get(f"tile/{full._replace(width=width).path}")
        if answer.status == _NOT_FOUND and width < WIDTH:
            # A log need not keep a partial tile once it has the full one.
            answer = self._get(f"tile/{full.path}")
        hashes = answer.content()[: width * HASH_BYTES]
        if len(hashes) != width * HASH_BYTES:
            raise NoAnswer(f"tile {full.path} of `{self._prefix}` is not as wide as it must be")
        return hashes

    def _get(self, path: str) -> "_Answer":
        return self._runner.run(self._fetch(f"{self._prefix}/{path}"))

    async def _fetch(self, address: str) -> "_Answer":
        read = bytearray()
        try:
            async with asyncio.timeout(self._within), self._http.stream("GET", address) as response:
                if response.status_code != httpx.codes.OK:
                    return _Answer(address, response.status_code, b"")
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise NoAnswer(f"what `{address}` gives is packed, which was not asked for")
                async for some in response.aiter_raw():
                    read += some
                    if len(read) > MOST_BYTES:
                        raise NoAnswer(f"what `{address}` gives is too long")
            return _Answer(address, response.status_code, bytes(read))
        except TimeoutError as error:
            late = f"`{address}` did not give its whole answer within {self._within:g} s"
            raise NoAnswer(late) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(f"`{address}` does not answer: {error!r}") from error


@dataclass(frozen=True, slots=True)
class _Answer:
    address: str
    status: int
    body: bytes

    def content(self) -> bytes:
        """The body of an answer that is one."""
        if self.status != httpx.codes.OK:
            raise NoAnswer(f"`{self.address}` answers {self.status}")
        return self.body
