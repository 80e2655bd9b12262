"""The verifier `cot_rm`: a generative judge behind a cache (Kimi k1.5, section 2.3.5)."""

import hashlib
import json
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from vlrl.chat import OpenAIChat
from vlrl.config.reward_models import CotRmConfig
from vlrl.errors import WaitTimeout
from vlrl.rewards.models.asking import Askers
from vlrl.rewards.models.judge import TIMEOUT, Judgement, judge_once
from vlrl.rewards.models.judge_engine import MODEL_NAME, URL, JudgeEngine
from vlrl.rewards.models.judge_prompt import TEMPLATE, cut, judge_messages
from vlrl.rewards.models.question import check_markers, check_reference, is_empty, judged_part, question_text
from vlrl.rewards.models.verdict_cache import VerdictCache
from vlrl.rewards.verifier import Submission, correct, wrong
from vlrl.trajectory import Prompt, Verdict

_SLACK_S = 60.0  # beyond the deadlines of the judgements themselves
_UNREACHABLE = "judge_unreachable"


@dataclass(slots=True, frozen=True)
class CotMetrics:
    """Counts since the start, and seconds: of judgements, added up over all that ran at a time.

    `submissions` were to be judged; of them `degenerate` were wrong without a model and `cache_hits` known
    (or the same as another of their batch). `reasked` judgements had no verdict at first, `no_verdict` ones
    none at last; `errors` count those and all other failures, `retries` requests that were repeated because
    the endpoint was busy or away.
    """

    submissions: int = 0
    degenerate: int = 0
    cache_hits: int = 0
    judged: int = 0
    reasked: int = 0
    no_verdict: int = 0
    errors: int = 0
    retries: int = 0
    seconds: float = 0.0


class CotRmVerifier:
    """Asks a generative model whether a response's final answer is the reference answer.

    Rules: `cot_rm`; `empty` and `too_long`, wrong without a model; and of errors `no_verdict` (two replies
    without one), `refused: ...` (the endpoint does not take this request), `judge_timeout`,
    `judge_unreachable` (not asked any more, since as many others as run at a time had timed out),
    `judge_failed: ...`. An error is never a wrong answer, and none is kept.

    Args:
        folder: takes `verdicts.jsonl` (the cache) and `engine.log`; unset, neither outlives this object.
    """

    def __init__(self, config: CotRmConfig, folder: Path | None = None) -> None:
        self._config = config
        self._scratch = TemporaryDirectory(prefix="vlrl-judge-")  # for the log, where there is no folder
        place = folder or Path(self._scratch.name)
        self._engine = JudgeEngine(config, place) if config.path is not None else None
        self._chat = OpenAIChat(
            config.url or URL,
            config.model or MODEL_NAME,
            max_tokens=config.max_tokens,
            key_variable=config.key_variable,
            connections=config.concurrency,
            socket=self._engine.socket if self._engine else None,
            before_retry=self._engine.check if self._engine else None,
        )
        self._identity = config.identity or _identity(config)
        self._cache = VerdictCache(folder / "verdicts.jsonl" if folder and config.cache else None)
        self._askers = Askers(config.concurrency)
        self._metrics, self._counting = CotMetrics(), threading.Lock()
        self._timeouts = 0  # in a row, of all threads

    def extract(self, response: str, thinking_open: bool) -> str | None:
        """The final answer, or what follows the thinking, as `judged` says."""
        return judged_part(response, thinking_open, self._config.judged)

    def check(self, prompt: Prompt) -> None:
        """
        Raises:
            UserError: no reference answer, or other image markers than images that are to be shown.
        """
        check_reference(prompt)
        if self._config.images:
            check_markers(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        """A verdict each, in order; blocks, from any thread.

        Raises:
            UserError: the endpoint refuses whatever it is asked; an image cannot be read any more.
            EngineError, WaitTimeout: the judge's own vLLM does not start.
        """
        verdicts = [self._decide_here(submission) for submission in submissions]
        keys = [None if v else self._key(s) for s, v in zip(submissions, verdicts, strict=True)]
        self._cache.refresh()
        asked: dict[str, Submission] = {}
        for key, submission in zip(keys, submissions, strict=True):
            if key is not None and self._cache.get(key) is None:
                asked.setdefault(key, submission)
        judgements = self._judge_all(asked) if asked else {}
        self._count(
            submissions=len(submissions),
            degenerate=keys.count(None),
            cache_hits=len(keys) - keys.count(None) - len(asked),
        )
        return [
            verdict or self._verdict(key, submission.answer, judgements)
            for verdict, key, submission in zip(verdicts, keys, submissions, strict=True)
        ]

    @property
    def metrics(self) -> CotMetrics:
        """What has happened so far; a snapshot."""
        return self._metrics

    def close(self) -> None:
        """Let go of the endpoint, or end the engine. Batches under way end in CancelledError."""
        if self._engine is not None:
            self._engine.close()
        self._askers.close()
        self._chat.close()
        self._scratch.cleanup()

    def _decide_here(self, submission: Submission) -> Verdict | None:
        answer = submission.answer
        if is_empty(answer):
            return wrong(answer, "empty")
        if self._config.judged == "answer" and len(answer) > self._most(submission):
            return wrong(answer, "too_long")
        return None

    def _key(self, submission: Submission) -> str:
        config, prompt = self._config, submission.prompt
        content = [
            *(TEMPLATE, self._identity, question_text(prompt), prompt.ground_truth.strip()),
            *(config.judged, cut(submission.answer, self._most(submission)), config.guided, config.request),
            *(config.temperature, config.retry_temperature, config.max_tokens),
            [image.sha256 for image in prompt.images] if config.images else None,
            config.max_pixels if config.images else None,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _most(self, submission: Submission) -> int:
        return max(self._config.max_chars, 2 * len(submission.prompt.ground_truth))

    def _judge_all(self, asked: dict[str, Submission]) -> dict[str, Judgement]:
        if self._engine is not None:
            self._engine.ensure()
        self._timeouts = 0
        tasks = [partial(self._judge_one, key, submission) for key, submission in asked.items()]
        futures, turns = self._askers.submit(tasks)
        limit = turns * self._config.timeout_s + _SLACK_S
        try:
            done, waiting = wait(futures, limit, FIRST_EXCEPTION)
            for future in done:
                future.result()
            if waiting:
                raise WaitTimeout(f"{len(waiting)} judgements of {self._identity}", limit)
            return {key: future.result() for key, future in zip(asked, futures, strict=True)}
        finally:
            for future in futures:
                future.cancel()

    def _judge_one(self, key: str, submission: Submission) -> Judgement:
        if self._timeouts >= self._config.concurrency:
            judgement = Judgement(None, "infra_error", _UNREACHABLE)
        else:
            judgement = self._ask(key, submission)
            timed_out = judgement.rule == TIMEOUT and not judgement.replies
            self._timeouts = self._timeouts + 1 if timed_out else 0
        self._count(
            judged=judgement.correct is not None,
            reasked=judgement.replies > 1,
            no_verdict=judgement.rule == "no_verdict",
            errors=judgement.correct is None,
            retries=judgement.retries,
            seconds=judgement.seconds,
        )
        return judgement

    def _ask(self, key: str, submission: Submission) -> Judgement:
        config, prompt = self._config, submission.prompt
        messages = judge_messages(
            prompt,
            submission.answer,
            config.judged,
            max_chars=self._most(submission),
            guided=config.guided,
            images=prompt.images if config.images else (),
            max_pixels=config.max_pixels,
        )
        judgement = judge_once(self._chat, messages, config, seed=int(key[:15], 16))
        if judgement.correct is not None and config.cache:
            self._cache.add(key, judgement.correct, prompt=prompt.id, reply=judgement.reply)
        return judgement

    def _verdict(self, key: str | None, answer: str, judgements: dict[str, Judgement]) -> Verdict:
        assert key is not None
        judgement = judgements.get(key)
        if judgement is not None and judgement.correct is None:
            return Verdict(0.0, judgement.status, answer, judgement.rule)
        right = self._cache.get(key) if judgement is None else judgement.correct
        return correct(answer, "cot_rm") if right else wrong(answer, "cot_rm")

    def _count(self, **more: float) -> None:
        with self._counting:
            now = asdict(self._metrics)
            self._metrics = replace(self._metrics, **{name: now[name] + more[name] for name in more})


def _identity(config: CotRmConfig) -> str:
    """Which judge it is: other weights in the same folder are another one."""
    if config.path is None:
        return json.dumps([config.url, config.model, config.revision])
    files = sorted(path for path in Path(config.path).glob("*") if path.is_file())
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return json.dumps([config.path, config.revision, stats])
