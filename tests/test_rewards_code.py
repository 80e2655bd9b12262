"""Programs as rewards: what is read of a response and of a ground truth, and what each outcome earns."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.processes import Killer
from vlrl.config.rewards import RewardConfig
from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError
from vlrl.rewards.grader import Grader
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

DOUBLE = json.dumps([{"input": "2\n", "output": "4\n"}, {"input": "5\n", "output": "10\n"}])
ADD = json.dumps({"inputs": [[1, 2], ["a", "b"]], "outputs": [3, "ab"], "fn_name": "add"})
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate('a', 'b') == 'ab'\n"
RIGHT = "def add(a, b):\n    return a + b"


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(RewardConfig(wrong=-1.0), sandbox=SandboxConfig(workers=1, cpu_s=2.0)) as grader:
        yield grader


def _grade(grader: Grader, tests: str, *programs: str, **extra: Any) -> list[Verdict]:
    group = _group(tests, *(f"So:\n```python\n{program}\n```\n" for program in programs), **extra)
    grader.check([group.prompt])
    grader.grade([group])
    return [r.verdict for r in group.rollouts if r.verdict is not None]


def _group(tests: str, *texts: str, **extra: Any) -> Group:
    prompt = Prompt("row-7", [{"role": "user", "content": "?"}], [], "code", tests, extra=extra)
    rollouts = [
        Rollout("row-7", i, [1], [Segment([2], [-0.5], 0, [1], "stop")], text=text)
        for i, text in enumerate(texts)
    ]
    return Group(prompt, rollouts)


def test_scripts_and_what_each_outcome_earns(grader: Grader) -> None:
    programs = (
        "print(int(input()) * 2)",
        "print(4)",
        "print(1/0)",
        "while True: pass",
        "import os; os._exit(0)",
    )
    verdicts = _grade(grader, DOUBLE, *programs)
    assert [(v.reward, v.status, v.rule) for v in verdicts] == [
        (1.0, "correct", "passed"),
        (-1.0, "wrong", "wrong"),
        (-1.0, "wrong", "exception"),
        (-1.0, "wrong", "timeout"),
        (-1.0, "wrong", "wrong"),
    ]
    assert verdicts[0].answer == programs[0]


@pytest.mark.parametrize(
    ("tests", "extra"),
    [
        (ADD, {}),
        (json.dumps(json.loads(ADD) | {"fn_name": None}), {"fn_name": "add"}),
        (json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]), {"fn_name": "add"}),
        (CHECK, {"fn_name": "add"}),
        ("assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'\n", {"fn_name": "add"}),
    ],
)
def test_every_form_of_tests(grader: Grader, tests: str, extra: dict[str, Any]) -> None:
    verdicts = _grade(
        grader, tests, RIGHT, "def add(a, b):\n    return a - b", "def sub(a, b): pass", **extra
    )
    assert [v.status for v in verdicts] == ["correct", "wrong", "wrong"]


def test_cpp(grader: Grader) -> None:
    program = "#include <iostream>\nint main() { int n; std::cin >> n; std::cout << 2 * n; }"
    right, broken = _grade(grader, DOUBLE, program, "int main( {", language="cpp")
    assert right.status == "correct" and (broken.status, broken.rule) == ("wrong", "compile_error")


def test_the_share_of_tests_is_a_partial_reward_and_never_correct(grader: Grader) -> None:
    half, none, all_ = _grade(grader, DOUBLE, "print(4)", "print(5)", "print(int(input()) * 2)", partial=True)
    assert (half.reward, half.status, half.rule) == (0.0, "wrong", "partial")  # half way from -1 to 1
    assert (none.reward, none.status, none.rule) == (-1.0, "wrong", "wrong")
    assert (all_.reward, all_.status) == (1.0, "correct")


def test_the_last_block_after_the_thinking_counts(grader: Grader) -> None:
    good, bad = "```python\nprint(int(input()) * 2)\n```", "```\nprint(0)\n```"
    texts = (
        f"<think>{bad}</think>{good}",
        f"{bad}\n{good}",
        f"{good}\n{bad}",
        f"<think>{good}",
        "none",
        "```\n```",
    )
    group = _group(DOUBLE, *texts)
    grader.grade([group])
    statuses = [r.verdict.status for r in group.rollouts if r.verdict]
    assert statuses == ["correct", "correct", "wrong", "no_answer", "no_answer", "no_answer"]


@pytest.mark.parametrize(
    ("tests", "extra", "message"),
    [
        ("not python(", {"fn_name": "f"}, "neither JSON nor Python"),
        ("assert f(1)", {}, "need 'fn_name'"),
        ("[]", {}, "not empty"),
        ('{"inputs": ["1"], "outputs": []}', {}, "two lists of one length"),
        ('{"inputs": ["1"], "outputs": ["1"]}', {"fn_name": "f"}, "a list of arguments"),
        ('[{"input": 1, "output": "1"}]', {}, "tests.0: 'input' and 'output' must be text"),
        (DOUBLE, {"language": "perl"}, "must be one of python, cpp"),
        (DOUBLE, {"cpu_s": 1000}, "at most sandbox.cpu_s"),
        (DOUBLE, {"memory_mb": 100.5}, "must be a whole number above 0"),
        (DOUBLE, {"partial": "false"}, "partial 'false' must be true or false"),
        (ADD, {"fn_name": 5}, "fn_name 5: must be text"),
        (ADD, {"language": "cpp"}, "only 'stdin' tests"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused(
    grader: Grader, tests: str, extra: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"row 'row-7': .*{message}"):
        grader.check([_group(tests, **extra).prompt])


def test_a_groups_equal_programs_run_once(grader: Grader) -> None:
    started = time.monotonic()
    verdicts = _grade(grader, DOUBLE, *["while True: pass"] * 32, cpu_s=0.5)
    assert {v.rule for v in verdicts} == {"timeout"} and time.monotonic() - started < 12


def test_a_lost_sandbox_is_an_error_and_the_next_program_runs() -> None:
    with Grader(RewardConfig(), sandbox=SandboxConfig(workers=1, rerun_timeouts=False)) as grader:
        group = _group(DOUBLE, "```\nimport time\ntime.sleep(8)\n```")
        grader.check([group.prompt])
        with Killer("inside.zygote", every_s=0.5):  # again and again: what is lost once is tried once more
            grader.grade([group])
        verdict = group.rollouts[0].verdict
        assert verdict is not None and verdict.status == "infra_error" and verdict.reward == 0.0
        assert _grade(grader, DOUBLE, "print(int(input()) * 2)")[0].status == "correct"
