"""Rewards by source: patterns, arguments, weights, gates, and the user's own."""

import asyncio
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_judge import ScriptedJudge
from vlrl.config.reward_models import CotRmConfig
from vlrl.config.rewards import RewardConfig
from vlrl.errors import UserError
from vlrl.rewards.grader import Grader
from vlrl.rewards.registry import VERIFIERS
from vlrl.rewards.verifier import AnswerVerifier, Submission, correct
from vlrl.training.rl_metrics import rollout_metrics
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

USER = textwrap.dedent(
    """
    import asyncio, time
    from vlrl.rewards.verifier import correct, wrong
    from vlrl.trajectory import Verdict

    calls = []

    def short(submission):
        return 1.0 - len(submission.answer) / 10

    async def remote(submission):
        await asyncio.sleep(0.05)
        return submission.answer == submission.prompt.ground_truth

    def batch(submissions):
        calls.append(len(submissions))
        return [s.prompt.extra["bonus"] for s in submissions]

    def broken(submission):
        raise KeyError("no such thing")

    def leaves(submission):
        raise SystemExit

    def out_of_range(submission):
        return 1.5

    def hangs(submission):
        if submission.answer == "hang":
            time.sleep(60)
        return True

    def wrong_count(submissions):
        return [1.0]

    def other_form(text, gold):
        return 1.0

    class Whole:
        def extract(self, response, thinking_open):
            return response

        def judge(self, submissions):
            rules = [correct if "!" in s.answer else wrong for s in submissions]
            return [rule(s.answer, "whole") for rule, s in zip(rules, submissions)]

    class Raises(Whole):
        def extract(self, response, thinking_open):
            return response.nothing if response == "unread" else response

        def judge(self, submissions):
            if any(s.answer == "odd" for s in submissions):
                raise RuntimeError("odd")
            return super().judge(submissions)

    class TooFew(Whole):
        def judge(self, submissions):
            return []

    class OutOfRange(Whole):
        def judge(self, submissions):
            return [Verdict(float("nan"), "correct", s.answer) for s in submissions]

    class Hangs(Whole):
        def judge(self, submissions):
            time.sleep(60)

    class Empty:
        pass

    class Once:
        def __call__(self, submission):
            return 1.0

    once = Once()
    """
)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "mine.py"
    path.write_text(USER)
    yield str(path)


def _grade(
    sources: dict[str, Any], *texts: str, source: str = "s", gold: str = "5", **kwargs: Any
) -> list[Verdict]:
    config = RewardConfig(sources=sources, **kwargs)
    group = _group(*texts, source=source, gold=gold)
    with Grader(config) as grader:
        grader.check([group.prompt])
        grader.grade([group])
    return [r.verdict for r in group.rollouts if r.verdict is not None]


def _group(*texts: str, source: str = "s", gold: str = "5", verifier: str = "math", **extra: Any) -> Group:
    prompt = Prompt("row-7", [{"role": "user", "content": "?"}], [], verifier, gold, source, extra)
    rollouts = [
        Rollout("row-7", i, [1], [Segment([2], [-0.5], 0, [1], "stop")], text=text)
        for i, text in enumerate(texts)
    ]
    return Group(prompt, rollouts)


def test_the_pattern_that_spells_out_most_and_the_row_for_the_rest() -> None:
    sources = {"c*": [{"verifier": "exact"}], "chart_*": [{"verifier": "numeric", "args": {"tolerance": 1}}]}
    assert _grade(sources, "\\boxed{5.5}", source="chart_bar")[0].rule == "tolerance"
    assert _grade(sources, "\\boxed{5.5}", source="cards")[0].rule == "number"
    assert _grade(sources, "\\boxed{10/2}", source="other") == [Verdict(1.0, "correct", "10/2", "number")]


def test_a_rows_arguments_go_over_those_of_the_config() -> None:
    sources = {"*": [{"verifier": "numeric", "args": {"tolerance": 1}}]}
    config = RewardConfig(sources=sources)  # type: ignore[arg-type]
    group = _group("\\boxed{5.5}", tolerance=0.1)
    with Grader(config) as grader:
        grader.grade([group])
    assert group.rollouts[0].verdict == Verdict(0.0, "wrong", "5.5", "tolerance")


def test_weights_and_gates(user: str) -> None:
    terms = [
        {"verifier": "row"},
        {"verifier": f"{user}:short", "weight": 0.5},
        {"verifier": f"{user}:Whole", "gate": True, "name": "polite"},
    ]
    right, wrong, rude = _grade({"*": terms}, "\\boxed{5}!", "\\boxed{42}!", "\\boxed{5}", wrong=-1.0)
    assert right.reward == pytest.approx(1 + 0.5 * 0.9) and right.status == "correct"
    assert right.parts == {"math": 1.0, "short": 0.9, "polite": 1.0}
    assert wrong.reward == pytest.approx(-1 + 0.5 * 0.8) and wrong.status == "wrong"
    assert (rude.reward, rude.status, rude.rule) == (-1.0, "correct", "number; gate polite")


def test_no_answer_for_one_reward_is_none_for_it_only(user: str) -> None:
    (none,) = _grade({"*": [{"verifier": "math"}, {"verifier": f"{user}:Whole", "weight": 0.1}]}, "no box!")
    assert none.status == "no_answer" and none.reward == pytest.approx(0.1)


def test_an_error_of_any_is_an_error_of_all(user: str) -> None:
    for name, says in (
        ("broken", "KeyError: 'no such thing'"),
        ("leaves", "SystemExit"),
        ("out_of_range", "gave 1.5, which is no number from 0 to 1"),
    ):
        (verdict,) = _grade({"*": [{"verifier": "math"}, {"verifier": f"{user}:{name}"}]}, "\\boxed{5}")
        assert verdict.status == "grader_error" and verdict.reward == 0.0
        assert verdict.rule.startswith(f"{name}: ") and says in verdict.rule
    verdicts = _grade({"*": [{"verifier": f"{user}:wrong_count"}]}, "\\boxed{5}", "\\boxed{6}")
    assert [v.status for v in verdicts] == ["grader_error"] * 2


def test_functions_one_at_a_time_in_batches_and_as_coroutines(user: str) -> None:
    started = time.monotonic()
    verdicts = _grade(
        {"*": [{"verifier": f"{user}:remote"}]}, *["\\boxed{5}", "\\boxed{6}"] * 16, user_workers=32
    )
    assert [v.reward for v in verdicts] == [1.0, 0.0] * 16
    assert time.monotonic() - started < 1.2  # one after the other they take 1.6 s
    (half, _) = _grade(
        {"*": [{"verifier": f"{user}:batch", "args": {"bonus": 0.5}}]}, "\\boxed{5}", "\\boxed{6}"
    )
    assert (half.reward, half.status, half.rule) == (0.5, "wrong", "batch")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("Raises", "odd", "RuntimeError: odd"),
        ("Raises", "unread", "AttributeError: "),
        ("TooFew", "!", "ValueError: judge gave no list of 1 verdicts"),
        ("OutOfRange", "!", "OutOfRange gave Verdict(reward=nan"),
        ("Hangs", "!", "timeout: "),
    ],
)
def test_a_class_that_fails_is_an_error_of_the_grader(user: str, name: str, text: str, error: str) -> None:
    (verdict,) = _grade({"*": [{"verifier": f"{user}:{name}"}]}, text, user_timeout_s=0.5)
    assert verdict.status == "grader_error" and verdict.rule.startswith(f"{name}: {error}")


def test_a_response_that_is_not_read_costs_no_other(user: str) -> None:
    verdicts = _grade({"*": [{"verifier": f"{user}:Raises"}]}, "a!", "unread", "b")
    assert [v.status for v in verdicts] == ["correct", "grader_error", "wrong"]


def test_an_object_that_can_be_called(user: str) -> None:
    (verdict,) = _grade({"*": [{"verifier": f"{user}:once"}]}, "\\boxed{5}")
    assert (verdict.status, verdict.rule) == ("correct", "once")


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"verifier": "numeric", "args": {"tolerence": 1}}, "no argument 'tolerence'; did you mean 'tol"),
        ({"verifier": "row", "args": {"zzz": 1}}, "verifier 'row' has no argument 'zzz'; it has answer_form"),
    ],
)
def test_arguments_that_a_verifier_does_not_have(term: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _grade({"*": [term]}, "\\boxed{5}")


def test_a_call_that_hangs_costs_its_own_rollout_only(user: str) -> None:
    texts = ["\\boxed{hang}", *["\\boxed{5}"] * 9]
    verdicts = _grade({"*": [{"verifier": f"{user}:hangs"}]}, *texts, user_timeout_s=1.0, user_workers=1)
    assert [v.status for v in verdicts] == ["grader_error"] + ["correct"] * 9
    assert verdicts[0].rule == "hangs: timeout: not done after 1 s"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "has no 'nothing'"),
        ("other_form", "write a function of one parameter"),
        ("Empty", "the class has no method 'judge'"),
    ],
)
def test_a_verifier_that_cannot_be_used_is_refused(user: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _grade({"*": [{"verifier": f"{user}:{name}"}]}, "\\boxed{5}")


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_the_kind")
    for path, message in (("bad.py", "cannot be imported"), ("none.py", "no file")):
        with pytest.raises(UserError, match=message):
            _grade({"*": [{"verifier": f"{tmp_path / path}:f"}]}, "\\boxed{5}")


def test_rows_cannot_name_files(user: str) -> None:
    group = _group("\\boxed{5}", verifier=f"{user}:short")
    with Grader(RewardConfig()) as grader, pytest.raises(UserError, match="row 'row-7': no verifier"):
        grader.check([group.prompt])


def test_mistakes_in_the_config() -> None:
    for terms, message in (
        ([], "the first reward says what is correct"),
        ([{"verifier": "math", "gate": True}], "it is no gate"),
        ([{"verifier": "math"}, {"verifier": "math"}], "two rewards have one name"),
    ):
        with pytest.raises(ValueError, match=message):
            RewardConfig(sources={"*": terms})  # type: ignore[arg-type]


def test_metrics_and_seconds_of_each_reward(user: str) -> None:
    terms = [{"verifier": "math"}, {"verifier": f"{user}:short", "weight": 0.5}]
    group, other = _group("\\boxed{5}", "\\boxed{42}"), _group("\\boxed{5}", source="t", verifier="exact")
    broken = _group("\\boxed{5}", source="b")
    sources = {"s": terms, "b": [{"verifier": f"{user}:broken"}]}
    with Grader(RewardConfig(sources=sources)) as grader:  # type: ignore[arg-type]
        asyncio.run(grader.grade_async([group, other, broken]))
        seconds = grader.take_timings()
        assert set(seconds) == {"reward/math", "reward/short", "reward/exact", "reward/broken"}
        assert all(value > 0 for value in seconds.values()) and grader.take_timings() == {}
    metrics = rollout_metrics([group, other, broken], version=0)
    assert metrics["reward/math"] == 0.5 and metrics["reward/short"] == pytest.approx(0.85)
    assert metrics["reward_errors/broken"] == 1.0 and metrics["error_rate"] == 0.25


def test_a_judge_is_a_reward_like_others(tmp_path: Path) -> None:
    with ScriptedJudge(lambda body: (200, '{"correct": true}')) as judge:
        config = RewardConfig(
            sources={"*": [{"verifier": "cot_rm"}]},  # type: ignore[list-item]
            cot_rm=CotRmConfig(url=judge.url, model="judge"),
        )
        for _ in range(2):  # the second finds the verdict in the folder
            with Grader(config, folder=tmp_path / "judge") as grader:
                grader.grade([group := _group("\\boxed{five}")])
                counts = grader.take_timings()
            assert group.rollouts[0].verdict == Verdict(1.0, "correct", "five", "cot_rm")
    assert len(judge.heard) == 1 and counts["cot_rm/cache_hits"] == 1.0


@pytest.mark.parametrize("name", ["cot_rm", "classic_rm"])
def test_a_reward_model_needs_its_section(name: str) -> None:
    with pytest.raises(UserError, match=f"verifier '{name}' needs the section 'rewards.{name}'"):
        _grade({"*": [{"verifier": name}]}, "\\boxed{5}")


def test_an_answer_that_breaks_a_verifier_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile(AnswerVerifier):
        def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
            assert all(s.answer != "odd" for s in submissions), "odd"
            return [correct(s.answer, "fragile") for s in submissions]

    monkeypatch.setitem(VERIFIERS, "fragile", lambda services: Fragile())
    verdicts = _grade({"*": [{"verifier": "fragile"}]}, "\\boxed{5}", "\\boxed{odd}", "\\boxed{6}")
    assert [v.status for v in verdicts] == ["correct", "grader_error", "correct"]
    assert verdicts[1].rule.startswith("fragile: AssertionError: odd")
