"""Rewards of one's own, for several_rewards.yaml."""

from vlrl.rewards.verifier import Submission


def brief(submission: Submission) -> float:
    """1 for a response of nothing, down to 0 at 400 characters."""
    return max(0.0, 1.0 - len(submission.response) / 400)
