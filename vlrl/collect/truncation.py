"""What becomes of responses cut by length, under `objective.truncated: penalise`."""

from dataclasses import replace

from vlrl.collect.collector import GroupGrader
from vlrl.config.run import RunConfig
from vlrl.trajectory import Group


class TruncationPenalty:
    """A grader for training that gives a response cut by length what a wrong one earns.

    Whatever it happened to hold, a boxed answer before the cut included, its verdict becomes `truncated`, so
    that rewards for length, which look at who is correct, can only take more away. Validation is graded
    without it: what is measured must not depend on how it was trained.
    """

    def __init__(self, grader: GroupGrader, wrong: float) -> None:
        self._grader, self._wrong = grader, wrong

    def grade(self, groups: list[Group]) -> None:
        """Grade, then overrule. A failed grading stays an error: it says nothing of the response."""
        self._grader.grade(groups)
        for rollout in (r for group in groups for r in group.rollouts):
            verdict = rollout.verdict
            if rollout.finish_reason == "length" and verdict is not None and not verdict.is_error:
                rollout.verdict = replace(verdict, reward=self._wrong, status="truncated", rule="length")


def training_grader(grader: GroupGrader, config: RunConfig) -> GroupGrader:
    """`grader` under the truncation policy of the objective."""
    if config.objective.truncated == "penalise":
        return TruncationPenalty(grader, config.rewards.wrong)
    return grader
