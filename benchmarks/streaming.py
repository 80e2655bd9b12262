"""Streaming beside synchronous iterations: the same warmed-up policy, the same steps, wall time and accuracy.

    python benchmarks/streaming.py runs/quickstart --steps 60 --out docs/streaming_table.md

Starts from the last SFT checkpoint of a finished quickstart. Synchronous runs give both engines every core
in turn, streaming ones one core to each. Runs lie under runs/streaming/ and are kept.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODES = {
    "synchronous": ["rl.max_lag=0", "trainer.threads=2", "sampling.threads=2"],
    "streaming, lag 1": ["rl.max_lag=1", "trainer.threads=1", "sampling.threads=1"],
    "streaming, lag 2": ["rl.max_lag=2", "trainer.threads=1", "sampling.threads=1"],
}
COLUMNS = ("mode", "start", "end", "stage, s", "a step, s", "trainer busy", "sampler busy", "largest lag")


@dataclass(slots=True)
class Measured:
    """One run: accuracies, seconds of the whole stage and of a median step, and each side's share at work."""

    start: float
    end: float
    stage: float
    step: float
    trainer: float
    sampler: float
    lag: float


def main() -> None:
    arguments = _arguments()
    policy = max((arguments.run / "sft" / "checkpoints").glob("step_*")) / "policy"
    rows = {
        mode: [_run(mode, overrides, seed, policy, arguments) for seed in range(1, arguments.seeds + 1)]
        for mode, overrides in MODES.items()
        if mode in arguments.modes
    }
    table = Table(*COLUMNS, title=f"{arguments.steps} steps, medians of {arguments.seeds} seeds")
    lines = [" | ".join(["", *COLUMNS, ""]).strip(), "|" + "---|" * len(COLUMNS)]
    for mode, measured in rows.items():
        cells = [mode, *_medians(measured)]
        table.add_row(*cells)
        lines.append(" | ".join(["", *cells, ""]).strip())
    Console().print(table)
    if arguments.out:
        command = f"python benchmarks/streaming.py {arguments.run} --steps {arguments.steps}"
        arguments.out.write_text("\n".join(["# Streaming", "", f"Made by `{command}`.", "", *lines, ""]))


def _run(mode: str, overrides: list[str], seed: int, policy: Path, arguments: argparse.Namespace) -> Measured:
    root = Path("runs/streaming") / f"{mode.replace(', ', '_').replace(' ', '_')}_{seed}"
    if not (root / "report.json").is_file():
        command = [
            sys.executable,
            "-m",
            "vlrl.cli",
            "train",
            "configs/quickstart.yaml",
            "--run-dir",
            str(root),
        ]
        command += ["stages=[rl]", "policy.init=null", f"policy.path={policy}", f"seed={seed}"]
        command += [f"rl.steps={arguments.steps}", "rl.validate_every=null", "validation.blank_images=false"]
        subprocess.run(command + overrides + (["--resume"] if root.exists() else []), check=True)
    report = json.loads((root / "report.json").read_text())
    timings, metrics = (
        [json.loads(line) for line in (root / "rl" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("timings", "metrics")
    )
    parts = ("generate", "reward", "train", "publish")
    # The first steps fill the pipeline.
    settled = timings[5:]
    whole = [sum(t[part] for part in parts) for t in settled]
    return Measured(
        report["start_accuracy"],
        report["rl_accuracy"],
        report["seconds"]["rl"],
        statistics.median(whole),
        sum(t["train"] for t in settled) / sum(whole),
        sum(t.get("sampler_busy", t["generate"]) for t in settled) / sum(whole),
        max(m["lag"] for m in metrics),
    )


def _medians(measured: list[Measured]) -> list[str]:
    def median(name: str) -> float:
        return statistics.median(getattr(m, name) for m in measured)

    return [
        f"{median('start'):.3f}",
        f"{median('end'):.3f}",
        f"{median('stage'):.0f}",
        f"{median('step'):.2f}",
        f"{median('trainer'):.0%}",
        f"{median('sampler'):.0%}",
        f"{max(m.lag for m in measured):.0f}",
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished quickstart")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--out", type=Path, help="write the table as markdown too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
