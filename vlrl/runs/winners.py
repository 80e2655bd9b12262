"""Which rollouts a reward paid that a person should look at, for what it pays is what a policy learns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from vlrl.runs.directory import RunDirectory, StageDirectory
from vlrl.runs.rollouts import read_rollouts
from vlrl.trajectory import Group, Prompt, Rollout, Verdict

Kind = Literal["shortest", "longest", "format_only"]

TITLES: dict[Kind, str] = {
    "shortest": "the shortest that is correct",
    "longest": "the longest that is correct",
    "format_only": "paid without a right answer",
}


@dataclass(slots=True, frozen=True)
class Winner:
    """A rollout that was paid, and why it is shown."""

    kind: Kind
    prompt: Prompt
    rollout: Rollout


def is_format_only(verdict: Verdict, floor: float) -> bool:
    """Whether a rollout without a right answer was paid by the other rewards of its source alone.

    `floor` is what the first reward earns where it gives nothing (`RewardConfig.floor`). A partly right
    answer is none of these: its first reward is above 0.
    """
    if verdict.is_error or verdict.status == "correct" or not verdict.parts:
        return False
    return verdict.reward > floor and next(iter(verdict.parts.values())) == 0


def find_winners(groups: Iterable[Group], floor: Callable[[str], float]) -> list[Winner]:
    """At most one of each kind: by response tokens, and by reward for `format_only`; ties by order.

    `floor` is that of a source.
    """
    paid = [(g.prompt, r, r.verdict) for g in groups for r in g.rollouts if r.verdict is not None]
    correct = [(prompt, rollout) for prompt, rollout, verdict in paid if verdict.status == "correct"]
    others = [(p, r, v.reward) for p, r, v in paid if is_format_only(v, floor(p.source))]
    found = []
    if correct:
        found.append(Winner("shortest", *min(correct, key=lambda pair: len(pair[1].response_ids))))
        found.append(Winner("longest", *max(correct, key=lambda pair: len(pair[1].response_ids))))
    if others:
        prompt, rollout, _ = max(others, key=lambda other: other[2])
        found.append(Winner("format_only", prompt, rollout))
    return found


def recent_winners(run: RunDirectory, stage: StageDirectory, steps: int = 1) -> list[Winner]:
    """Those of the last `steps` steps whose rollouts are there.

    Raises:
        UserError: a damaged file.
    """
    files = sorted((stage.root / "rollouts").glob("step_*.parquet"))[-steps:]
    return find_winners((g for file in files for g in read_rollouts(file)), run.config.rewards.floor)
