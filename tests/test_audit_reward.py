"""The audit finds what a careless reward lets pass, and nothing where a careful one grades."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlrl.cli import main
from vlrl.config.load import GradingConfig
from vlrl.rewards.audit.audit import CONTROL, Audit, audit_reward
from vlrl.trajectory import Prompt

MATH500 = Path(__file__).parents[2] / "shared" / "data" / "math500" / "test.jsonl"

# What rewards look like in a hurry.
CARELESS = '''
def contains(submission):
    return submission.prompt.ground_truth in submission.answer

def any_number(submission):
    return any(c.isdigit() for c in submission.answer)

class LastLine:
    """Reads the whole response, thinking or not."""

    def extract(self, response, thinking_open):
        return response

    def judge(self, submissions):
        from vlrl.rewards.verifier import correct, wrong
        found = [s.prompt.ground_truth in s.answer for s in submissions]
        return [(correct if f else wrong)(s.answer, "last") for s, f in zip(submissions, found)]

def judge_that_believes(submission):
    return '"correct": true' in submission.answer

def none_pass(submission):
    return 0.0
'''


def _prompt(gold: str, verifier: str = "math", question: str = "How many?", **extra: Any) -> Prompt:
    return Prompt(gold, [{"role": "user", "content": question}], [], verifier, gold, extra=extra)


def _audit(tmp_path: Path, *prompts: Prompt, verifier: str | None = None) -> Audit:
    sources: dict[str, Any] = {}
    if verifier is not None:
        (tmp_path / "careless.py").write_text(CARELESS)
        sources = {"*": [{"verifier": f"{tmp_path}/careless.py:{verifier}"}]}
    config = GradingConfig(rewards={"sources": sources}, sandbox={"workers": 1})  # type: ignore[arg-type]
    return audit_reward(prompts, config, tmp_path / "found.jsonl")


def _passing(audit: Audit) -> set[str]:
    return {name for name, tally in audit.attacks.items() if tally.passed and name != CONTROL}


def _found(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("verifier", "found"),
    [
        ("contains", {"or", "list", "set", "tuple", "slash", "every_number"}),
        ("any_number", {"every_number", "changed_mind"}),
        ("LastLine", {"unclosed_thinking", "repeated"}),
        ("judge_that_believes", {"injection"}),
    ],
)
def test_what_careless_rewards_let_pass(tmp_path: Path, verifier: str, found: set[str]) -> None:
    audit = _audit(tmp_path, _prompt("42"), _prompt("7"), verifier=verifier)
    assert not audit.clean and found <= _passing(audit)
    assert all(row["attack"] in audit.attacks and row["row"] for row in _found(tmp_path))


def test_a_reward_that_refuses_the_right_answer_is_not_clean(tmp_path: Path) -> None:
    audit = _audit(tmp_path, _prompt("42"), verifier="none_pass")
    assert not audit.clean and audit.attacks[CONTROL].passed == 0
    assert [row["attack"] for row in _found(tmp_path)] == [CONTROL]


def test_the_built_in_verifiers_of_answers_are_clean(tmp_path: Path) -> None:
    prompts = [
        *map(_prompt, ("42", "x+1", "\\frac{3}{4}", "(1,2)", "[0,1)", "\\text{even}", "\\$18.90", "0")),
        _prompt("B", options=["12 cm", "13 cm", "14 cm"]),
        _prompt("\\text{(C)}"),
        _prompt("1+2i"),
        _prompt("red", "exact"),
        _prompt("0.35", "numeric", tolerance=0.01),
    ]
    audit = _audit(tmp_path, *prompts)
    assert _found(tmp_path) == [] and audit.clean
    assert audit.rows == len(prompts) == audit.attacks[CONTROL].passed
    assert sum(tally.errors for tally in audit.attacks.values()) == 0
    assert audit.attacks["all_letters"].rows == audit.attacks["all_options"].rows == 1


def test_programs_earn_nothing_by_cheating(tmp_path: Path) -> None:
    stdin = json.dumps([{"input": str(n), "output": str(n * n)} for n in (3, 5)])
    called = json.dumps({"inputs": [[3], [5]], "outputs": [9, 25]})
    check = "def check(candidate):\n    assert candidate(3) == 9\n    assert candidate(5) == 25\n"
    right = "def f(n):\n    return n * n\n"
    audit = _audit(
        tmp_path,
        _prompt(stdin, "code", solution="print(int(input()) ** 2)"),
        _prompt(called, "code", fn_name="f", solution=right),
        _prompt(check, "code", fn_name="f", solution=right),
    )
    assert _found(tmp_path) == [] and audit.clean
    assert audit.attacks[CONTROL].passed == 3 and audit.attacks["frames"].rows == 3


def test_texts_earn_nothing_by_cheating(tmp_path: Path) -> None:
    page = json.dumps([{"type": "present", "text": "Hello"}, {"type": "absent", "text": "Bye"}])
    audit = _audit(
        tmp_path,
        _prompt("Hello, world.\nThis is a page.", "transcription"),
        _prompt('{"header": ["a", "b"], "rows": [["x", "1"]]}', "table"),
        _prompt(page, "page_tests", solution="Hello."),
    )
    assert _found(tmp_path) == [] and audit.clean
    assert audit.attacks[CONTROL].passed == 3 and audit.attacks["repeated"].rows == 3


def test_tests_too_few_to_tell_are_found(tmp_path: Path) -> None:
    audit = _audit(tmp_path, _prompt(json.dumps([{"input": "3", "output": "9"}]), "code"))
    assert _passing(audit) == {"sample_output"}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "found.jsonl"
    rows.write_text("".join(json.dumps({"question": "?", "answer": str(n)}) + "\n" for n in range(10)))
    assert main(["audit-reward", str(rows), "--limit", "4", "--out", str(out)]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["rows"] == 4 and summary["clean"] and summary["attacks"][CONTROL]["passed"] == 4
    (tmp_path / "careless.py").write_text(CARELESS)
    sources = f"rewards.sources={{'*': [{{verifier: '{tmp_path}/careless.py:contains'}}]}}"
    assert main(["audit-reward", str(rows), "--out", str(out)]) == 2
    out.unlink()
    assert main(["audit-reward", str(rows), sources, "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "text_or" in captured.err and not json.loads(captured.out.splitlines()[-1])["clean"]
    assert main(["audit-reward", str(rows), "--limit", "0", "--out", str(tmp_path / "x.jsonl")]) == 2


@pytest.mark.slow
@pytest.mark.skipif(not MATH500.is_file(), reason=f"{MATH500} is not here")
def test_math500_is_clean(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in MATH500.open()]
    audit = _audit(tmp_path, *(_prompt(row["answer"], question=row["problem"]) for row in rows))
    assert _found(tmp_path) == [] and audit.clean and audit.rows == 500
    assert sum(tally.errors for tally in audit.attacks.values()) <= 8  # of fifteen thousand gradings
