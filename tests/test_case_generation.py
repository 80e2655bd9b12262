"""Test cases by scripted models, good and bad, on a real sandbox."""

import importlib.util
import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vlrl.chat import Message, OpenAIChat
from vlrl.config.sandbox import SandboxConfig
from vlrl.config.test_cases import TestCaseConfig
from vlrl.errors import EngineError, UserError, WaitTimeout
from vlrl.sandbox.case_generation import Problem, TestCases, check, funnel, generate
from vlrl.sandbox.pool import Sandbox

CONFIG = TestCaseConfig(cases=20, valid_cases=16, generator_cpu_s=1.0, cpu_s=1.0)
STATEMENT = "Given n and n integers, print their sum."
GENERATOR = """import random
seed = int(input())
random.seed(seed)
n = 1 + seed
print(n)
print(*[random.randint(-9, 9) for _ in range(n)])
"""
RIGHT = "n = int(input())\nprint(sum(map(int, input().split())))"
SPACED = "import sys\nprint(sum(map(int, sys.stdin.read().split()[1:])), '')"
WRONG = "n = int(input())\nprint(sum(map(abs, map(int, input().split()))))"
CYARON = ("cyaron", "xeger", "colorful")
TREE = """import random
from cyaron import *
seed = int(input())
random.seed(seed)
n = seed + 2
print(n)
print(Graph.tree(n, weight_limit=(1, 9)))
"""
TREE_SUM = "import sys\nn, *rest = map(int, sys.stdin.read().split())\nprint(n, sum(rest[2::3]))"
CRASHES = "n = int(input())\nprint(1 // (n - 5))"


class Script:
    """A model whose answers are known beforehand."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.heard = list(answers), []  # type: ignore[var-annotated]

    def __call__(self, messages: Sequence[Message]) -> str:
        self.heard.append(list(messages))
        return self.answers.pop(0)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(workers=2)) as sandbox:
        yield sandbox


def _problem(*submissions: str) -> Problem:
    return Problem(id="sum", statement=STATEMENT, submissions=list(submissions))


def _fenced(code: str) -> str:
    return f"Here it is.\n```python\n{code}\n```\n"


def test_a_good_generator_and_good_submissions_keep_the_problem(sandbox: Sandbox) -> None:
    chat = Script(_fenced(GENERATOR))
    made = generate(_problem(*[RIGHT] * 8, SPACED, WRONG), chat, sandbox, CONFIG)
    assert (made.fate, made.made, len(made.tests), made.passing) == ("kept", 20, 20, 9)
    assert made.generator == GENERATOR
    for test in made.tests:
        n, numbers = test.input.split("\n")[:2]
        assert test.output == str(sum(map(int, numbers.split()))) and int(n) == len(numbers.split())
    assert "from 0 to 19" in chat.heard[0][0]["content"] and chat.heard[0][1]["content"] == STATEMENT


def test_a_model_is_told_what_is_wrong_and_asked_again(sandbox: Sandbox) -> None:
    chat = Script(_fenced("import nowhere"), _fenced(GENERATOR))
    assert generate(_problem(*[RIGHT] * 10), chat, sandbox, CONFIG).fate == "kept"
    assert "No module named 'nowhere'" in chat.heard[1][-1]["content"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("print('', end='')", "printed nothing"),
        ("while True: pass", "timeout"),
        ("print(open('/etc/passwd').read())", "exception"),
        ("print('9' * 10**8)", "output_limit"),
        ("import os; os.fork()", "exception"),
    ],
)
def test_a_bad_generator_drops_the_problem(sandbox: Sandbox, code: str, error: str) -> None:
    config = CONFIG.model_copy(update={"attempts": 1, "cases": 4, "generator_cpu_s": 0.3})
    made = generate(_problem(*[RIGHT] * 10), Script(_fenced(code)), sandbox, config)
    assert (made.fate, made.tests) == ("no_generator", [])
    assert error in made.error


def test_an_answer_without_a_program_drops_the_problem(sandbox: Sandbox) -> None:
    made = generate(_problem(*[RIGHT] * 10), Script("I cannot.", "No."), sandbox, CONFIG)
    assert (made.fate, made.error) == ("no_generator", "no program in the answer")


def test_seven_of_ten_make_a_case_valid_and_nine_of_ten_keep_the_problem(sandbox: Sandbox) -> None:
    inputs = [f"{n}\n{' '.join(['1'] * n)}\n" for n in range(1, 21)]
    # CRASHES is wrong everywhere, but says 0 as no other does.
    seven = check(_problem(*[RIGHT] * 7, *[CRASHES] * 3), inputs, sandbox, CONFIG)
    assert (seven.fate, len(seven.tests), seven.passing) == ("few_passing_submissions", 20, 7)
    six = check(_problem(*[RIGHT] * 6, *[CRASHES] * 4), inputs, sandbox, CONFIG)
    assert (six.fate, len(six.tests)) == ("few_valid_cases", 0)
    nine = check(_problem(*[RIGHT] * 9, CRASHES), inputs, sandbox, CONFIG)
    assert (nine.fate, nine.passing) == ("kept", 9)


def test_cases_on_which_submissions_disagree_are_left_out(sandbox: Sandbox) -> None:
    positive = [f"1\n{n}\n" for n in range(1, 18)]
    negative = [f"1\n{-n}\n" for n in range(1, 4)]
    made = check(_problem(*[RIGHT] * 5, *[WRONG] * 5), positive + negative, sandbox, CONFIG)
    assert (made.fate, len(made.tests), made.passing) == ("kept", 17, 10)


def test_too_few_submissions_cost_no_run(sandbox: Sandbox) -> None:
    assert check(_problem(*[RIGHT] * 9), ["1\n1\n"], sandbox, CONFIG).fate == "few_submissions"


def test_the_funnel_counts_how_far_problems_came() -> None:
    fates = ["kept"] * 3 + ["no_generator", "few_valid_cases", "few_passing_submissions", "few_submissions"]
    assert funnel([TestCases(id=str(i), fate=fate) for i, fate in enumerate(fates)]) == {
        "problems": 7,
        "with_submissions": 6,
        "with_a_generator": 5,
        "with_enough_valid_cases": 4,
        "kept": 3,
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"agreeing": 5}, "more than half"),
        ({"agreeing": 11}, "more than 'submissions'"),
        ({"cases": 30}, "more than 'cases'"),
    ],
)
def test_thresholds_that_cannot_be_met_are_refused(values: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TestCaseConfig(**values)


class _Endpoint(ThreadingHTTPServer):
    """Answers each request with the next of `script`: (status, body)."""

    def __init__(self, script: list[tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.heard = script, []  # type: ignore[var-annotated]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: _Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append((self.path, self.headers.get("Authorization"), body))
        status, text = self.server.script.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        return


def test_an_endpoint_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlrl.chat._FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("SOME_KEY", "secret")
    answer = json.dumps({"choices": [{"message": {"content": "hello"}}]})
    with _Endpoint([(503, "busy"), (429, "slow down"), (200, answer)]) as endpoint:
        chat = OpenAIChat(endpoint.url, "tiny", key_variable="SOME_KEY", timeout_s=20)
        assert chat([{"role": "user", "content": "hi"}]) == "hello"
        endpoint.shutdown()
    path, key, body = endpoint.heard[-1]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["messages"]) == ("tiny", [{"role": "user", "content": "hi"}])
    assert len(endpoint.heard) == 3


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [(404, "no such model", UserError), (200, "<html>", EngineError), (200, '{"choices": []}', EngineError)],
)
def test_what_is_no_completion_is_said(status: int, text: str, error: type[Exception]) -> None:
    with _Endpoint([(status, text)]) as endpoint:
        with pytest.raises(error, match=text.strip("{}[]").split(":")[0]):
            OpenAIChat(endpoint.url, "tiny")([])
        endpoint.shutdown()


def test_an_endpoint_that_is_not_there_is_waited_for_and_then_named() -> None:
    with pytest.raises(WaitTimeout, match=r"0 s for an answer of http://127\.0\.0\.1:9/v1/chat"):
        OpenAIChat("http://127.0.0.1:9/v1", "tiny", timeout_s=0.2)([])


def test_a_generator_may_use_cyaron() -> None:
    origins = [importlib.util.find_spec(name) for name in CYARON]
    if None in origins:
        pytest.skip("CYaRon is not installed")
    folder = Path("/var/tmp") / f"vlrl-cyaron-{os.getpid()}"  # where everyone can read it
    folder.mkdir(mode=0o755)
    try:
        for name, origin in zip(CYARON, origins, strict=True):
            assert origin is not None and origin.origin is not None
            shutil.copytree(Path(origin.origin).parent, folder / name)
        config = SandboxConfig(workers=2, search=(str(folder),), modules=("cyaron",))
        with Sandbox(config) as sandbox:
            made = generate(_problem(*[TREE_SUM] * 10), Script(_fenced(TREE)), sandbox, CONFIG)
    finally:
        shutil.rmtree(folder)
    assert (made.fate, made.made) == ("kept", 20)
    assert made.tests[7].input.split("\n")[0] == "9"
