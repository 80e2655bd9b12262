"""Judging single answers, for the tests of the vision verifiers."""

from typing import Any

from vlrl.rewards.verifier import Submission, Verifier
from vlrl.trajectory import Prompt, Verdict


def row(gold: str, question: str = "What is shown?", **extra: Any) -> Prompt:
    return Prompt("row-7", [{"role": "user", "content": f"<image>{question}"}], [], "any", gold, extra=extra)


def verdicts(
    verifier: Verifier, prompt: Prompt, *responses: str, thinking_open: bool = False
) -> list[Verdict | None]:
    """A verdict each, None where nothing was extracted; answers are what the responses hold."""
    verifier.check(prompt)
    out: list[Verdict | None] = []
    for response in responses:
        answer = verifier.extract(response, thinking_open)
        if answer is None:
            out.append(None)
        else:
            out += verifier.judge([Submission(prompt, response, answer, thinking_open)])
    return out


def boxed(verifier: Verifier, prompt: Prompt, *answers: str) -> list[Verdict]:
    """Verdicts of boxed answers."""
    return [v for v in verdicts(verifier, prompt, *[f"\\boxed{{{a}}}" for a in answers]) if v is not None]


def rewards(found: list[Any]) -> list[float | None]:
    return [None if verdict is None else verdict.reward for verdict in found]
