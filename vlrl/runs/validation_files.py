"""Held-out results: `validation/step_000030.json` beside `step_000030.parquet`, the rollouts behind it.

A measurement other than the held-out one (images blanked, say) has its name in the file's:
`step_000030.blank_images.json`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vlrl.errors import UserError
from vlrl.runs.directory import StageDirectory
from vlrl.runs.files import plain, read_json, write_json
from vlrl.runs.rollouts import write_rollouts
from vlrl.runs.statistics import MeanAtK, mean_at_k
from vlrl.trajectory import Group, Rollout

HELD_OUT = "held_out"


@dataclass(slots=True, frozen=True)
class ValidationResult:
    """mean@k of one policy on one set of prompts.

    `n` prompts of about `k` graded samples each. Samples that could not be graded count in `statuses`
    but are not wrong answers: they are left out, and a prompt with none left is too. `by_source` holds
    `accuracy, stderr, ci95, n, k` a source; `statuses` counts samples; `mean_tokens` is the mean
    response length in tokens over all samples.
    """

    step: int
    name: str
    accuracy: float
    stderr: float | None
    ci95: tuple[float, float]
    n: int
    k: float
    by_source: dict[str, dict[str, Any]]
    statuses: dict[str, int]
    mean_tokens: float


def summarise(step: int, name: str, groups: Sequence[Group]) -> ValidationResult:
    """Count the verdicts of graded groups.

    Raises:
        UserError: not one sample could be graded.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    sources: dict[str, list[list[float]]] = {}
    for group in groups:
        if scores := [_score(r) for r in group.rollouts if r.verdict and not r.verdict.is_error]:
            sources.setdefault(group.prompt.source, []).append(scores)
    if not sources:
        raise UserError(f"validation '{name}' at step {step}: no sample could be graded; see its rollouts")
    statuses = Counter(r.verdict.status for r in rollouts if r.verdict)
    return ValidationResult(
        step=step,
        name=name,
        **_columns(mean_at_k([scores for part in sources.values() for scores in part])),
        by_source={source: plain(_columns(mean_at_k(sources[source]))) for source in sorted(sources)},
        statuses={status: statuses[status] for status in sorted(statuses)},
        mean_tokens=sum(len(r.response_ids) for r in rollouts) / len(rollouts),
    )


def write_validation(stage: StageDirectory, result: ValidationResult, groups: Sequence[Group]) -> None:
    """Write the rollouts, then the result: a result is never without them.

    Raises:
        UserError: the disk is full.
    """
    write_rollouts(rollouts_path(stage, result), result.step, groups)
    write_json(rollouts_path(stage, result).with_suffix(".json"), asdict(result))


def is_measured(stage: StageDirectory, step: int, name: str) -> bool:
    """Whether there is a result of this name for a step."""
    return _path(stage, step, name).with_suffix(".json").is_file()


def read_validations(stage: StageDirectory) -> list[ValidationResult]:
    """All results of a stage, by step and then name (the held-out one first)."""
    results = []
    for path in stage.validation.glob("step_*.json"):
        tree = read_json(path)
        try:
            results.append(ValidationResult(**tree | {"ci95": tuple(tree["ci95"])}))
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not a validation result ({error}); remove it") from None
    return sorted(results, key=lambda r: (r.step, r.name != HELD_OUT, r.name))


def rollouts_path(stage: StageDirectory, result: ValidationResult) -> Path:
    """Where the rollouts behind a result lie."""
    return _path(stage, result.step, result.name)


def _path(stage: StageDirectory, step: int, name: str) -> Path:
    assert re.fullmatch(r"\w+", name), f"'{name}' cannot be part of a file's name"
    suffix = "" if name == HELD_OUT else f".{name}"
    return stage.validation / f"step_{step:06d}{suffix}.parquet"


def _score(rollout: Rollout) -> float:
    assert rollout.verdict is not None
    return float(rollout.verdict.status == "correct")


def _columns(measured: MeanAtK) -> dict[str, Any]:
    columns = asdict(measured)
    return {"accuracy": columns.pop("mean")} | columns
