"""All hostile programs, and those that show whether a layer is missed."""

from . import cheating, outside, processes, resources
from .attack import LIMITS, Attack

ALL: list[Attack] = [*outside.ATTACKS, *processes.ATTACKS, *resources.ATTACKS, *cheating.ATTACKS]
# Limits and comparison do not depend on the layers; these do, and none of them waits.
ISOLATION = [a for a in (*outside.ATTACKS, *processes.ATTACKS) if a.limits == LIMITS]
