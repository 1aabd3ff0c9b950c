"""The opaque cursors of lists that run from the newest entry of the ledger to the oldest."""

import base64
import binascii
from typing import Final

from app.errors import InvalidParameter

PAGE: Final = 50
MAX_PAGE: Final = 200


def cursor(index: int) -> str:
    """The cursor of the page that begins below that ledger index."""
    return base64.urlsafe_b64encode(f"v1:{index}".encode()).decode().rstrip("=")


def read_cursor(given: str | None) -> int | None:
    """Below which index the page begins; `None`: with the newest. Raises `InvalidParameter`."""
    if given is None:
        return None
    try:
        padded = given.encode("ascii") + b"=" * (-len(given) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
        version, _, index = text.partition(":")
        if version == "v1" and index.isdecimal() and len(index) < 19:
            return int(index)
    except (UnicodeError, binascii.Error):
        pass
    raise InvalidParameter("after", "is not a cursor that this service gave")
