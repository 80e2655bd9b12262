"""Several rewards of one rollout added up."""

from collections.abc import Sequence
from dataclasses import replace

from vlrl.rewards.registry import Term
from vlrl.trajectory import Verdict


def combine(terms: Sequence[Term], verdicts: Sequence[Verdict], wrong: float) -> Verdict:
    """The verdict of a rollout from one of each of its terms, the first of which says its status.

    The reward is the weighted sum of the rewards. The first counts from `wrong` up to 1, the others from 0 to
    1; a gate adds nothing, but takes the whole to `wrong` where it is not earned. An error of any is an error
    of the whole, whose reward is 0 and whose rule begins with the label of what failed.
    """
    for term, verdict in zip(terms, verdicts, strict=True):
        if verdict.is_error:
            return Verdict(0.0, verdict.status, verdicts[0].answer, f"{term.label}: {verdict.rule}")
    first = verdicts[0]
    reward = terms[0].config.weight * (wrong + (1.0 - wrong) * first.reward)
    if len(terms) == 1:
        return replace(first, reward=reward)
    parts = {term.label: verdict.reward for term, verdict in zip(terms, verdicts, strict=True)}
    rule = first.rule
    for term in terms[1:]:
        if not term.config.gate:
            reward += term.config.weight * parts[term.label]
    for term in terms:
        if term.config.gate and parts[term.label] < term.config.at_least:
            reward, rule = min(reward, wrong), f"{rule}; gate {term.label}"
    return Verdict(reward, first.status, first.answer, rule, parts)
