"""A whole run: its stages in order, then the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlrl.config.run import RunConfig, Stage
from vlrl.runs.checkpoints import latest_checkpoint
from vlrl.runs.directory import RunDirectory
from vlrl.runs.files import read_json
from vlrl.runs.metrics import read_metrics
from vlrl.runs.report import write_report
from vlrl.runs.validation_files import HELD_OUT, ValidationResult, read_validations
from vlrl.training.ranks import start_ranks
from vlrl.training.rl import train_rl
from vlrl.training.session import BLANK_IMAGES, TEXT, Session
from vlrl.training.sft import train_sft

_STAGES = {"sft": train_sft, "rl": train_rl}


def train(config: RunConfig, run: RunDirectory, policy_path: str, data: Mapping[str, list[Path]]) -> None:
    """Train every stage that is not finished yet and write the report.

    Raises:
        UserError: a row, image or checkpoint that cannot be used; a full disk.
        WaitTimeout: an engine or grader outlived its deadline.
        EngineError: an engine or the graders failed.
    """
    ranks = start_ranks(config.trainer.threads)
    with Session(config, run, ranks, policy_path, data) as session:
        session.check()
        for name in config.stages:
            if not (is_finished(config, run, name) and session.is_measured(name)):
                _STAGES[name](session)
            session.go_on_from(str(final_policy(run, name)))
    if ranks.is_main:
        write_report(run, summarise_run(config, run))


def is_finished(config: RunConfig, run: RunDirectory, name: Stage) -> bool:
    """Whether the stage's last step is committed."""
    checkpoint = latest_checkpoint(run.stage(name).checkpoints)
    steps = config.sft.steps if name == "sft" else config.rl.steps
    return checkpoint is not None and checkpoint.step >= steps


def final_policy(run: RunDirectory, name: Stage) -> Path:
    """The newest weights of a stage, as `from_pretrained` loads them."""
    checkpoint = latest_checkpoint(run.stage(name).checkpoints)
    assert checkpoint is not None, f"stage {name} has no checkpoint"
    return checkpoint.path / "policy"


def summarise_run(config: RunConfig, run: RunDirectory) -> dict[str, Any]:
    """The headline of a run: what `report.json` holds; its seconds are those of `StageRun.seconds`."""
    summary: dict[str, Any] = {"name": config.name, "seconds": {}}
    for name in config.stages:
        directory = run.stage(name)
        results = read_validations(directory)
        held_out = [r for r in results if r.name == HELD_OUT]
        if held_out:
            summary |= _accuracy(name, held_out[-1])
            if name == "rl":
                summary["start_accuracy"] = held_out[0].accuracy
        for key, measurement in (("text_accuracy", TEXT), ("blank_image_accuracy", BLANK_IMAGES)):
            for result in (r for r in results if r.name == measurement):
                summary[key] = result.accuracy
        lines = read_metrics(directory.metrics)
        summary[f"{name}_steps"] = lines[-1]["step"] if lines else 0
        checkpoint = latest_checkpoint(directory.checkpoints)
        if checkpoint is not None:
            whole = directory.seconds.is_file()  # else a kill came after the stage's last result
            seconds = read_json(directory.seconds if whole else checkpoint.path / "state.json")
            summary["seconds"][name] = round(seconds["seconds"], 1)
    return summary


def _accuracy(stage: str, result: ValidationResult) -> dict[str, Any]:
    return {
        f"{stage}_accuracy": result.accuracy,
        f"{stage}_accuracy_ci": list(result.ci95),
        f"{stage}_accuracy_by_source": {s: v["accuracy"] for s, v in result.by_source.items()},
    }
