"""`vlrl show RUN`: a run in the terminal, whether it is running, finished or broken."""

from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vlrl.errors import UserError
from vlrl.runs.checkpoints import latest_checkpoint, list_checkpoints
from vlrl.runs.directory import RunDirectory, StageDirectory
from vlrl.runs.metrics import read_metrics
from vlrl.runs.progress import format_number, format_seconds
from vlrl.runs.report import moment, percent
from vlrl.runs.report_rollouts import choose_prompts
from vlrl.runs.rollouts import read_rollouts, read_sources
from vlrl.runs.validation_files import HELD_OUT, ValidationResult, read_validations, rollouts_path
from vlrl.runs.winners import TITLES, recent_winners

_STATE_STYLES = {"running": "cyan", "finished": "green", "failed": "red", "stopped": "yellow"}
_SAMPLES = 3
_SAMPLE_CHARACTERS = 600
_ETA_STEPS = 20


def show(run_dir: str | Path, console: Console | None = None) -> None:
    """Print stages and their progress, last metrics, held-out accuracies, checkpoints, sample rollouts.

    A damaged file is reported in its place and does not hide the rest.

    Raises:
        UserError: not a run directory, or its config cannot be read.
    """
    out = console or Console(highlight=False)
    run = RunDirectory.open(run_dir)
    config, state = run.config, run.state()
    out.print(Text.assemble((config.name, "bold"), "  ", (state, _STATE_STYLES[state]), f"  {run.root}"))
    if reason := run.failure():
        out.print(Text(reason, style="red"))
    if not run.stages():
        out.print("no stage has begun yet")
    measured: list[tuple[StageDirectory, ValidationResult]] = []
    for stage in run.stages():
        try:
            _show_stage(out, run, stage)
            measured += [(stage, result) for result in read_validations(stage)]
        except UserError as error:
            out.print(Text(str(error), style="red"))
    if measured:
        out.print(_accuracies(run, measured))
        _show_samples(out, run, [m for m in measured if m[1].name == HELD_OUT])
    _show_winners(out, run)
    if run.report_html.exists():
        out.print(Text(f"report: {run.report_html}"), soft_wrap=True)


def _show_stage(out: Console, run: RunDirectory, stage: StageDirectory) -> None:
    totals = {"sft": run.config.sft.steps, "rl": run.config.rl.steps}
    rows = read_metrics(stage.metrics)
    done, total = (rows[-1]["step"] if rows else 0), totals[stage.name]
    out.print()
    line = f"{stage.name}  step {done} of {total}"
    if run.state() == "running" and 0 < done < total and (pace := _seconds_a_step(stage)):
        line += f"  eta {format_seconds(pace * (total - done))}"
    out.print(Text(line, style="bold"))
    kept = ", ".join(str(checkpoint.step) for checkpoint in list_checkpoints(stage.checkpoints))
    out.print(Text(f"checkpoints: {kept or 'none yet'}{_best(stage)}"))
    if rows:
        out.print(_last_metrics(rows[-1]))


def _seconds_a_step(stage: StageDirectory) -> float | None:
    """The median of the last steps: a pause before a resume, or a validation, does not count."""
    rows = read_metrics(stage.timings)[-_ETA_STEPS:]
    paces = [(b["time"] - a["time"]) / (b["step"] - a["step"]) for a, b in pairwise(rows)]
    return median(paces) if paces else None


def _best(stage: StageDirectory) -> str:
    results = [r for r in read_validations(stage) if r.name == HELD_OUT]
    if not results:
        return ""
    best = max(results, key=lambda r: r.accuracy)
    kept = {checkpoint.step for checkpoint in list_checkpoints(stage.checkpoints)}
    where = "kept" if best.step in kept else "its checkpoint is not kept"
    latest = latest_checkpoint(stage.checkpoints)
    newest = ", the newest" if latest and latest.step == best.step else ""
    return f"; best held-out accuracy {percent(best.accuracy)} at step {best.step} ({where}{newest})"


def _last_metrics(row: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    numbers = [(k, v) for k, v in row.items() if k not in ("step", "non_finite")]
    for name, value in (row.get("non_finite") or {}).items():
        numbers = [(k, value if k == name else v) for k, v in numbers]
    for start in range(0, len(numbers), 3):
        table.add_row(*(Text(f"{k} {format_number(v)}") for k, v in numbers[start : start + 3]))
    return table


def _accuracies(run: RunDirectory, measured: list[tuple[StageDirectory, ValidationResult]]) -> Table:
    sources = sorted({source for _, result in measured for source in result.by_source})
    table = Table(title="held-out accuracy, 95 % interval", title_justify="left", title_style="bold")
    for name in ("measured", "all", *sources):
        table.add_column(Text(name), justify="left" if name == "measured" else "right")
    for stage, result in measured:
        label = moment(run, stage, result.step)
        label += "" if result.name == HELD_OUT else f", {result.name}"
        parts = [result.by_source.get(source) for source in sources]
        cells = [f"{p['accuracy'] * 100:.1f}" if p else "-" for p in parts]
        low, high = result.ci95
        table.add_row(Text(label), f"{result.accuracy * 100:.1f} ({low * 100:.1f}-{high * 100:.1f})", *cells)
    return table


def _show_samples(
    out: Console, run: RunDirectory, held_out: list[tuple[StageDirectory, ValidationResult]]
) -> None:
    if not held_out:
        return
    stage, result = held_out[-1]
    try:
        path = rollouts_path(stage, result)
        chosen = choose_prompts(read_sources(path), _SAMPLES)
        groups = {group.prompt.id: group for group in read_rollouts(path, chosen)}
    except UserError as error:
        out.print(Text(str(error), style="red"))
        return
    out.print(Text(f"\nsamples {moment(run, stage, result.step)}", style="bold"))
    for prompt_id in chosen:
        prompt, rollout = groups[prompt_id].prompt, groups[prompt_id].rollouts[0]
        status = rollout.verdict.status if rollout.verdict else "ungraded"
        style = {"correct": "green", "wrong": "red"}.get(status, "yellow")
        # Text, never markup: what a model wrote may hold brackets and control characters.
        out.print(Text.assemble(("> ", "bold"), _printable(prompt.messages[-1]["content"])))
        out.print(Text(_printable(rollout.text), style="dim"))
        out.print(Text.assemble((status, style), f", answer {_printable(prompt.ground_truth)}\n"))


def _show_winners(out: Console, run: RunDirectory) -> None:
    """What the reward of RL's last step paid at its edges."""
    try:
        winners = [w for stage in run.stages() if stage.name == "rl" for w in recent_winners(run, stage)]
    except UserError as error:
        out.print(Text(str(error), style="red"))
        return
    for winner in winners:
        tokens = len(winner.rollout.response_ids)
        out.print(Text(f"of the last step, {TITLES[winner.kind]}: {tokens} tokens", style="bold"))
        out.print(Text.assemble(("> ", "bold"), _printable(winner.prompt.messages[-1]["content"])))
        out.print(Text(_printable(winner.rollout.text) + "\n", style="dim"))


def _printable(text: str) -> str:
    cut = text if len(text) <= _SAMPLE_CHARACTERS else text[:_SAMPLE_CHARACTERS] + " [...]"
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in cut)
