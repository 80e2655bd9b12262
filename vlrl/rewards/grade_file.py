"""`vlrl grade`: the answers of a file graded, a row out for each."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from vlrl.config.load import GradingConfig
from vlrl.errors import UserError
from vlrl.rewards.answer import ANSWER_OPEN
from vlrl.rewards.grader import Grader
from vlrl.runs.progress import StageProgress
from vlrl.runs.row_output import RowOutput
from vlrl.trajectory import (
    ERROR_STATUSES,
    THINK_CLOSE,
    THINK_OPEN,
    Group,
    Prompt,
    Rollout,
    Segment,
    Status,
    Verdict,
)

_AHEAD = 256  # rows read before their turn
_MARKS = (THINK_OPEN, THINK_CLOSE, "boxed{", ANSWER_OPEN, "```")
_STATUSES = get_args(Status)
_COUNTED = {"correct": "correct", "wrong": "wrong", "no_answer": "no_answer", "truncated": "no_answer"}


@dataclass(slots=True, frozen=True)
class Row:
    """A line of the input: `text` is the answer itself where `bare`, else a response that holds it."""

    id: str | int | None
    prompt: Prompt
    text: str
    bare: bool


def grade_file(path: Path, out: Path, config: GradingConfig, *, resume: bool = False) -> str:
    """Grade the rows of `path` into `out`; the summary as JSON.

    A row has `gold` and `answer`, or `response`, which must hold its answer as rollouts do; an `answer` that
    bears marks of a response (a box, an answer span, thinking, a fence) is read as one. `verifier` (default
    math), `question`, `data_source`, `extra_info` and `id` are optional. Every row is checked before one is
    graded.

    Raises:
        UserError: a row that cannot be graded, an `out` that exists (without `resume`), a full disk.
        EngineError: the graders do not start.
        WaitTimeout: they hang.
    """
    with Grader(config.rewards, sandbox=config.sandbox) as grader:
        ids = _check_rows(path, grader)
        counts: Counter[str] = Counter()

        def keep(row: dict[str, Any]) -> bool:
            """Count a row that was there before, unless its grading failed."""
            if row["status"] not in _STATUSES:
                raise ValueError
            counted = _counted(row["status"])
            counts[counted] += counted != "errors"
            return counted != "errors"

        with RowOutput(out, "vlrl grade", ids, resume=resume, keep=keep) as output:
            grader.warm_up()  # no row's milliseconds hold the start of the graders
            return _grade_all(path, grader, output, config.rewards.workers, counts, len(ids))


def _check_rows(path: Path, grader: Grader) -> list[str | int | None]:
    """The rows' ids."""
    ids = []
    for number, row in _rows(path):
        try:
            grader.check([row.prompt])
        except UserError as error:
            why = str(error).removeprefix(f"{row.prompt.name}: ")
            raise UserError(f"{path}, line {number}: {why}") from None
        ids.append(row.id)
    if not ids:
        raise UserError(f"{path}: has no rows")
    return ids


def _grade_all(
    path: Path, grader: Grader, output: RowOutput, workers: int, counts: Counter[str], total: int
) -> str:
    rows = (row for _, row in output.to_do(_rows(path)))
    console = Console(stderr=True, highlight=False)
    with (
        StageProgress("grade", total, counts.total(), console) as progress,
        ThreadPoolExecutor(workers, thread_name_prefix="grade") as threads,
    ):
        try:
            for row in _in_order(rows, grader, threads):
                output.write(row)
                counts[_counted(row["status"])] += 1
                progress.update(counts.total(), counts)
        finally:  # after Ctrl-C or a full disk, what waits would be graded all the same
            threads.shutdown(wait=False, cancel_futures=True)
    names = ("correct", "wrong", "no_answer", "errors")
    return json.dumps({"n": counts.total()} | {name: counts[name] for name in names})


def _in_order(rows: Iterator[Row], grader: Grader, threads: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
    waiting: list[Future[dict[str, Any]]] = []
    for row in rows:
        waiting.append(threads.submit(_grade_row, row, grader))
        if len(waiting) >= _AHEAD:
            yield waiting.pop(0).result()
    while waiting:
        yield waiting.pop(0).result()


def _grade_row(row: Row, grader: Grader) -> dict[str, Any]:
    started = time.perf_counter()
    verdict = _verdict(row, grader)
    milliseconds = round(1000 * (time.perf_counter() - started), 3)
    identity = {} if row.id is None else {"id": row.id}
    out = {"reward": verdict.reward, "status": verdict.status, "answer": verdict.answer, "rule": verdict.rule}
    parts = {"parts": verdict.parts} if verdict.parts else {}
    return identity | out | parts | {"ms": milliseconds}


def _verdict(row: Row, grader: Grader) -> Verdict:
    if row.bare:
        return grader.grade_answers([(row.prompt, row.text)])[0]
    rollout = Rollout(row.prompt.id, 0, [], [Segment([], [], 0, [], "stop")], text=row.text)
    grader.grade([Group(row.prompt, [rollout])])
    assert rollout.verdict is not None
    return rollout.verdict


def _counted(status: Any) -> str:
    return "errors" if status in ERROR_STATUSES else _COUNTED.get(status, "errors")


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows with the numbers of their lines; blank ones are left out."""
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield number, _read(json.loads(line), number)
                    except (ValueError, RecursionError) as error:
                        raise UserError(f"{path}, line {number}: not JSON ({error})") from None
                    except UserError as error:
                        raise UserError(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _read(raw: Any, number: int) -> Row:
    if not isinstance(raw, dict):
        raise UserError("expected an object with 'gold' and 'answer'")
    gold = _text(raw, "gold", "ground_truth")
    if gold is None or not gold.strip():
        raise UserError("needs 'gold', the right answer")
    if "answer" not in raw and "response" not in raw:
        raise UserError("needs 'answer', or 'response', the text that holds it")
    extra = raw.get("extra_info") or {}
    if not isinstance(extra, dict):
        raise UserError("'extra_info' must be an object")
    identity = raw.get("id")
    if identity is not None and (isinstance(identity, bool) or not isinstance(identity, (str, int))):
        raise UserError("'id' must be text or a whole number")
    prompt = Prompt(
        id=f"line {number}",
        messages=[{"role": "user", "content": _text(raw, "question") or ""}],
        images=[],
        verifier=_text(raw, "verifier") or "math",
        ground_truth=gold,
        source=_text(raw, "data_source") or "default",
        extra=extra,
    )
    response, answer = _text(raw, "response"), _text(raw, "answer")
    if response is None and answer is not None and not any(mark in answer for mark in _MARKS):
        # An empty answer is none, as of a response without one.
        return Row(identity, prompt, answer.strip(), bare=answer.strip() != "")
    return Row(identity, prompt, (answer or "") if response is None else response, bare=False)


def _text(raw: dict[str, Any], *names: str) -> str | None:
    for name in names:
        value = raw.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise UserError(f"'{name}' must be text or a number, found {type(value).__name__}")
            return str(value)
    return None
