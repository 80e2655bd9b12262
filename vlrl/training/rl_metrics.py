"""The numbers of an RL step, and which of them should worry someone.

Thresholds of the truncation alarm are ScaleRL's experience (appendix A.16): healthy runs stay below 5 %, and
above 10 % training tends not to recover.
"""

from collections import Counter, defaultdict
from collections.abc import Callable

from vlrl.objectives.advantages import all_equal
from vlrl.objectives.metrics import mean_stats
from vlrl.runs.winners import is_format_only
from vlrl.trajectory import Group, Rollout

_TRUNCATION = (
    (0.15, "stop and raise rl.max_response_tokens"),
    (0.10, "training may not recover"),
    (0.05, "healthy runs stay below 5%; watch it, or set objective.truncated or rl.interruption"),
)
_MISMATCH_K3 = 0.01  # nats a token; fp32 pairs measure below 1e-9, bf16 pairs below 1e-3
_ERROR_SHARE = 0.05
_COLLAPSE = 0.9
_FORMAT_ONLY = 0.5


def rollout_metrics(
    groups: list[Group], version: int, floor: Callable[[str], float] = lambda source: 0.0
) -> dict[str, float]:
    """Rewards, accuracy, lengths and outcomes of a batch; `version` is the trainer's when it was used.

    `floor` is what a rollout of a source earns by its first reward where that gives nothing.

    Every metric and its unit: docs/metrics.md.
    """
    rollouts = [r for g in groups for r in g.rollouts]
    graded = [r for r in rollouts if r.verdict is not None and not r.verdict.is_error]
    lengths = [len(r.response_ids) for r in rollouts]
    total = len(rollouts)
    metrics = {
        "reward": _mean([r.verdict.reward for r in graded if r.verdict]),
        "accuracy": _mean([float(r.verdict.status == "correct") for r in graded if r.verdict]),
        "response_tokens": _mean(lengths),
        "response_tokens_max": float(max(lengths)),
        "truncation_rate": sum(r.finish_reason == "length" for r in rollouts) / total,
        "repetition_rate": sum(r.finish_reason == "repetition" for r in rollouts) / total,
        "interrupted_rate": sum(any(s.is_injected for s in r.segments) for r in rollouts) / total,
        "segments": _mean([len(r.segments) for r in rollouts]),
        "error_rate": 1.0 - len(graded) / total,
        "no_answer_rate": sum(r.verdict.status == "no_answer" for r in graded if r.verdict) / total,
    }
    metrics |= _lags(rollouts, version) | _collapse(groups) | _winners(groups, floor)
    for source in sorted({g.prompt.source for g in groups}):
        scores = [
            float(r.verdict.status == "correct")
            for g in groups
            if g.prompt.source == source
            for r in g.rollouts
            if r.verdict is not None and not r.verdict.is_error
        ]
        metrics[f"accuracy/{source}"] = _mean(scores)
    return metrics | _rewards(rollouts)


def _winners(groups: list[Group], floor: Callable[[str], float]) -> dict[str, float]:
    """How short and long a rollout can be and be right, and how many were paid without being right."""
    graded = [
        (group.prompt.source, rollout, rollout.verdict)
        for group in groups
        for rollout in group.rollouts
        if rollout.verdict is not None and not rollout.verdict.is_error
    ]
    right = [len(rollout.response_ids) for _, rollout, verdict in graded if verdict.status == "correct"]
    paid = [float(is_format_only(verdict, floor(source))) for source, _, verdict in graded]
    metrics = {"format_only_rate": _mean(paid)}
    if right:
        metrics |= {"correct_tokens_min": float(min(right)), "correct_tokens_max": float(max(right))}
    return metrics


def _rewards(rollouts: list[Rollout]) -> dict[str, float]:
    """What each of several rewards gave, and how many rollouts each failed to grade."""
    verdicts = [r.verdict for r in rollouts if r.verdict is not None]
    parts: defaultdict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        for name, value in verdict.parts.items():
            parts[name].append(value)
    # The rule of an error begins with the name of what failed.
    errors = Counter(v.rule.partition(":")[0] for v in verdicts if v.is_error)
    metrics = {f"reward/{name}": _mean(values) for name, values in sorted(parts.items())}
    return metrics | {f"reward_errors/{name}": float(count) for name, count in sorted(errors.items())}


def _lags(rollouts: list[Rollout], version: int) -> dict[str, float]:
    """Of sampled tokens: how many versions the trainer is ahead of the one that sampled them."""
    lags = [version - v for r in rollouts for v, m in zip(r.versions, r.loss_mask, strict=True) if m]
    return {"lag": float(max(lags, default=0)), "lag_mean": _mean(lags)}


def _collapse(groups: list[Group]) -> dict[str, float]:
    """Groups that teach nothing by their verdicts alone, and responses that stand in their group twice.

    Groups none of whose rollouts could be graded say nothing of the policy and are left out.
    """
    graded = [g for g in groups if g.rewards]
    flat = [g for g in graded if all_equal(g.rewards)]
    right = [sum(r.verdict is not None and r.verdict.status == "correct" for r in g.rollouts) for g in flat]
    total = max(len(graded), 1)
    distinct = [len({tuple(r.response_ids) for r in g.rollouts}) for g in groups]
    rollouts = sum(len(g.rollouts) for g in groups)
    return {
        "collapse": len(flat) / total,
        "collapse_correct": sum(n == len(g.rewards) for n, g in zip(right, flat, strict=True)) / total,
        "collapse_wrong": right.count(0) / total,
        "duplicate_rate": 1.0 - sum(distinct) / rollouts,
    }


def learner_metrics(updates: list[dict[str, float]]) -> dict[str, float]:
    """Statistics of the optimizer steps of one iteration (from `TrainEngine.step`) as per-token means."""
    if not updates:
        return {"updates": 0.0}
    merged: dict[str, float] = {}
    for update in updates:
        for name, value in update.items():
            old = merged.get(name, 0.0)
            merged[name] = max(old, value) if name.endswith("_max") else old + value
    count = len(updates)
    averaged = {name: merged.pop(name) / count for name in ("loss", "grad_norm", "lr")}
    # Only the first update starts from the weights that sampled: what later ones differ by is learning.
    first = mean_stats(updates[0])
    mismatch = {name: value for name, value in first.items() if name.startswith("mismatch_")}
    learned = averaged | mean_stats(merged) | mismatch | {"updates": float(count)}
    if not mismatch["mismatch_tokens"]:  # all older than the weights: no engine was compared with itself
        learned = {name: value for name, value in learned.items() if name not in mismatch}
    return learned


def alarms(metrics: dict[str, float]) -> list[str]:
    """One sentence for each number that should worry someone."""
    found = []
    for threshold, advice in _TRUNCATION:
        if metrics["truncation_rate"] > threshold:
            found.append(f"{metrics['truncation_rate']:.0%} of rollouts were cut by length: {advice}")
            break
    if metrics.get("mismatch_k3_mean", 0.0) > _MISMATCH_K3:
        found.append(
            f"sampler and trainer disagree by {metrics['mismatch_k3_mean']:.2g} nats a token (KL): check "
            "sampling.dtype, sampling.fp32_head, under lag sampling.stale_kv, and the sampler's log"
        )
    if metrics["error_rate"] > _ERROR_SHARE:
        found.append(
            f"{metrics['error_rate']:.0%} of rollouts could not be graded: see the rollouts' verdicts"
        )
    if metrics["format_only_rate"] > _FORMAT_ONLY:
        found.append(
            f"{metrics['format_only_rate']:.0%} of rollouts are paid without a right answer: lower the "
            "weights of the other rewards, or make them gates"
        )
    if metrics["updates"] == 0:
        found.append("nothing to learn from: every group's rewards are equal")
    elif metrics["collapse"] > _COLLAPSE:
        found.append(
            f"{metrics['collapse']:.0%} of groups have equal rewards ({metrics['collapse_correct']:.0%} all "
            f"correct, {metrics['collapse_wrong']:.0%} none): give prompts of another difficulty"
        )
    return found


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values) if values else 0.0
