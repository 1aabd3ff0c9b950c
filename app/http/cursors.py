"""The opaque cursors of lists: of those that run from the newest entry of the ledger to the oldest, of
obligations, which come in the order of their dues, of what is searched for, and of deliveries.
"""

import base64
import binascii
import hashlib
import re
from typing import Final

from app.errors import InvalidParameter
from app.storage.inbox import DeliveryPlace
from app.storage.obligations import Place
from app.vocabulary import read_instant, write_instant

PAGE: Final = 50
MAX_PAGE: Final = 200

_OBLIGATION: Final = re.compile(r"obl_[0-9a-f]{32}", re.ASCII)


def cursor(index: int) -> str:
    """The cursor of the page that begins below that ledger index."""
    return _written(f"v1:{index}")


def read_cursor(given: str | None) -> int | None:
    """Below which index the page begins; `None`: with the newest. Raises `InvalidParameter`."""
    if given is None:
        return None
    version, _, index = _read(given).partition(":")
    if version == "v1" and index.isdecimal() and len(index) < 19 and cursor(int(index)) == given:
        return int(index)
    raise _not_ours()


def due_cursor(place: Place) -> str:
    """The cursor of the page that begins after that place in the order of dues."""
    due = "" if place.due is None else write_instant(place.due)
    return _written(f"due1:{place.id}:{due}")


def read_due_cursor(given: str | None) -> Place | None:
    """After which place the page begins; `None`: with the first. Raises `InvalidParameter`."""
    if given is None:
        return None
    version, _, rest = _read(given).partition(":")
    id, _, due = rest.partition(":")
    if version == "due1" and _OBLIGATION.fullmatch(id):
        try:
            place = Place(read_instant(due) if due else None, id)
        except ValueError:
            raise _not_ours() from None
        if due_cursor(place) == given:
            return place
    raise _not_ours()


def search_token(first: int, about: bytes) -> str:
    """The token of the page that looks from that ledger index on, for the search *about* tells of."""
    return _written(f"az1:{first}:{_told(about)}")


def read_search_token(given: str, about: bytes) -> int:
    """From which ledger index on the page looks. Raises `InvalidParameter` where the token is not ours,
    or of another search.
    """
    version, _, rest = _read(given).partition(":")
    first, _, told = rest.partition(":")
    ours = version == "az1" and first.isdecimal() and len(first) < 19
    if ours and told == _told(about) and search_token(int(first), about) == given:
        return int(first)
    raise _not_ours()


def _told(about: bytes) -> str:
    return hashlib.sha256(about).hexdigest()[:16]


def delivery_cursor(place: DeliveryPlace) -> str:
    """The cursor of the page that begins below that place among the deliveries to a binding."""
    return _written(f"inbox1:{write_instant(place.received_at)} {place.id}")


def read_delivery_cursor(given: str | None) -> DeliveryPlace | None:
    """Below which place the page begins; `None`: with the newest. Raises `InvalidParameter`."""
    if given is None:
        return None
    version, _, rest = _read(given).partition(":")
    at, _, id = rest.partition(" ")
    if version == "inbox1" and id:
        try:
            place = DeliveryPlace(read_instant(at), id)
        except ValueError:
            raise _not_ours() from None
        if delivery_cursor(place) == given and id.isprintable():
            return place
    raise _not_ours()


# Each cursor has one spelling: that which we gave.
def _written(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(given: str) -> str:
    try:
        padded = given.encode("ascii") + b"=" * (-len(given) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        raise _not_ours() from None


def _not_ours() -> InvalidParameter:
    return InvalidParameter("after", "is not a cursor that this service gave")
