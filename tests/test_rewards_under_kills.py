"""Mixed gradings from several threads while their processes are killed at random.

None is lost, none is wrong, and those that a kill took are errors, which a second grading mends.
"""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Killer
from vlrl.config.rewards import RewardConfig
from vlrl.config.sandbox import SandboxConfig
from vlrl.rewards.grader import Grader
from vlrl.trajectory import Group, Prompt, Rollout, Segment

THREADS = 4
GROUP = 5


def _case(number: int, draw: random.Random, user: str) -> tuple[Group, list[str]]:
    """A prompt with five responses and their statuses; every `number` differs, so nothing is in a cache."""
    n, right = number + 2, [draw.random() < 0.5 for _ in range(GROUP)]
    kind = ("pool", "number", "numeric", "exact", "code", "user")[number % 6]
    prompt, answers = {
        "pool": lambda: (_prompt("math", f"x^{{2}}-{n}x"), [f"x(x-{n if r else n + 1})" for r in right]),
        "number": lambda: (_prompt("math", f"{n}/7"), [f"\\frac{{{n + (not r)}}}{{7}}" for r in right]),
        "numeric": lambda: (
            _prompt("numeric", str(n), tolerance=0.5),
            [f"{n + (0.25 if r else 0.75)}" for r in right],
        ),
        "exact": lambda: (_prompt("exact", f"label{n}"), [f"label{n if r else n + 1}" for r in right]),
        "code": lambda: (
            _prompt("code", json.dumps([{"input": f"{n}\n", "output": f"{n * 3}\n"}])),
            [f"print(int(input()) * {3 if r else 4}) # {i}" for i, r in enumerate(right)],
        ),
        "user": lambda: (_prompt("math", str(n), source="user"), [f"{n if r else n + 1}" for r in right]),
    }[kind]()
    statuses = ["correct" if r else "wrong" for r in right]
    texts = [f"```\n{a}\n```" if kind == "code" else f"\\boxed{{{a}}}" for a in answers]
    if draw.random() < 0.1:
        texts[0], statuses[0] = "none given", "no_answer"
    return Group(prompt, [_rollout(i, text) for i, text in enumerate(texts)]), statuses


def _prompt(verifier: str, gold: str, source: str = "default", **extra: Any) -> Prompt:
    return Prompt(gold, [{"role": "user", "content": "?"}], [], verifier, gold, source, extra)


def _rollout(index: int, text: str) -> Rollout:
    return Rollout("p", index, [1], [Segment([2], [-0.5], 0, [1], "stop")], text=text)


def _check(count: int, every_s: float, tmp_path: Path) -> None:
    same = "def same(submission):\n    return submission.answer == submission.prompt.ground_truth\n"
    (tmp_path / "mine.py").write_text(same)
    config = RewardConfig(
        sources={"user": [{"verifier": f"{tmp_path}/mine.py:same"}]},  # type: ignore[list-item]
        workers=2,
        timeout_s=10.0,
    )
    draw = random.Random(0)
    cases = [_case(number, draw, str(tmp_path)) for number in range(count // GROUP)]
    batches = [[group for group, _ in cases[start : start + 20]] for start in range(0, len(cases), 20)]
    with Grader(config, sandbox=SandboxConfig(workers=2)) as grader:
        grader.check([group.prompt for group, _ in cases[:6]])
        with (
            Killer("grading_process", "inside.zygote", every_s=every_s) as killer,
            ThreadPoolExecutor(THREADS) as threads,
        ):
            for future in [threads.submit(grader.grade, batch) for batch in batches]:
                future.result()
        errors = _compare(cases)
        print(f"{count} gradings, {killer.kills} kills, {errors} errors")
        assert killer.kills > 0
        # A kill takes at most the gradings under way; in the sandbox it is tried again first.
        assert errors <= 4 * killer.kills
        lost = [group for group, _ in cases if any(r.verdict and r.verdict.is_error for r in group.rollouts)]
        grader.grade(lost)
        assert _compare(cases) == 0


def _compare(cases: list[tuple[Group, list[str]]]) -> int:
    """How many were errors; whatever was graded must be right."""
    errors = 0
    for group, statuses in cases:
        for rollout, status in zip(group.rollouts, statuses, strict=True):
            verdict = rollout.verdict
            assert verdict is not None
            if verdict.is_error:
                errors += 1
            else:
                assert (verdict.status, group.prompt) == (status, group.prompt), rollout.text
    return errors


def test_mixed_gradings_under_kills(tmp_path: Path) -> None:
    _check(1_500, 0.3, tmp_path)


@pytest.mark.slow
def test_ten_thousand_mixed_gradings_under_kills(tmp_path: Path) -> None:
    _check(10_000, 0.25, tmp_path)
