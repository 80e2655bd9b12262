"""`report.html`, one page that needs nothing but itself, and `report.json`.

The page shows what the run directory holds: held-out accuracy with its intervals, rollouts of the same
prompts before and after, the curves of every metric, the time, the config. Everything that comes from a
model or a data set is escaped, and a content policy forbids scripts and requests besides.
"""

import math
import time
from html import escape
from typing import Any

from vlrl.runs.directory import RunDirectory, StageDirectory
from vlrl.runs.files import read_json, write_json, write_text
from vlrl.runs.metrics import read_metrics
from vlrl.runs.progress import format_number, format_seconds
from vlrl.runs.report_rollouts import choose_prompts, prompt_card
from vlrl.runs.report_style import STYLE
from vlrl.runs.rollouts import read_rollouts, read_sources
from vlrl.runs.svg import Series, line_chart
from vlrl.runs.validation_files import HELD_OUT, ValidationResult, read_validations, rollouts_path
from vlrl.runs.winners import TITLES, recent_winners
from vlrl.trajectory import Group

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STAGE_TITLES = {"sft": "SFT", "rl": "RL"}
# Metrics shown above the fold, in this order; SFT has few of them.
_HEADLINE = [
    *("reward", "accuracy", "loss", "response_tokens", "tokens", "entropy_mean", "truncation_rate"),
    *("collapse", "lag_mean", "mismatch_k3_mean", "behaviour_k3_mean", "grad_norm", "lr"),
]
_MAX_SOURCE_LINES = 5
_FULL_ROWS = 14
_WINNER_STEPS = 5

Measurement = tuple[StageDirectory, ValidationResult]


def write_report(run: RunDirectory, summary: dict[str, Any]) -> None:
    """Write `report.json` (the summary as it is) and `report.html` from the run directory.

    `summary` may hold `sft_accuracy`, `rl_accuracy`, `rl_accuracy_ci` (low, high),
    `blank_image_accuracy`, `text_accuracy`, `rl_steps` and `seconds` by stage; what is absent or None is
    not shown.

    Raises:
        UserError: the disk is full, or a file of the run is damaged.
    """
    write_json(run.report_json, summary)
    measured = [(stage, result) for stage in run.stages() for result in read_validations(stage)]
    sections = [
        _head(run, summary),
        _accuracy(run, measured),
        _rollouts(run, [m for m in measured if m[1].name == HELD_OUT]),
        *(_winners(run, stage) for stage in run.stages() if stage.name == "rl"),
        *(_curves(stage) for stage in run.stages()),
        _seconds(summary.get("seconds") or {}),
        _record(run),
    ]
    title = escape(run.config.name)
    write_text(
        run.report_html,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} - vlrl run</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n",
    )


def moment(run: RunDirectory, stage: StageDirectory, step: int) -> str:
    """How people call a step: `before RL`, `RL step 20`, `after RL`."""
    title = _STAGE_TITLES.get(stage.name, stage.name)
    steps = {"sft": run.config.sft.steps, "rl": run.config.rl.steps}
    if step == 0:
        return f"before {title}"
    return f"after {title}" if step == steps.get(stage.name) else f"{title} step {step}"


def percent(value: float) -> str:
    return f"{value * 100:.1f} %"


def _head(run: RunDirectory, summary: dict[str, Any]) -> str:
    config = run.config
    init = config.policy.init
    origin = f"{init.size} {init.architecture} from random weights" if init else config.policy.path
    # The run that writes its last report is still running: only an end is worth a mark.
    state = run.state()
    mark = "" if state == "running" else f' <span class="verdict {state}">{state}</span>'
    tiles = _tiles(summary)
    return (
        f"<h1>{escape(config.name)}{mark}</h1>"
        f'<p class="lead">{escape(str(origin))}, stages {escape(", ".join(config.stages))}, '
        f"objective {escape(config.objective.name)}, seed {config.seed}; "
        f"written {time.strftime('%Y-%m-%d %H:%M')}</p>"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _tiles(summary: dict[str, Any]) -> list[str]:
    before, after, interval = (summary.get(k) for k in ("sft_accuracy", "rl_accuracy", "rl_accuracy_ci"))
    tiles = []
    if before is not None:
        tiles.append(_tile("accuracy after SFT", percent(before)))
    if after is not None:
        below = f"95 %: {interval[0] * 100:.1f}-{interval[1] * 100:.1f}" if interval else ""
        if before is not None:
            below += f"{', ' if below else ''}{(after - before) * 100:+.1f} points"
        tiles.append(_tile("accuracy after RL", percent(after), below))
    for key, title in (("blank_image_accuracy", "images blanked"), ("text_accuracy", "text only")):
        if summary.get(key) is not None:
            tiles.append(_tile(title, percent(summary[key])))
    if summary.get("rl_steps") is not None:
        tiles.append(_tile("RL steps", format_number(summary["rl_steps"])))
    if summary.get("seconds"):
        tiles.append(_tile("time in all", format_seconds(math.fsum(summary["seconds"].values()))))
    return tiles


def _tile(title: str, value: str, below: str = "") -> str:
    small = f"<small>{escape(below)}</small>" if below else ""
    return f'<div class="card tile"><span>{escape(title)}</span><b>{escape(value)}</b>{small}</div>'


def _accuracy(run: RunDirectory, measured: list[Measurement]) -> str:
    if not measured:
        return ""
    first = measured[0][1]
    note = (
        f"mean@{first.k:g} over {first.n} held-out prompts. Intervals are 95 % (Wilson at the effective "
        "sample size, clustered by prompt); samples that could not be graded are left out, not counted wrong."
    )
    held_out = {
        stage: [r for s, r in measured if s == stage and r.name == HELD_OUT] for stage in run.stages()
    }
    courses = {stage: results for stage, results in held_out.items() if len(results) > 1}
    charts = [_accuracy_chart(stage, results, 1060 // len(courses)) for stage, results in courses.items()]
    return (
        f'<h2>Held-out accuracy</h2><p class="note">{escape(note)}</p>'
        f'<div class="wide">{"".join(charts)}</div>{_accuracy_table(run, measured)}'
    )


def _accuracy_chart(stage: StageDirectory, results: list[ValidationResult], width: int) -> str:
    overall = Series(
        "all",
        [(r.step, r.accuracy) for r in results],
        bounds=[r.ci95 for r in results],
        dots=True,
    )
    sources = sorted({source for r in results for source in r.by_source})
    lines = [
        Series(
            source,
            [(r.step, r.by_source[source]["accuracy"] if source in r.by_source else None) for r in results],
            style=f"s{number}",
        )
        for number, source in enumerate(sources, start=1)
    ]
    if not 1 < len(sources) <= _MAX_SOURCE_LINES:
        lines = []
    series = [*lines, overall]
    legend = "".join(f'<span><i class="{s.style}"></i>{escape(s.label)}</span>' for s in [overall, *lines])
    title = _STAGE_TITLES.get(stage.name, stage.name)
    return (
        f'<div class="card chart"><header><span>{escape(title)}, by step</span>'
        f"<b>{percent(results[-1].accuracy)}</b></header>"
        f'<div class="legend">{legend}</div>'
        f"{line_chart(series, width, 240, y_range=(0, 1), percent=True)}</div>"
    )


def _accuracy_table(run: RunDirectory, measured: list[Measurement]) -> str:
    sources = sorted({source for _, r in measured for source in r.by_source})
    head = "".join(f"<th>{escape(name)}</th>" for name in ("measured", "all", *sources, "mean tokens"))
    rows = [_accuracy_row(run, m, sources) for m in measured]
    body, folded = "".join(rows), ""
    if len(rows) > _FULL_ROWS:
        # The ends tell the story; the middle is one click away.
        body = "".join(rows[:2] + rows[-4:])
        folded = _fold(f"all {len(rows)} measurements", _table(head, "".join(rows)))
    return f'<div class="card scroll" style="margin:14px 0">{_table(head, body)}</div>{folded}'


def _accuracy_row(run: RunDirectory, measurement: Measurement, sources: list[str]) -> str:
    stage, result = measurement
    label = moment(run, stage, result.step)
    if result.name != HELD_OUT:
        label += f", {result.name.replace('_', ' ')}"
    cells = [_interval(result.accuracy, result.ci95, key=True)]
    for source in sources:
        part = result.by_source.get(source)
        cells.append(_interval(part["accuracy"], part["ci95"]) if part else "<td>-</td>")
    return f"<tr><th>{escape(label)}</th>{''.join(cells)}<td>{result.mean_tokens:.1f}</td></tr>"


def _interval(accuracy: float, ci95: Any, key: bool = False) -> str:
    low, high = ci95
    value = f'<span class="key">{percent(accuracy)}</span>' if key else percent(accuracy)
    return f"<td>{value}<small>{low * 100:.1f}-{high * 100:.1f}</small></td>"


def _table(head: str, body: str) -> str:
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _rollouts(run: RunDirectory, held_out: list[Measurement]) -> str:
    if not held_out:
        return ""
    rl = [m for m in held_out if m[0].name == "rl"]
    # Before and after RL where RL was measured twice, else before and after all there is.
    first, last = (rl[0], rl[-1]) if len(rl) > 1 else (held_out[0], held_out[-1])
    shown = [first] if first == last else [first, last]
    paths = [rollouts_path(stage, result) for stage, result in shown]
    sources = [read_sources(path) for path in paths]
    chosen = choose_prompts({i: source for i, source in sources[-1].items() if i in sources[0]})
    groups = [{group.prompt.id: group for group in read_rollouts(path, chosen)} for path in paths]
    titles = [moment(run, stage, result.step) for stage, result in shown]
    cards = []
    for prompt_id in chosen:
        columns = [(title, g[prompt_id].rollouts[0]) for title, g in zip(titles, groups, strict=True)]
        cards.append(prompt_card(groups[-1][prompt_id], columns, run.images))
    note = (
        f"{len(cards)} held-out prompts in equal shares of sources, chosen by a hash of their ids and so not "
        f"by how they went; the first sample of each, {' and '.join(titles)}."
    )
    return f'<h2>Rollouts, {" and ".join(titles)}</h2><p class="note">{note}</p>{"".join(cards)}'


def _winners(run: RunDirectory, stage: StageDirectory) -> str:
    winners = recent_winners(run, stage, _WINNER_STEPS)
    if not winners:
        return ""
    cards = []
    for winner in winners:
        verdict = winner.rollout.verdict
        earned = f", reward {verdict.reward:.3g}" if verdict else ""
        title = f"{TITLES[winner.kind]}: {len(winner.rollout.response_ids)} tokens{earned}"
        cards.append(prompt_card(Group(winner.prompt, []), [(title, winner.rollout)], run.images))
    note = f"Of the last {_WINNER_STEPS} training steps: what the reward paid at its edges."
    return f'<h2>Winners to look at</h2><p class="note">{note}</p>{"".join(cards)}'


def _curves(stage: StageDirectory) -> str:
    rows, timings = read_metrics(stage.metrics), read_metrics(stage.timings)
    charts = {name: _metric_chart(name, rows) for name in _numeric_names(rows)}
    clocks = [_metric_chart(name, timings) for name in _numeric_names(timings)]
    headline = [name for name in _HEADLINE if name in charts]
    rest = [charts[name] for name in charts if name not in headline] + clocks
    if not charts and not clocks:
        return ""
    more = _fold(f"{len(rest)} more", f'<div class="charts">{"".join(rest)}</div>') if rest else ""
    return (
        f"<h2>{escape(_STAGE_TITLES.get(stage.name, stage.name))} training curves</h2>"
        f'<div class="charts" style="margin-bottom:14px">{"".join(charts[n] for n in headline)}</div>{more}'
    )


def _numeric_names(rows: list[dict[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            if (
                name not in ("step", "time")
                and isinstance(value, (int, float))
                and not isinstance(value, bool)
            ):
                names[name] = None
    return list(names)


def _metric_chart(name: str, rows: list[dict[str, Any]]) -> str:
    points = [(row["step"], row[name]) for row in rows if name in row]
    last = next((y for _, y in reversed(points) if y is not None), None)
    return (
        f'<div class="card chart"><header><span>{escape(name)}</span><b>{format_number(last)}</b></header>'
        f"{line_chart([Series(name, points)])}</div>"
    )


def _seconds(seconds: dict[str, float]) -> str:
    if not seconds:
        return ""
    longest = max(seconds.values()) or 1
    rows = "".join(
        f'<span>{escape(stage)}</span><i style="width:{value / longest * 100:.1f}%"></i>'
        f"<span>{format_seconds(value)}</span>"
        for stage, value in seconds.items()
    )
    return f'<h2>Where the time went</h2><div class="card seconds">{rows}</div>'


def _record(run: RunDirectory) -> str:
    config = _fold("config.yaml", f"<pre>{escape(run.config_path.read_text(encoding='utf-8'))}</pre>")
    derived = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{value:,}</td></tr>"
        for name, value in run.config.derived().items()
    )
    parts = [config, _fold("batch numbers that follow from it", f"<table><tbody>{derived}</tbody></table>")]
    if run.environment_path.exists():
        starts = read_json(run.environment_path)["starts"]
        rows = "".join(_start_rows(start) for start in starts)
        parts.append(_fold("environment", f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'))
    return f"<h2>How it was made</h2>{''.join(parts)}"


def _start_rows(start: dict[str, Any]) -> str:
    git = start.get("git") or {}
    facts = {
        "started": start["time"],
        "command": " ".join(start["command"]),
        "commit": f"{git['commit']}{' (with changes)' if git['dirty'] else ''}" if git else "-",
        "machine": f"{start['cpu']}, {start['cores']} cores, {start['memory_gb']} GB",
        "versions": ", ".join(
            f"{k} {v}" for k, v in {"python": start["python"], **start["versions"]}.items()
        ),
    }
    return "".join(
        f'<tr><th>{k}</th><td style="white-space:normal">{escape(v)}</td></tr>' for k, v in facts.items()
    )


def _fold(title: str, body: str) -> str:
    return f'<details class="card fold"><summary>{escape(title)}</summary>{body}</details>'
