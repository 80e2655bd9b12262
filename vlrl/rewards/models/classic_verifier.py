"""The verifier `classic_rm`: a reward model with a value head, in a process that can be killed.

A forward pass cannot be stopped from within its process, and one that runs out of memory should not take
the trainer along. So the model has a process of its own: one in which nothing is scored for `timeout_s`
seconds is killed, what it had not scored is an error, and the next batch starts another.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from vlrl.config.reward_models import ClassicRmConfig
from vlrl.errors import UserError
from vlrl.rewards.models.classic_client import ClassicProcess, Score
from vlrl.rewards.models.classic_settings import HeadSettings, RewardInput
from vlrl.rewards.models.question import check_markers, check_reference, is_empty, judged_part, question_text
from vlrl.rewards.verifier import Submission, failed, wrong
from vlrl.trajectory import Prompt, Verdict

_OF_THE_PROCESS = ("timeout", "died", "OutOfMemoryError")


@dataclass(slots=True, frozen=True)
class ClassicMetrics:
    """Counts since the start: `submissions`, those `scored` (equal ones once), `errors` among these, `starts`
    of the process; `seconds` spent scoring, loading included.
    """

    submissions: int = 0
    scored: int = 0
    errors: int = 0
    starts: int = 0
    seconds: float = 0.0


class ClassicRmVerifier:
    """Correct is what the reward model gives at least the threshold's probability.

    Its reward is 1, or with `soft` the probability, which then is the partial reward of a wrong one as well.
    Rules: `classic_rm`; `empty`, wrong without the model; of errors the reason: `too_long: ...` and others of
    the input under `grader_error`, `timeout: ...` and `died: ...` of the process under `infra_error`.

    Raises:
        UserError: `config.path` is no reward model of this version.
    """

    def __init__(self, config: ClassicRmConfig) -> None:
        self._config, self._settings = config, HeadSettings.load(config.path)
        self._threshold = config.threshold or self._settings.threshold
        self._process = ClassicProcess(config)
        self._metrics, self._counting = ClassicMetrics(), threading.Lock()

    def extract(self, response: str, thinking_open: bool) -> str | None:
        """The final answer, or what follows the thinking, as the model was trained for."""
        return judged_part(response, thinking_open, self._settings.judged)

    def check(self, prompt: Prompt) -> None:
        """
        Raises:
            UserError: no reference answer, images that the model does not take, or other markers than images.
        """
        check_reference(prompt)
        if prompt.images and not self._settings.takes_images:
            raise UserError(
                f"{prompt.name}: the row has images and the reward model {self._config.path} takes text "
                "only; use another verifier for it"
            )
        check_markers(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        """A verdict each, in order; blocks, from any thread.

        Raises:
            UserError, EngineError, WaitTimeout: the model does not load; see `ClassicProcess.score`.
        """
        began = time.monotonic()
        inputs = [None if is_empty(s.answer) else _input(s) for s in submissions]
        given = list(dict.fromkeys(one for one in inputs if one is not None))
        scores = dict(zip(given, self._process.score(given) if given else [], strict=True))
        self._count(
            submissions=len(submissions),
            scored=len(given),
            errors=sum(isinstance(score, str) for score in scores.values()),
            seconds=time.monotonic() - began,
        )
        return [
            wrong(s.answer, "empty") if one is None else self._verdict(s.answer, scores[one])
            for s, one in zip(submissions, inputs, strict=True)
        ]

    @property
    def metrics(self) -> ClassicMetrics:
        """What has happened so far; a snapshot."""
        return replace(self._metrics, starts=self._process.starts)

    def close(self) -> None:
        """End the model's process."""
        self._process.close()

    def _verdict(self, answer: str, score: Score) -> Verdict:
        if isinstance(score, str):
            if score.startswith(_OF_THE_PROCESS):
                return Verdict(0.0, "infra_error", answer, score)
            return failed(answer, score)
        right = score >= self._threshold
        reward = score if self._config.soft else float(right)
        return Verdict(reward, "correct" if right else "wrong", answer, "classic_rm")

    def _count(self, **more: float) -> None:
        with self._counting:
            now = asdict(self._metrics)
            self._metrics = replace(self._metrics, **{name: now[name] + more[name] for name in more})


def _input(submission: Submission) -> RewardInput:
    prompt = submission.prompt
    images = tuple(prompt.images)
    return RewardInput(question_text(prompt), prompt.ground_truth.strip(), submission.answer, images)
