"""Test cases made by a model and checked by known solutions (Kimi k1.5 section 2.3.2).

A model writes a generator from a problem's statement and a page on CYaRon. The generator runs in the
sandbox, once a case, with the case's number as its seed. Reference submissions answer each case: it is valid
where enough of them agree, and what they agree on is its expected output. A problem is kept where enough
cases are valid and enough submissions pass all of them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vlrl.chat import Chat
from vlrl.config.test_cases import TestCaseConfig
from vlrl.errors import EngineError
from vlrl.sandbox.code_block import extract_code
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Execution, Limits, Test

Fate = Literal["kept", "no_generator", "few_valid_cases", "few_passing_submissions", "few_submissions"]
"""What became of a problem."""

_GUIDE = """You write generators of test inputs for programming problems, in Python with the library CYaRon.

The program reads one integer from standard input, calls `random.seed` with it, and prints ONE complete test
input, in the exact format of the problem's statement, to standard output. It prints nothing else, opens no
file and needs no network. The integer runs from 0 to {last}: let small ones give small and edge cases (least
sizes, equal values, extremes), and large ones give sizes up to the statement's limits. Every input must obey
every constraint.

CYaRon in short, after `from cyaron import *`:
  print(Graph.graph(n, m, weight_limit=(1, 100)))   n vertices, m edges, an edge a line: u v w
  print(Graph.tree(n)); Graph.chain(n); Graph.flower(n); Graph.DAG(n, m); Graph.binary_tree(n)
     each takes weight_limit; `.to_str(output=Edge.unweighted_edge)` leaves weights out
  Vector.random(n, [(low, high)])                   a list of n one-element lists
  String.random(n, charset="abc"); Sequence(lambda i, f: f(i - 1) + i, [1]).get(1, n)
  Polygon.convex_hull(n, fx=lambda x: int(x * 100), fy=lambda y: int(y * 100)).points

Answer with the program alone, in one ```python block."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Problem:
    """A problem without a special judge, whose right answers are one text."""

    id: str
    statement: str
    submissions: list[str]
    """Programs that were accepted, or most of which are right."""


@dataclass(slots=True, frozen=True, kw_only=True)
class TestCases:
    """What came of a problem."""

    __test__: ClassVar[bool] = False
    id: str
    fate: Fate
    tests: list[Test] = field(default_factory=list)
    """Valid cases with their expected output, whatever the fate."""
    generator: str = ""
    made: int = 0
    """Distinct inputs that the generator printed."""
    passing: int = 0
    """Submissions that pass every valid case."""
    error: str = ""
    """Why the generator failed where it did, or the sandbox."""


def generate(problem: Problem, chat: Chat, sandbox: Sandbox, config: TestCaseConfig) -> TestCases:
    """Make and check the test cases of one problem; the model is asked again where its program prints none.

    Raises:
        UserError, WaitTimeout, EngineError: as `chat` and the sandbox do.
    """
    messages = [
        {"role": "system", "content": _GUIDE.format(last=config.cases - 1)},
        {"role": "user", "content": problem.statement},
    ]
    generator, error = "", ""
    inputs: list[str] = []
    for _ in range(config.attempts):
        answer = chat(messages)
        generator = extract_code(answer)
        inputs, error = _inputs(generator, sandbox, config) if generator else ([], "no program in the answer")
        if inputs:
            break
        complaint = f"That does not work: {error}\nAnswer with the whole program again."
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": complaint}]
    return check(problem, inputs, sandbox, config, generator=generator, error=error)


def check(
    problem: Problem,
    inputs: Sequence[str],
    sandbox: Sandbox,
    config: TestCaseConfig,
    *,
    generator: str = "",
    error: str = "",
) -> TestCases:
    """Let the submissions answer `inputs`, and keep the cases and the problem that they bear out."""
    submissions = problem.submissions[: config.submissions]
    enough = len(submissions) >= config.submissions
    answers = [_answers(code, inputs, sandbox, config) for code in submissions] if enough else []
    tests, expected = [], []
    for number, given in enumerate(inputs if enough else ()):
        found = Counter(a for answer in answers if (a := answer[number]) is not None)
        output, votes = found.most_common(1)[0] if found else ("", 0)
        if votes >= config.agreeing:
            tests.append(Test(input=given, output=output))
            expected.append((number, output))
    passing = sum(all(answer[number] == output for number, output in expected) for answer in answers)
    fate: Fate = "kept"
    if not enough:
        fate = "few_submissions"
    elif not inputs:
        fate = "no_generator"
    elif len(tests) < config.valid_cases:
        fate = "few_valid_cases"
    elif passing < config.passing:
        fate = "few_passing_submissions"
    return TestCases(
        id=problem.id,
        fate=fate,
        tests=tests,
        generator=generator,
        made=len(inputs),
        passing=passing,
        error=error,
    )


def funnel(results: Sequence[TestCases]) -> dict[str, int]:
    """How many problems came how far: all, with a generator, with enough valid cases, kept."""
    fates = Counter(result.fate for result in results)
    with_inputs = len(results) - fates["no_generator"] - fates["few_submissions"]
    return {
        "problems": len(results),
        "with_submissions": len(results) - fates["few_submissions"],
        "with_a_generator": with_inputs,
        "with_enough_valid_cases": with_inputs - fates["few_valid_cases"],
        "kept": fates["kept"],
    }


def _inputs(generator: str, sandbox: Sandbox, config: TestCaseConfig) -> tuple[list[str], str]:
    """Distinct inputs, and why there are none where there are none."""
    limits = Limits(cpu_s=config.generator_cpu_s, memory_mb=config.memory_mb, output_mb=config.input_mb)
    done = _run(generator, [f"{seed}\n" for seed in range(config.cases)], sandbox, limits)
    printed = [run.output for run in done if run.status == "ended" and run.output.strip()]
    failed = next((run for run in done if run.status != "ended"), None)
    reason = "" if failed is None else f"{failed.status}: {failed.error.strip()[-1000:]}"
    return list(dict.fromkeys(printed)), reason or "it printed nothing"


def _answers(code: str, inputs: Sequence[str], sandbox: Sandbox, config: TestCaseConfig) -> list[str | None]:
    """What a submission prints for each input, without trailing blanks; None where it fails."""
    limits = Limits(cpu_s=config.cpu_s, memory_mb=config.memory_mb)
    return [_normal(run) for run in _run(code, inputs, sandbox, limits)]


def _run(code: str, inputs: Sequence[str], sandbox: Sandbox, limits: Limits) -> list[Execution]:
    """Executions in order. What the sandbox loses is run again, and never counts against a program.

    Raises:
        EngineError: it is lost again.
    """
    runs = [run.result() for run in [sandbox.submit_run(code, given, limits) for given in inputs]]
    for number, run in enumerate(runs):
        if run.status == "infra_error":
            runs[number] = sandbox.submit_run(code, inputs[number], limits).result()
            if runs[number].status == "infra_error":
                raise EngineError(f"the sandbox failed twice on one program: {runs[number].error}")
    return runs


def _normal(run: Execution) -> str | None:
    if run.status != "ended":
        return None
    return "\n".join(line.rstrip() for line in run.output.strip().split("\n"))
