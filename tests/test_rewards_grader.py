import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vlrl.config.rewards import RewardConfig
from vlrl.errors import UserError
from vlrl.rewards.grader import Grader
from vlrl.trajectory import FinishReason, Group, Prompt, Rollout, Segment, Verdict

SHARED = Path(__file__).parents[2] / "shared" / "data"
MATH500 = SHARED / "math500" / "test.jsonl"
AIME = [SHARED / "aime" / f"qwq_aime{year}.jsonl" for year in (24, 25)]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(RewardConfig(timeout_s=5.0, wrong=-0.5)) as grader:
        yield grader


def _group(
    gold: str, *texts: str, verifier: str = "math", finish: FinishReason = "stop", **extra: Any
) -> Group:
    prompt = Prompt("row-7", [{"role": "user", "content": "?"}], [], verifier, gold, extra=extra)
    rollouts = [
        Rollout("row-7", i, [1], [Segment([2], [-0.5], 0, [1], finish)], text=text)
        for i, text in enumerate(texts)
    ]
    return Group(prompt, rollouts)


def _verdicts(grader: Grader, *groups: Group) -> list[Verdict]:
    grader.grade(list(groups))
    verdicts = [r.verdict for group in groups for r in group.rollouts]
    assert None not in verdicts
    return [v for v in verdicts if v is not None]


def test_every_status_and_its_reward(grader: Grader) -> None:
    right, equal, off, none, hedged = _verdicts(
        grader,
        _group(
            "x+1", "\\boxed{x+1}", "\\boxed{1+x}", "\\boxed{x+2}", "no box", "\\boxed{x+1 \\text{ or } x}"
        ),
    )
    assert right == Verdict(1.0, "correct", "x+1", "same_form")
    assert equal == Verdict(1.0, "correct", "1+x", "math_verify")
    assert off == Verdict(-0.5, "wrong", "x+2", "math_verify")
    assert none == Verdict(-0.5, "no_answer", None, "stop")
    assert hedged == Verdict(-0.5, "wrong", "x+1 \\text{ or } x", "hedged")
    cut, answered = _verdicts(grader, _group("5", "and then", "\\boxed{5} moreover", finish="length"))
    assert cut == Verdict(-0.5, "truncated", None, "length")
    assert answered.status == "correct"
    with Grader(RewardConfig(wrong=-0.5, repetition_penalty=0.25)) as strict:
        (again,) = _verdicts(strict, _group("5", "\\boxed{5}", finish="repetition"))
    assert again == Verdict(-0.75, "truncated", None, "repetition")
    (failed,) = _verdicts(grader, _group("5", "\\boxed{5}", finish="error"))
    assert failed == Verdict(0.0, "infra_error", None, "sampler_error")


def test_errors_are_no_wrong_answers() -> None:
    with Grader(RewardConfig(timeout_s=0.3, wrong=-1.0)) as grader:
        bomb, right = _verdicts(grader, group := _group("5", "\\boxed{9^{9^{9^9}}}", "\\boxed{5}"))
        assert bomb.status == "grader_error" and bomb.reward == 0.0 and bomb.rule.startswith("math: timeout")
        assert right.reward == 1.0
        assert group.rewards == [1.0]


def test_thinking_opened_by_the_generation_prompt() -> None:
    with Grader(RewardConfig(), thinking_open=True) as grader:
        unclosed, closed = _verdicts(grader, _group("5", "\\boxed{5}", "\\boxed{4}</think>\\boxed{5}"))
    assert unclosed.status == "no_answer" and closed.status == "correct"


def test_a_pair_goes_to_the_pool_once() -> None:
    with Grader(RewardConfig(timeout_s=0.5)) as grader:
        assert {v.status for v in _verdicts(grader, _group("x+y", *["\\boxed{y+x}"] * 8))} == {"correct"}
        start = time.monotonic()
        bombs = _verdicts(grader, _group("5", *["\\boxed{9^{9^{9^9}}}"] * 16))
        assert {v.status for v in bombs} == {"grader_error"}
        assert time.monotonic() - start < 4  # of the eight seconds that sixteen deadlines take


def test_exact(grader: Grader) -> None:
    answers = ["Red", "blue", "red or blue", "\\text{red}"]
    group = _group("red", *[f"<answer>{a}</answer>" for a in answers], verifier="exact")
    assert [v.status for v in _verdicts(grader, group)] == ["correct", "wrong", "wrong", "correct"]
    group = _group("1/2", "\\boxed{0.5}", "\\boxed{2^{-1}}", verifier="exact")
    assert [v.rule for v in _verdicts(grader, group)] == ["number", "different_form"]


def test_numeric(grader: Grader) -> None:
    answers = ["41.9", "42.1", "42.11", "$42", "42,41", "forty-three", "4200%"]
    group = _group("42", *[f"\\boxed{{{a}}}" for a in answers], verifier="numeric", tolerance=0.1)
    expected = ["correct", "correct", "wrong", "correct", "wrong", "wrong", "correct"]
    assert [v.status for v in _verdicts(grader, group)] == expected
    group = _group("45%", *[f"\\boxed{{{a}}}" for a in ("45", "0.45", "46%")], verifier="numeric")
    assert [v.status for v in _verdicts(grader, group)] == ["correct", "correct", "wrong"]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (_group("5", verifier="maths"), "row 'row-7': no verifier 'maths'; did you mean 'math'"),
        (_group("5", verifier="zzz"), "row 'row-7': no verifier 'zzz'; use one of math, exact, numeric"),
        (_group("red", verifier="numeric"), "row 'row-7': the ground truth 'red' is no plain number"),
        (_group("5", verifier="numeric", tolerance=-1), "row 'row-7': tolerance -1 must"),
        (_group("5", verifier="numeric", tolerance="wide"), "row 'row-7': tolerance 'wide' must"),
    ],
)
def test_prompts_that_cannot_be_graded_are_refused_by_name(
    grader: Grader, group: Group, message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        grader.check([group.prompt])


@pytest.mark.skipif(not MATH500.is_file(), reason=f"{MATH500} is not here")
def test_math500_gold_against_gold_and_against_the_next(grader: Grader, capsys: Any) -> None:
    rows = [json.loads(line) for line in MATH500.open()]
    golds = [row["answer"] for row in rows]
    own = _verdicts(grader, *[_group(gold, f"\\boxed{{{gold}}}") for gold in golds])
    solved = _verdicts(grader, *[_group(row["answer"], row["solution"]) for row in rows])
    # Through math-verify too, with a form the fast path does not take.
    shifted = _verdicts(
        grader,
        *[
            _group(gold, f"\\boxed{{{other}}}")
            for gold, other in zip(golds, golds[1:] + golds[:1], strict=True)
        ],
    )
    passed = {(gold, v.answer) for gold, v in zip(golds, shifted, strict=True) if v.status == "correct"}
    with capsys.disabled():
        print(f"\nMATH-500: gold {_correct(own)}/500, solution {_correct(solved)}/500, shifted {len(passed)}")
    assert _correct(own) == _correct(solved) == len(rows) == 500
    assert not any(v.is_error for v in shifted)
    # Neighbours that happen to be equal, and no others.
    assert passed == {("5", "x=5"), ("7", "7"), ("3", "3")}


@pytest.mark.skipif(not AIME[0].is_file(), reason=f"{AIME[0]} is not here")
def test_aime_gold_against_gold(grader: Grader) -> None:
    golds = [str(json.loads(line)["answer"]) for path in AIME for line in path.open()]
    groups = [_group(gold, f"\\boxed{{{int(gold):03d}}}", f"\\boxed{{{int(gold) + 1}}}") for gold in golds]
    verdicts = _verdicts(grader, *groups)
    assert _correct(verdicts[::2]) == len(golds) == 60
    assert _correct(verdicts[1::2]) == 0


def _correct(verdicts: list[Verdict]) -> int:
    return sum(v.status == "correct" for v in verdicts)
