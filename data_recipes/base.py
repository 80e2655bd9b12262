"""What a recipe is: a drawing's specification, its executor, its picture and its reasoning.

A row is a function of (recipe, seed, level, args). The answer is computed from the specification, never
from pixels, so `solve` recomputes it from a stored row. A specification holds the problem, and under the
key "style" how it looks, on which the answer does not depend.

Train and held-out rows cannot meet: a seed's parity names its split (even: train, odd: validation), and
a problem belongs to one split by the hash of its specification without style, so a seed whose drawing
falls on the wrong side draws again. The level is not hashed, and the text twin shares the hash of what is
rendered: a held-out problem is held out at every level and in both forms.
"""

import difflib
import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from data_recipes.warmup import Thoughts, compose
from vlrl.errors import UserError

Split = Literal["train", "validation"]
Spec = dict[str, Any]
Choices = Mapping[str, tuple[str, ...]]

HELD_OUT_SHARE = 0.25
_MAX_REDRAWS = 2_000


@dataclass(slots=True, frozen=True)
class Example:
    """One generated row. `image` is an RGB Pillow image, or None for a text recipe."""

    recipe: str
    seed: int
    level: int
    question: str
    image: Any
    ground_truth: str
    verifier: str
    spec: Spec


class Recipe(ABC):
    """A family of problems with `levels` difficulties, 0 the easiest."""

    name: ClassVar[str]
    family: ClassVar[str]
    """Recipes of one family draw the same specification from the same seed and level."""
    levels: ClassVar[int] = 4

    @abstractmethod
    def choices(self, level: int) -> Choices:
        """The recipe's arguments at this level and the values each may list; all of them by default."""

    @abstractmethod
    def draw(self, rng: random.Random, level: int, chosen: Choices) -> Spec | None:
        """Draw a specification, or None where the draw is ambiguous or illegible and must be repeated."""

    @abstractmethod
    def question(self, spec: Spec) -> str:
        """The question's text, without an image marker."""

    @abstractmethod
    def solve(self, spec: Spec) -> str:
        """The executor: the answer from the specification alone."""

    @abstractmethod
    def render(self, spec: Spec) -> Any:
        """The RGB Pillow image, or None where the question says all."""

    @abstractmethod
    def facts(self, spec: Spec) -> list[str]:
        """What a trace must have read correctly, in the words that it uses."""

    @abstractmethod
    def thoughts(self, spec: Spec, rng: random.Random) -> Thoughts:
        """The parts of a reasoning trace, in one of several phrasings."""

    def verifier(self, spec: Spec) -> str:
        return "math"

    def generate(self, seed: int, level: int, **args: Any) -> Example:
        """The row of `seed` at `level`; even seeds are train rows, odd ones held out.

        Raises:
            UserError: the level or an argument is not one of the recipe's.
        """
        chosen = self.checked(level, args)
        rng = random.Random(f"{self.family}/{level}/{seed}")
        for _ in range(_MAX_REDRAWS):
            spec = self.draw(rng, level, chosen)
            if spec is not None and is_held_out(spec) == (seed % 2 == 1):
                spec = json.loads(json.dumps(spec))  # as it will be read back: lists, no tuples
                return Example(
                    recipe=self.name,
                    seed=seed,
                    level=level,
                    question=self.question(spec),
                    image=self.render(spec),
                    ground_truth=self.solve(spec),
                    verifier=self.verifier(spec),
                    spec=spec,
                )
        raise AssertionError(f"{self.name} level {level} seed {seed}: no drawing in {_MAX_REDRAWS} tries")

    def trace(self, example: Example, rng: random.Random) -> str:
        """A warm-up response: `<think>` reasoning `</think>` and the boxed answer."""
        return compose(self.thoughts(example.spec, rng), example.ground_truth, rng)

    def checked(self, level: int, args: Mapping[str, Any]) -> Choices:
        """The recipe's arguments with defaults filled in.

        Raises:
            UserError: unknown level, argument or value.
        """
        if not 0 <= level < self.levels:
            raise UserError(f"recipe '{self.name}': level {level} does not exist; use 0 to {self.levels - 1}")
        allowed = self.choices(level)
        chosen = dict(allowed)
        for key, value in args.items():
            if key not in allowed:
                raise UserError(f"recipe '{self.name}': {unknown('argument', key, allowed)}")
            if not isinstance(value, (list, tuple)) or not value:
                raise UserError(
                    f"recipe '{self.name}': '{key}' must be a non-empty list out of {', '.join(allowed[key])}"
                )
            for item in value:
                if item not in allowed[key]:
                    wrong = unknown(f"value in '{key}' at level {level}", item, allowed[key])
                    raise UserError(f"recipe '{self.name}': {wrong}")
            chosen[key] = tuple(value)
        return chosen


def unknown(what: str, name: Any, valid: Any) -> str:
    """One sentence for a name that is not among `valid`, with the nearest one first."""
    near = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? Valid" if near else "valid"
    return f"unknown {what} '{name}'; {hint}: {', '.join(valid) or 'none'}"


def content_hash(spec: Spec) -> str:
    """16 hexadecimal digits naming the problem: the specification without its style."""
    content = {key: value for key, value in spec.items() if key != "style"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def is_held_out(spec: Spec) -> bool:
    """Whether the problem belongs to the held-out quarter."""
    return int(content_hash(spec)[:8], 16) < HELD_OUT_SHARE * 2**32
