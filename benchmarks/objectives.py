"""The same warmed-up policy under each objective, several seeds each: does every one of them learn?

    python benchmarks/objectives.py runs/quickstart --steps 60 --out docs/objectives_table.md

Starts from the last SFT checkpoint of a finished quickstart. Runs lie under runs/objectives/ and are kept, so
that the table can be printed again without training.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

OBJECTIVES = {
    "omd": [
        "objective.name=omd",
        "objective.tau=0.1",
        "objective.reset_optimizer=false",
        "rl.updates_per_step=2",
    ],
    "scalerl": ["objective.name=cispo", "objective.aggregation=prompt", "objective.normalisation=batch"],
    "grpo": ["objective.name=grpo"],
}


def main() -> None:
    arguments = _arguments()
    policy = max((arguments.run / "sft" / "checkpoints").glob("step_*")) / "policy"
    rows = {
        name: [_train(name, overrides, seed, policy, arguments) for seed in range(1, arguments.seeds + 1)]
        for name, overrides in OBJECTIVES.items()
        if name in arguments.objectives
    }
    table = Table(
        "objective", "seed", "start", "end", "gain", title=f"held-out mean@4, {arguments.steps} steps"
    )
    for name, results in rows.items():
        for seed, (start, end) in enumerate(results, start=1):
            table.add_row(name, str(seed), f"{start:.3f}", f"{end:.3f}", f"{end - start:+.3f}")
        gains = [end - start for start, end in results]
        table.add_row(name, "median", "", "", f"{statistics.median(gains):+.3f}", end_section=True)
    Console().print(table)
    if arguments.out:
        arguments.out.write_text(_markdown(rows, arguments))


def _train(
    name: str, overrides: list[str], seed: int, policy: Path, arguments: argparse.Namespace
) -> tuple[float, float]:
    run = Path("runs/objectives") / f"{name}_{seed}"
    if not (run / "report.json").is_file():
        command = [
            sys.executable,
            "-m",
            "vlrl.cli",
            "train",
            "configs/quickstart.yaml",
            "--run-dir",
            str(run),
        ]
        command += ["stages=[rl]", "policy.init=null", f"policy.path={policy}", f"seed={seed}"]
        command += [f"rl.steps={arguments.steps}", "rl.validate_every=null", "validation.blank_images=false"]
        subprocess.run(command + overrides + (["--resume"] if run.exists() else []), check=True)
    report = json.loads((run / "report.json").read_text())
    return report["start_accuracy"], report["rl_accuracy"]


def _markdown(rows: dict[str, list[tuple[float, float]]], arguments: argparse.Namespace) -> str:
    command = f"python benchmarks/objectives.py {arguments.run} --steps {arguments.steps}"
    lines = [
        "# One warm-up, several objectives",
        "",
        f"Held-out mean@4 over 256 prompts with images before and after {arguments.steps} RL steps of the "
        "quickstart, all from the last SFT checkpoint of one run. The seed draws prompts, held-out ones and "
        f"samples. Made by `{command}`.",
        "",
        "| objective | seed | start | end | gain |",
        "|---|---|---|---|---|",
    ]
    for name, results in rows.items():
        for seed, (start, end) in enumerate(results, start=1):
            lines.append(f"| {name} | {seed} | {start:.3f} | {end:.3f} | {end - start:+.3f} |")
        gains = [end - start for start, end in results]
        lines.append(f"| {name} | median | | | {statistics.median(gains):+.3f} |")
    settings = [f"- `{name}`: `{' '.join(OBJECTIVES[name])}`" for name in rows]
    return "\n".join(
        [*lines, "", "Everything but these settings is `configs/quickstart.yaml`:", "", *settings, ""]
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished quickstart")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--out", type=Path, help="write the table as markdown too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
