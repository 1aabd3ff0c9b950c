"""How often a caller may call: so many requests a minute, of which some may come at once.

Each caller has one instant, up to which its allowance is spent (the generic cell rate algorithm). It
is kept in memory, so a service of three processes lets through three times as much.
"""

import math
import time
from collections.abc import Callable
from typing import Final

from app.errors import TooManyRequests

MOST_KEPT: Final = 100_000
"""How many callers are remembered; whose allowance is whole again is forgotten first."""


class Rates:
    """What each caller has spent. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent_until: dict[str, float] = {}

    def spend(self, caller: str, per_minute: int) -> None:
        """Take one request from what *caller* may make. Raises `TooManyRequests`.

        A quiet caller may make ten seconds' worth at once, and one at least.
        """
        now = self._clock()
        each = 60 / per_minute
        ahead = max(10.0, each)
        until = max(self._spent_until.get(caller, now), now) + each
        if until - now > ahead + 1e-9:
            raise TooManyRequests(math.ceil(until - now - ahead))
        if len(self._spent_until) >= MOST_KEPT and caller not in self._spent_until:
            self._forget(now)
        self._spent_until[caller] = until

    def _forget(self, now: float) -> None:
        self._spent_until = {name: at for name, at in self._spent_until.items() if at > now}
