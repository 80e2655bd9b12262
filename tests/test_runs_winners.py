"""The rollouts that a reward paid at its edges: shortest, longest, and paid without being right."""

from vlrl.config.rewards import RewardConfig
from vlrl.runs.winners import find_winners, is_format_only
from vlrl.training.rl_metrics import alarms, rollout_metrics
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

RIGHT = Verdict(1.1, "correct", "5", "number", {"math": 1.0, "format": 1.0})
PAID = Verdict(-0.9, "wrong", "6", "number", {"math": 0.0, "format": 1.0})
PARTLY = Verdict(0.5, "wrong", "6", "cer", {"transcription": 0.75, "format": 1.0})
UNPAID = Verdict(-1.0, "wrong", "6", "number", {"math": 0.0, "format": 0.0})
LOST = Verdict(0.0, "grader_error", "6", "math: timeout", {})


def _group(*verdicts: tuple[Verdict | None, int]) -> Group:
    prompt = Prompt("p", [{"role": "user", "content": "?"}], [], "math", "5")
    rollouts = []
    for index, (verdict, tokens) in enumerate(verdicts):
        segment = Segment([1] * tokens, [-0.5] * tokens, 0, [1] * tokens, "stop")
        rollouts.append(Rollout("p", index, [1], [segment], text=f"{tokens}", verdict=verdict))
    return Group(prompt, rollouts)


def test_who_is_paid_without_being_right() -> None:
    assert is_format_only(PAID, floor=-1.0)
    for verdict in (RIGHT, PARTLY, UNPAID, LOST, Verdict(0.0, "wrong", "6", "number")):
        assert not is_format_only(verdict, floor=-1.0)


def test_winners_of_every_kind() -> None:
    groups = [
        _group((RIGHT, 30), (PAID, 5), (LOST, 1), (None, 2)),
        _group((RIGHT, 12), (RIGHT, 90), (UNPAID, 400), (PARTLY, 3)),
    ]
    found = {winner.kind: winner.rollout.text for winner in find_winners(groups, floor=lambda source: -1.0)}
    assert found == {"shortest": "12", "longest": "90", "format_only": "5"}
    assert find_winners([_group((UNPAID, 4))], floor=lambda source: -1.0) == []


def test_their_metrics_and_alarm() -> None:
    metrics = rollout_metrics(
        [_group((RIGHT, 30), (PAID, 5), (PAID, 6), (LOST, 1))], 0, floor=lambda source: -1.0
    )
    assert metrics["correct_tokens_min"] == metrics["correct_tokens_max"] == 30
    assert metrics["format_only_rate"] == 2 / 3
    assert any("paid without a right answer" in alarm for alarm in alarms(metrics | {"updates": 1.0}))
    assert "correct_tokens_min" not in rollout_metrics([_group((UNPAID, 3))], 0)


def test_the_floor_is_that_of_the_sources_first_reward() -> None:
    sources = {"*": [{"verifier": "row", "weight": 0.5}, {"verifier": "format", "weight": 0.1}]}
    config = RewardConfig(wrong=-1.0, sources=sources)  # type: ignore[arg-type]
    assert config.floor("any") == -0.5 and RewardConfig(wrong=-1.0).floor("any") == -1.0
    unpaid = Verdict(-0.5, "wrong", "6", "number", {"math": 0.0, "format": 0.0})
    assert rollout_metrics([_group((unpaid, 3))], 0, config.floor)["format_only_rate"] == 0.0
    paid = Verdict(-0.4, "wrong", "6", "number", {"math": 0.0, "format": 1.0})
    assert rollout_metrics([_group((paid, 3))], 0, config.floor)["format_only_rate"] == 1.0
