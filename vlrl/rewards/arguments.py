"""The arguments of a verifier, read from `prompt.extra` and refused by row and key where they are no use."""

import math
from fractions import Fraction
from typing import Any

from vlrl.errors import UserError
from vlrl.trajectory import Prompt


def number(prompt: Prompt, key: str, default: float, low: float = 0.0, high: float = math.inf) -> float:
    """The number under `key`, in [low, high]; digits in a string count.

    Raises:
        UserError: it is no such number.
    """
    given = prompt.extra.get(key, default)
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if math.isfinite(value) and low <= value <= high:
        return value
    if high < math.inf:
        wanted = f"a number from {low:g} to {high:g}"
    else:
        wanted = f"a number that is not {'negative' if low == 0 else f'below {low:g}'}"
    raise UserError(f"{prompt.name}: {key} {_shown(given)} must be {wanted}")


def exact(prompt: Prompt, key: str, high: float = math.inf) -> Fraction:
    """The number under `key` (default 0) as it was written: 0.1 is a tenth.

    Raises:
        UserError: it is no number, or negative, or above `high`.
    """
    return Fraction(repr(number(prompt, key, 0.0, high=high)))


def whole(prompt: Prompt, key: str, default: int, low: int = 0) -> int:
    """The whole number under `key`, at least `low`.

    Raises:
        UserError: it is none.
    """
    given = prompt.extra.get(key, default)
    if isinstance(given, bool) or not isinstance(given, int) or given < low:
        raise UserError(f"{prompt.name}: {key} {_shown(given)} must be a whole number of at least {low}")
    return given


def choice(prompt: Prompt, key: str, options: tuple[str, ...], default: str) -> str:
    """The one of `options` that stands under `key`.

    Raises:
        UserError: something else stands there.
    """
    given = prompt.extra.get(key, default)
    if not isinstance(given, str) or given not in options:
        raise UserError(f"{prompt.name}: {key} {_shown(given)} must be one of {', '.join(options)}")
    return given


def flag(prompt: Prompt, key: str, default: bool = False) -> bool:
    """True or false under `key`.

    Raises:
        UserError: something else stands there.
    """
    given = prompt.extra.get(key, default)
    if not isinstance(given, bool):
        raise UserError(f"{prompt.name}: {key} {_shown(given)} must be true or false")
    return given


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:77]}..."
