"""`vlrl audit-reward`: adversarial responses against a data set and its rewards."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vlrl.config.load import GradingConfig
from vlrl.errors import UserError
from vlrl.images import ImageStore
from vlrl.rewards.audit import attacks, code_attacks
from vlrl.rewards.audit.attacks import Named
from vlrl.rewards.code import CodeVerifier
from vlrl.rewards.grader import Grader
from vlrl.rewards.vision.table import TableVerifier
from vlrl.rewards.vision.transcription import TranscriptionVerifier
from vlrl.runs.progress import StageProgress
from vlrl.runs.row_output import RowOutput
from vlrl.schema import read_rows
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

CONTROL = "right_answer"
_ROWS_AT_A_TIME = 32
_SHOWN_CHARACTERS = 2000


@dataclass(slots=True)
class Tally:
    """What became of one attack over the rows it fits."""

    rows: int = 0
    passed: int = 0
    errors: int = 0
    rewards: float = 0.0
    """Sum over the rows that were graded."""
    example: str = ""
    """The first row that counts against the reward."""

    def add(self, verdict: Verdict, name: str, *, should_pass: bool) -> bool:
        """Count a verdict; whether it counts against the reward."""
        self.rows += 1
        if verdict.is_error:
            self.errors += 1
            return False
        self.rewards += verdict.reward
        passed = verdict.status == "correct"
        self.passed += passed
        if passed != should_pass and not self.example:
            self.example = name
        return passed != should_pass

    @property
    def reward(self) -> float:
        graded = self.rows - self.errors
        return self.rewards / graded if graded else 0.0


@dataclass(slots=True)
class Audit:
    """What was found over `rows` rows."""

    rows: int = 0
    attacks: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    @property
    def clean(self) -> bool:
        """Whether no attack passed anywhere, and the right answer everywhere."""
        return all(
            tally.passed == (tally.rows - tally.errors if name == CONTROL else 0)
            for name, tally in self.attacks.items()
        )

    def summary(self) -> str:
        """As JSON, in one line."""
        found = {
            name: {"rows": t.rows, "passed": t.passed, "errors": t.errors, "reward": round(t.reward, 6)}
            for name, t in self.attacks.items()
        }
        return json.dumps({"rows": self.rows, "clean": self.clean, "attacks": found})


def audit_reward(prompts: Sequence[Prompt], config: GradingConfig, out: Path) -> Audit:
    """Grade every attack on every prompt; what counts against the reward goes to `out`, a row each.

    Raises:
        UserError: a prompt that cannot be graded, an `out` that exists, a full disk.
        EngineError: a grader does not start.
        WaitTimeout: one hangs.
    """
    audit = Audit()
    console = Console(stderr=True, highlight=False)
    with (
        Grader(config.rewards, sandbox=config.sandbox) as grader,
        RowOutput(out, "vlrl audit-reward", ()) as output,
        StageProgress("audit-reward", len(prompts), 0, console) as progress,
    ):
        for some in _batches(prompts):
            grader.check(some)
            for row in _audit(some, grader, audit):
                output.append(row)
            audit.rows += len(some)
            progress.update(audit.rows, {"found": sum(bool(t.example) for t in audit.attacks.values())})
    return audit


def read_prompts(path: Path, limit: int | None, images: Path) -> list[Prompt]:
    """The rows of `path`, or `limit` of them, evenly spread; embedded images go into the folder `images`.

    Raises:
        UserError: a bad file or row, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: must be at least 1")
    prompts = list(read_rows(path, "prompt", ImageStore(images)))
    if limit is None or limit >= len(prompts):
        return prompts
    return [prompts[index * len(prompts) // limit] for index in range(limit)]


def show(audit: Audit, console: Console) -> None:
    """A table, what was found first."""
    table = Table(
        "attack", "rows", "passed", "mean reward", "errors", "first found in", title="Audit of the reward"
    )
    for name, tally in sorted(
        audit.attacks.items(), key=lambda item: (item[0] != CONTROL, not item[1].example)
    ):
        style = "bold red" if tally.example else None
        numbers = (str(tally.rows), str(tally.passed), f"{tally.reward:.3f}", str(tally.errors))
        table.add_row(name, *numbers, tally.example, style=style)
    console.print(table)


def attacks_on(prompt: Prompt, grader: Grader) -> list[Named]:
    """Those that fit what the prompt's first reward judges, the control first."""
    verifier = grader.terms_of(prompt)[0].verifier
    if isinstance(verifier, CodeVerifier):
        return [*_control(prompt, code_attacks.fenced), *attacks.ANYWHERE, *code_attacks.PROGRAMS]
    if verifier.extract("no answer here", False) is None:  # a final answer is judged
        return [Named(CONTROL, attacks.right), *attacks.ANYWHERE, *attacks.ANSWERS]
    control = _control(prompt, str)
    if not control and isinstance(verifier, (TranscriptionVerifier, TableVerifier)):
        control = [Named(CONTROL, lambda prompt: prompt.ground_truth)]
    return [*control, *attacks.ANYWHERE, *attacks.TEXTS]


def _control(prompt: Prompt, write: Callable[[str], str]) -> list[Named]:
    """A row may bring what should pass, where that is not its ground truth."""
    solution = prompt.extra.get("solution")
    return [] if solution is None else [Named(CONTROL, lambda prompt: write(str(solution)))]


def _audit(prompts: Sequence[Prompt], grader: Grader, audit: Audit) -> Iterator[dict[str, Any]]:
    """Count what each attack does to the prompts; a row for each that counts against the reward."""
    groups, names = [], []
    for prompt in prompts:
        fitting = [
            (a.name, text) for a in attacks_on(prompt, grader) if (text := a.attack(prompt)) is not None
        ]
        names.append([name for name, _ in fitting])
        groups.append(Group(prompt, [_rollout(prompt, i, text) for i, (_, text) in enumerate(fitting)]))
    grader.grade(groups)
    for group, tried in zip(groups, names, strict=True):
        for name, rollout in zip(tried, group.rollouts, strict=True):
            verdict = rollout.verdict
            assert verdict is not None
            if audit.attacks[name].add(verdict, group.prompt.name, should_pass=name == CONTROL):
                yield _row(group.prompt, name, rollout, verdict)


def _rollout(prompt: Prompt, index: int, text: str) -> Rollout:
    return Rollout(prompt.id, index, [], [Segment([], [], 0, [], "stop")], text=text)


def _row(prompt: Prompt, name: str, rollout: Rollout, verdict: Verdict) -> dict[str, Any]:
    return {
        "row": prompt.name,
        "data_source": prompt.source,
        "attack": name,
        "reward": verdict.reward,
        "status": verdict.status,
        "rule": verdict.rule,
        "answer": verdict.answer[:_SHOWN_CHARACTERS] if verdict.answer is not None else None,
        "gold": prompt.ground_truth[:_SHOWN_CHARACTERS],
        "response": rollout.text[:_SHOWN_CHARACTERS],
    }


def _batches(prompts: Iterable[Prompt]) -> Iterator[list[Prompt]]:
    left = iter(prompts)
    while some := list(islice(left, _ROWS_AT_A_TIME)):
        yield some
