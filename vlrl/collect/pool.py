"""Which prompts are sampled next: every one in turn, or those that still teach something.

A prompt's success rate is that of its groups' graded rollouts. Prompts that are solved may be retired
(No-Positive-Resampling, ScaleRL section 3.2), easy ones left out after a warm-up (curriculum), and hard ones
drawn more often (prioritised sampling, both k1.5 section 2.3.4).
"""

import random
from typing import Any

from vlrl.collect.order import VisitOrder
from vlrl.collect.requests import EncodedPrompt
from vlrl.config.prompts import PromptConfig
from vlrl.errors import UserError
from vlrl.seeds import derive_seed
from vlrl.trajectory import Group


def read_levels(prompts: list[EncodedPrompt], config: PromptConfig) -> list[int | None]:
    """Each prompt's `level`, if the curriculum goes by it; None where its row has none.

    Raises:
        UserError: a level that is no integer, named by its file and row.
    """
    if config.curriculum is None or config.curriculum.hard_level is None:
        return [None] * len(prompts)
    levels: list[int | None] = []
    for prompt in (item.prompt for item in prompts):
        level = prompt.extra.get("level")
        try:
            levels.append(None if level is None else int(level))
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"{prompt.name}: extra_info.level {level!r} must be an integer to be compared with "
                "rl.prompts.curriculum.hard_level; mend it, or unset that"
            ) from None
    return levels


class PromptPool:
    """The prompts of the RL stage and what is known of them; `state` is all that a resumed run needs."""

    def __init__(self, prompts: list[EncodedPrompt], config: PromptConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._levels = read_levels(prompts, config)
        self._order = VisitOrder(len(prompts), seed, "rl-prompts")
        self._drawn = 0
        self._success: dict[int, float] = {}
        self._retired: set[int] = set()

    def is_empty(self, step: int) -> bool:
        """Whether retired and easy prompts are all there are."""
        return not any(self._allowed(step))

    def take(self, n: int, step: int) -> list[int]:
        """Indices of the next `n` prompts, for a step counted from 1.

        Raises:
            UserError: retired and easy prompts are all there are.
        """
        allowed = self._allowed(step)
        if not any(allowed):
            raise UserError(
                f"rl.prompts: none of {len(allowed)} prompts is left to learn from; add harder ones, raise "
                "retire_above or hard_below, or end the run here"
            )
        return self._draw(n, allowed) if self._config.order == "prioritised" else self._visit(n, allowed)

    def record(self, index: int, group: Group) -> None:
        """Learn from a graded group how hard its prompt is."""
        graded = [r.verdict for r in group.rollouts if r.verdict is not None and not r.verdict.is_error]
        if not graded:
            return
        rate = sum(v.status == "correct" for v in graded) / len(graded)
        before, alpha = self._success.get(index), self._config.success_ema
        self._success[index] = rate if before is None else alpha * before + (1 - alpha) * rate
        if self._config.retire_above is not None and rate >= self._config.retire_above:
            self._retired.add(index)

    @property
    def retired(self) -> int:
        """How many prompts will not be sampled again."""
        return len(self._retired)

    def state(self) -> dict[str, Any]:
        return self._order.state() | {
            "drawn": self._drawn,
            "success": sorted(self._success.items()),
            "retired": sorted(self._retired),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._order.restore(state)
        self._drawn = state["drawn"]
        self._success = {index: rate for index, rate in state["success"]}
        self._retired = set(state["retired"])

    def _allowed(self, step: int) -> list[bool]:
        curriculum = self._config.curriculum
        hard_only = curriculum is not None and step > curriculum.uniform_steps
        return [
            index not in self._retired and not (hard_only and self._is_easy(index))
            for index in range(len(self._levels))
        ]

    def _is_easy(self, index: int) -> bool:
        """By its row's `level`, where the rows have one; else by its success rate so far."""
        curriculum = self._config.curriculum
        assert curriculum is not None
        level = self._levels[index]
        if curriculum.hard_level is not None and level is not None:
            return level < curriculum.hard_level
        return self._success.get(index, 0.0) >= curriculum.hard_below

    def _visit(self, n: int, allowed: list[bool]) -> list[int]:
        out: list[int] = []
        while len(out) < n:
            out += [index for index in self._order.take(1) if allowed[index]]
        return out

    def _draw(self, n: int, allowed: list[bool]) -> list[int]:
        """Without replacement within a batch, by 1 - success rate; a prompt never seen counts as unsolved."""
        self._drawn += 1
        generator = random.Random(derive_seed(self._seed, "prioritised", self._drawn))
        keys = []
        for index, is_allowed in enumerate(allowed):
            weight = max(1.0 - self._success.get(index, 0.0), self._config.floor)
            # Efraimidis and Spirakis: the n largest u^(1/w) are a weighted sample without replacement.
            key = generator.random() ** (1.0 / weight)
            if is_allowed:
                keys.append((key, index))
        chosen = [index for _, index in sorted(keys, reverse=True)[:n]]
        return chosen if len(chosen) == n else chosen + self._draw(n - len(chosen), allowed)
