"""Groups in, verdicts on: what every rollout of a batch has earned."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType

from vlrl.config.training import RewardConfig
from vlrl.rewards.registry import Registry
from vlrl.rewards.verifier import Submission
from vlrl.rewards.workers import GradingPool
from vlrl.trajectory import Group, Prompt, Rollout, Verdict


class Grader:
    """Fills in verdicts; a context manager that owns the grading processes.

    `thinking_open` says that the chat template's generation prompt ends in `<think>`, so that a response
    counts as thought until it closes the tag. Safe to use from several threads.
    """

    def __init__(self, config: RewardConfig, thinking_open: bool = False) -> None:
        self._config = config
        self._thinking_open = thinking_open
        self._pool = GradingPool(config.workers, config.timeout_s, config.memory_mb)
        self._registry = Registry(self._pool)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the grading processes."""
        self._pool.close()

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Refuse prompts that could never be graded; for when the data is read.

        Raises:
            UserError: naming the first such row: unknown verifier, unusable ground truth or argument.
        """
        for prompt in prompts:
            self._registry.verifier_of(prompt).check(prompt)

    def grade(self, groups: list[Group]) -> None:
        """Set `rollout.verdict` of every rollout.

        Correct earns what its verifier gives (1); wrong, missing and truncated answers earn
        `config.wrong`, repetitions that less their penalty; an error earns 0 under an error status, by
        which it is left out of training.

        Raises:
            UserError: a prompt names an unknown verifier or cannot be judged by it.
            WaitTimeout: the grading processes hang.
            EngineError: they do not start.
        """
        waiting: defaultdict[str, list[tuple[Rollout, Submission]]] = defaultdict(list)
        for group in groups:
            verifier = self._registry.verifier_of(group.prompt)
            for rollout in group.rollouts:
                answer = verifier.extract(rollout.text, self._thinking_open)
                if rollout.finish_reason == "repetition":
                    reward = self._config.wrong - self._config.repetition_penalty
                    rollout.verdict = Verdict(reward, "truncated", rule="repetition")
                elif rollout.finish_reason == "error" or answer is None:
                    rollout.verdict = self._unanswered(rollout)
                else:
                    submission = Submission(group.prompt, rollout.text, answer, self._thinking_open)
                    waiting[group.prompt.verifier].append((rollout, submission))
        for pairs in waiting.values():
            verifier = self._registry.verifier_of(pairs[0][1].prompt)
            verdicts = verifier.judge([submission for _, submission in pairs])
            for (rollout, _), verdict in zip(pairs, verdicts, strict=True):
                rollout.verdict = self._priced(verdict)

    def _unanswered(self, rollout: Rollout) -> Verdict:
        reason = rollout.finish_reason
        assert reason != "paused", f"rollout {rollout.sample_index} of {rollout.prompt_id} is not finished"
        if reason == "error":
            return Verdict(0.0, "infra_error", rule="sampler_error")
        return Verdict(self._config.wrong, "no_answer" if reason == "stop" else "truncated", rule=reason)

    def _priced(self, verdict: Verdict) -> Verdict:
        """A wrong answer earns `wrong`, and a partly right one its share of the way from there to 1."""
        if verdict.status != "wrong":
            return verdict
        wrong = self._config.wrong
        return replace(verdict, reward=wrong + (1.0 - wrong) * verdict.reward)
