"""Forced interruption on a trained policy: does an answer come of a thinking that was cut short?

    python benchmarks/interruption.py runs/quickstart --thinking 48 --answer 24

Samples the held-out prompts of a finished run from its last weights, once without a thinking budget and once
with one, and counts.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vlrl.collect.requests import ThinkingBudget, make_groups, make_requests
from vlrl.config import build_config
from vlrl.launch import set_environment
from vlrl.runs.checkpoints import latest_checkpoint
from vlrl.runs.directory import RunDirectory
from vlrl.trajectory import Rollout


def main() -> None:
    arguments = _arguments()
    set_environment(threads=2)
    from vlrl.training.ranks import start_ranks
    from vlrl.training.session import Session

    run = RunDirectory.open(arguments.run)
    checkpoint = latest_checkpoint(run.stages()[-1].checkpoints)
    assert checkpoint is not None, f"{arguments.run} has no checkpoint"
    tree = run.config.model_dump(mode="json")
    tree["rl"]["interruption"] = {
        "thinking_tokens": [arguments.thinking, arguments.thinking],
        "answer_tokens": arguments.answer,
        "phrase": arguments.phrase,
    }
    config = build_config(tree, str(arguments.run))
    data = {part: sorted(run.data.glob(f"{part}_*.jsonl")) for part in ("warmup", "train", "validation")}
    table = Table("budget", "rollouts", "longest", "interrupted", "correct", "correct of the interrupted")
    with tempfile.TemporaryDirectory() as scratch:
        own = RunDirectory.create(Path(scratch) / "run", config, ["interruption.py"])
        policy = str(checkpoint.path / "policy")
        with Session(config, own, start_ranks(2), policy, data) as session:
            prompts = [p for part in session.held_out().values() for p in part]
            budget = ThinkingBudget.of(config.rl, session.processor)
            assert budget is not None
            total = arguments.thinking + len(budget.phrase_ids) + arguments.answer
            for name, used in (("none", None), (f"{arguments.thinking}", budget)):
                requests = make_requests(
                    prompts,
                    arguments.samples,
                    seed=1,
                    purpose=("interruption",),
                    max_tokens=config.rl.max_response_tokens,
                    temperature=1.0,
                    budget=used,
                )
                sampled = session.sampler.sample(requests, config.sampling.timeout_s)
                groups = make_groups(prompts, sampled, session.processor)
                session.grader.grade(groups)
                rollouts = [rollout for group in groups for rollout in group.rollouts]
                if used is not None:
                    _check(rollouts, budget.phrase_ids, arguments.thinking, total)
                table.add_row(name, *_row(rollouts))
    Console().print(table)


def _check(rollouts: list[Rollout], phrase: list[int], thinking: int, total: int) -> None:
    """Who was interrupted carries the phrase, unlearned, where the budget ends; nobody exceeds the total."""
    for rollout in rollouts:
        injected = [s for s in rollout.segments if s.is_injected]
        if injected:
            assert len(rollout.response_ids) <= total
            assert rollout.response_ids[thinking : thinking + len(phrase)] == phrase
            assert rollout.loss_mask[thinking : thinking + len(phrase)] == [0] * len(phrase)
            assert sum(rollout.loss_mask) == len(rollout.response_ids) - len(phrase)


def _row(rollouts: list[Rollout]) -> list[str]:
    interrupted = [r for r in rollouts if any(s.is_injected for s in r.segments)]
    longest = max(len(r.response_ids) for r in rollouts)
    return [
        str(len(rollouts)),
        str(longest),
        _share(len(interrupted), len(rollouts)),
        _share(_correct(rollouts), len(rollouts)),
        _share(_correct(interrupted), len(interrupted)),
    ]


def _correct(rollouts: list[Rollout]) -> int:
    return sum(r.verdict is not None and r.verdict.status == "correct" for r in rollouts)


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else "0"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--thinking", type=int, default=48, help="tokens of thinking; default: 48")
    parser.add_argument("--answer", type=int, default=24, help="tokens of the answer; default: 24")
    parser.add_argument("--phrase", default="so</think>", help="what closes the thinking")
    parser.add_argument("--samples", type=int, default=4, help="rollouts a prompt; default: 4")
    return parser.parse_args()


if __name__ == "__main__":
    main()
