"""SIMULATED: how long steps take under each schedule when lengths are heavy-tailed.

    python benchmarks/schedulers.py                              # log-normal lengths
    python benchmarks/schedulers.py --lengths RUN                # those a run recorded
    python benchmarks/schedulers.py --lengths REPLIES.json.gz --mean 2000    # a model's stored replies

Replies are LiveCodeBench's `*_eval_all.json`; their lengths in characters are scaled to a mean in tokens.

The collectors are the real ones; the sampler is a clock. It decodes so many sequences at a time, each at so
many tokens a second, and the trainer takes so many seconds a step. No model runs.
"""

import argparse
import gzip
import heapq
import json
import random
import statistics
from collections import deque
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vlrl.collect.build import make_collector
from vlrl.collect.requests import EncodedPrompt
from vlrl.config import RunConfig, build_config
from vlrl.policy.processor import Encoded
from vlrl.runs.directory import RunDirectory
from vlrl.runs.rollouts import read_rollouts
from vlrl.sampling.base import SampleRequest
from vlrl.trajectory import Group, Prompt, Segment, Verdict

LONGEST = 16384
SCHEDULES: dict[str, dict[str, Any]] = {
    "synchronous": {},
    "partial, 4096 a phase": {"partial": {"phase_tokens": 4096, "loss_segments": "all"}},
    "one step off": {"max_lag": 1},
    "streaming, lag 4": {"max_lag": 4},
    "streaming, lag 8": {"max_lag": 8},
}


class Clock:
    """A sampler of `slots` sequences at `speed` tokens a second each, in virtual time."""

    def __init__(self, lengths: list[int], slots: int, speed: float) -> None:
        self.policy_version, self.now, self.busy_slot_seconds = 0, 0.0, 0.0
        self._lengths, self._slots, self._speed = lengths, slots, speed
        self._queue: deque[SampleRequest] = deque()
        self._running: list[tuple[float, int, str, int, int, str]] = []
        self._finished: deque[tuple[str, list[Segment]]] = deque()
        self._count = 0

    @property
    def busy_seconds(self) -> float:
        return self.now

    def submit(self, requests: list[SampleRequest]) -> None:
        self._queue.extend(requests)
        self._fill()

    def take(self, timeout: float) -> tuple[str, list[Segment]]:
        while not self._finished:
            assert self._running, "waiting for nothing"
            self._pass(self._running[0][0])
        return self._finished.popleft()

    def sample(self, requests: list[SampleRequest], timeout: float) -> list[list[Segment]]:
        self.submit(requests)
        found = dict(self.take(timeout) for _ in requests)
        return [found[request.request_id] for request in requests]

    def train(self, seconds: float) -> None:
        """The trainer works; sampling goes on."""
        end = self.now + seconds
        while self._running and self._running[0][0] <= end:
            self._pass(self._running[0][0])
        self._pass(end)

    def _pass(self, until: float) -> None:
        self.busy_slot_seconds += len(self._running) * (until - self.now)
        self.now = until
        while self._running and self._running[0][0] <= until:
            _, _, name, version, tokens, reason = heapq.heappop(self._running)
            segment = Segment([5] * tokens, [0.0] * tokens, version, [1] * tokens, reason)  # type: ignore[arg-type]
            self._finished.append((name, [segment]))
        self._fill()

    def _fill(self) -> None:
        while self._queue and len(self._running) < self._slots:
            request = self._queue.popleft()
            whole = random.Random(request.seed).choice(self._lengths)
            left = whole - sum(len(s.token_ids) for s in request.segments)
            tokens = min(left, request.pause_after or left)
            reason = "stop" if tokens == left else "paused"
            self._count += 1
            entry = (self.now + tokens / self._speed, self._count, request.request_id)
            heapq.heappush(self._running, (*entry, self.policy_version, tokens, reason))


class Fair:
    """Grades without looking."""

    def grade(self, groups: list[Group]) -> None:
        for group in groups:
            for rollout in group.rollouts:
                rollout.verdict = Verdict(1.0, "correct")


class NoText:
    """Stands for a processor: nobody reads these responses."""

    def decode(self, ids: list[int]) -> str:
        return ""


def main() -> None:
    arguments = _arguments()
    lengths = _lengths(arguments)
    mean = sum(lengths) / len(lengths)
    title = f"SIMULATED: {arguments.steps} steps, {len(lengths)} lengths of {mean:.0f} tokens on average"
    table = Table("schedule", "seconds a step", "times", "sampler", "trainer", "lag", title=title)
    first = 0.0
    for name, changes in SCHEDULES.items():
        seconds, sampler, lag = _simulate(_config(changes, arguments), lengths, arguments)
        first = first or seconds
        trainer = arguments.train_seconds / seconds
        cells = [f"{seconds:.0f}", f"{first / seconds:.2f}", f"{sampler:.0%}", f"{trainer:.0%}", f"{lag:.2f}"]
        table.add_row(name, *cells)
    Console().print(table)


def _simulate(
    config: RunConfig, lengths: list[int], arguments: argparse.Namespace
) -> tuple[float, float, float]:
    """Seconds a step, share of the sampler's slots in use, mean lag of a batch's oldest token."""
    clock = Clock(lengths, arguments.slots, arguments.speed)
    prompts = [EncodedPrompt(Prompt(f"{i}", [], [], "math", "1"), Encoded([i], [i])) for i in range(997)]
    collector = make_collector(prompts, clock, NoText(), Fair(), config)  # type: ignore[arg-type]
    lags = []
    for step in range(1, arguments.steps + 1):
        groups = collector.next_batch(step).groups
        lags.append(step - 1 - min(r.oldest_version for g in groups for r in g.rollouts))
        clock.train(arguments.train_seconds)
        clock.policy_version = step
    used = clock.busy_slot_seconds / (clock.now * arguments.slots)
    return clock.now / arguments.steps, used, sum(lags) / len(lags)


def _config(changes: dict[str, Any], arguments: argparse.Namespace) -> RunConfig:
    rl = {"steps": arguments.steps, "prompts_per_step": 48, "rollouts_per_prompt": 16} | changes
    rl |= {"max_response_tokens": LONGEST, "max_prompt_tokens": 1}
    tree = {"name": "simulated", "policy": {"path": "none"}, "data": {"train": [{"path": "none.jsonl"}]}}
    return build_config(tree | {"rl": rl, "trainer": {"tokens_per_micro_batch": LONGEST + 1}}, "simulation")


def _log_normal() -> list[int]:
    """Median 2000 tokens, a tail to the limit: the shape of reasoning traces."""
    generator = random.Random(0)
    return [min(LONGEST, 1 + int(generator.lognormvariate(7.6, 1.0))) for _ in range(10_000)]


def _lengths(arguments: argparse.Namespace) -> list[int]:
    if arguments.lengths is None:
        lengths = _log_normal()
    elif arguments.lengths.is_dir():
        lengths = _of_run(arguments.lengths)
    else:
        lengths = _of_replies(arguments.lengths)
    if arguments.mean:
        scale = arguments.mean / statistics.mean(lengths)
        lengths = [min(LONGEST, max(1, round(scale * length))) for length in lengths]
    return lengths


def _of_run(root: Path) -> list[int]:
    stage = RunDirectory.open(root).stage("rl")
    paths = sorted((stage.root / "rollouts").glob("*.parquet"))
    return [len(r.response_ids) for path in paths for g in read_rollouts(path) for r in g.rollouts]


def _of_replies(path: Path) -> list[int]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        return [len(reply) for problem in json.load(stream) for reply in problem["output_list"]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=Path, help="a run, or a file of replies, whose lengths are used")
    parser.add_argument("--mean", type=float, help="scale the lengths to this many tokens on average")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--slots", type=int, default=256, help="sequences decoded at a time")
    parser.add_argument("--speed", type=float, default=50.0, help="tokens a second of each")
    parser.add_argument("--train-seconds", type=float, default=120.0, help="of the trainer a step")
    return parser.parse_args()


if __name__ == "__main__":
    main()
