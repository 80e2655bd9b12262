"""What a probe reports."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "broken"]


@dataclass(slots=True, frozen=True)
class Finding:
    """A probe's answer: its state, what was found, and how to mend it where it is not ok."""

    state: State
    found: str
    mend: str = ""
