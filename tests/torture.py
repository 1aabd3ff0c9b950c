"""How long the tests of faults go on.

`ASLGATE_TORTURE` is how many times as many rounds there are as in the short form, which is what runs
where it is not set. From 2 on this is the long form: what the short form only samples (every byte,
every call) is then gone through whole. `make torture` runs all of them so.
"""

import os
from typing import Final

FACTOR: Final = int(os.environ.get("ASLGATE_TORTURE") or "1")
LONG: Final = FACTOR > 1
LONG_SECONDS: Final = 3600
"""What a test may take in the long form before it counts as hanging."""


def rounds(short: int) -> range:
    """So many rounds in the short form."""
    return range(short * FACTOR)


def at_most(seconds: int) -> int:
    """The seconds after which a test that takes so long at most counts as hanging, in either form."""
    return LONG_SECONDS if LONG else seconds
