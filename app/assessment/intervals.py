"""What a result's uncertainty allows us to say.

A value may come with an interval, a standard error, or successes out of trials. From each follows a
range at the policy's confidence; a bare value has none, and by default rules nothing out. Decimal
arithmetic with a fixed precision throughout, so that every machine gives the same digits.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final

from app.vocabulary import TWO_SIDED_Z

_EXACT: Final = Context(prec=50)
_DIGITS: Final = Decimal("1E-12")
_ONE: Final = Decimal(1)
_TWO: Final = Decimal(2)
_FOUR: Final = Decimal(4)


@dataclass(frozen=True, slots=True)
class Range:
    """Where the true value lies at a confidence. `ours`: computed by this service, not published."""

    low: Decimal
    high: Decimal
    ours: bool


def normal_range(value: Decimal, stderr: Decimal, confidence: Decimal) -> Range:
    """Value ± z · standard error, rounded outwards."""
    reach = _EXACT.multiply(TWO_SIDED_Z[confidence], stderr)
    return _outwards(_EXACT.subtract(value, reach), _EXACT.add(value, reach))


def wilson_range(successes: int, trials: int, confidence: Decimal) -> Range:
    """The Wilson score interval of a share (E. B. Wilson, 1927), rounded outwards."""
    c = _EXACT
    z = TWO_SIDED_Z[confidence]
    n = Decimal(trials)
    share = c.divide(Decimal(successes), n)
    z_squared = c.multiply(z, z)
    scale = c.add(_ONE, c.divide(z_squared, n))
    centre = c.add(share, c.divide(z_squared, c.multiply(_TWO, n)))
    variance = c.divide(c.multiply(share, c.subtract(_ONE, share)), n)
    spread = c.add(variance, c.divide(z_squared, c.multiply(_FOUR, c.multiply(n, n))))
    reach = c.multiply(z, spread.sqrt(c))
    low = c.divide(c.subtract(centre, reach), scale)
    high = c.divide(c.add(centre, reach), scale)
    both = _outwards(low, high)
    return Range(max(both.low, Decimal(0)), min(both.high, _ONE), ours=True)


def _outwards(low: Decimal, high: Decimal) -> Range:
    return Range(
        low.quantize(_DIGITS, ROUND_FLOOR, context=_EXACT),
        high.quantize(_DIGITS, ROUND_CEILING, context=_EXACT),
        ours=True,
    )
