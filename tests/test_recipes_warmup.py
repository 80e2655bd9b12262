import random
import re

import pytest

from data_recipes import warmup
from data_recipes.build import (
    RECIPES,
    build_conversations,
    checked_trace,
    examples,
    get_recipe,
    list_recipes,
)
from vlrl.errors import UserError
from vlrl.images import ImageStore

CASES = [(name, level) for name in list_recipes() for level in range(RECIPES[name].levels)]
GOOD = "<think>plan: read, then add. I see 27+45. ones 7+5=12 carry. tens 2+4+1=7. so 72.</think>\\boxed{72}"


@pytest.mark.parametrize(("name", "level"), CASES)
def test_every_trace_is_true_and_every_behaviour_is_shown(name: str, level: int) -> None:
    traces = []
    for example in examples(name, 300, level, "train", seed=5):
        trace = checked_trace(example)
        recipe = get_recipe(name)
        assert warmup.find_fault(trace, recipe.solve(example.spec), recipe.facts(example.spec)) is None
        traces.append(trace)
    report = warmup.balance(traces)
    assert all(0.2 < report[behaviour] < 0.4 for behaviour in warmup.BEHAVIOURS)
    # Level 0 is what a small model is warmed up on from scratch; larger grids take longer to transcribe.
    assert report["mean_tokens"] < (70 if level == 0 else 125)


@pytest.mark.parametrize(("name", "level"), CASES)
def test_changing_any_digit_of_a_trace_is_noticed(name: str, level: int) -> None:
    recipe, rng = get_recipe(name), random.Random(0)
    caught = tried = 0
    for example in examples(name, 80, level, "train", seed=6):
        trace, facts = checked_trace(example), recipe.facts(example.spec)
        if re.search(r"\*0\b|\b0\*", trace):
            continue  # 10*0=0 stays true as 11*0=0
        for place, character in enumerate(trace):
            if character.isdigit():
                other = rng.choice([d for d in "0123456789" if d != character])
                changed = trace[:place] + other + trace[place + 1 :]
                tried += 1
                caught += warmup.find_fault(changed, example.ground_truth, facts) is not None
    assert caught == tried > 500


@pytest.mark.parametrize(
    ("trace", "fault"),
    [
        (GOOD.replace("boxed{72}", "boxed{73}"), "boxed '73'"),
        (GOOD.replace("7+5=12", "7+5=13"), "'7+5=13' is false"),
        (GOOD.replace("27+45", "27+46"), "does not say '27+45'"),
        (GOOD.replace("I see 27+45. ", ""), "does not say '27+45'"),
        (GOOD.replace("so 72", "so"), "does not conclude"),
        (GOOD.replace("so 72", "so 72 or 73"), "'73' stands in no checked statement"),
        (GOOD.replace("plan: ", ""), "shows none of"),
        (GOOD.replace("</think>", ""), "not one <think> block"),
        (GOOD + "\\boxed{72}", "not one <think> block"),
        ("", "not one <think> block"),
    ],
)
def test_faults_are_named(trace: str, fault: str) -> None:
    assert warmup.find_fault(GOOD, "72", ["27+45"]) is None
    assert fault in (warmup.find_fault(trace, "72", ["27+45"]) or "")


def test_a_wrong_word_in_a_neighbour_trace_is_noticed() -> None:
    recipe = get_recipe("shapes")
    for example in examples("shapes", 50, 1, "train", 0, {"tasks": ["neighbour"]}):
        trace, answer = checked_trace(example), example.ground_truth
        wrong = "red circle" if answer != "red circle" else "blue circle"
        for changed in (trace.replace(f"is {answer}", f"is {wrong}"), trace.replace(answer, wrong)):
            assert warmup.find_fault(changed, answer, recipe.facts(example.spec)) is not None


def test_the_text_twin_has_the_same_problems_and_traces() -> None:
    for level in range(4):
        drawn = list(examples("rendered_arithmetic", 50, level, "validation", seed=2))
        written = list(examples("text_arithmetic", 50, level, "validation", seed=2))
        assert [e.spec for e in drawn] == [e.spec for e in written]
        assert [checked_trace(e) for e in drawn] == [checked_trace(e) for e in written]
        assert all(e.image is None for e in written) and all(e.image is not None for e in drawn)


def test_column_arithmetic_is_right_for_all_pairs() -> None:
    """The digits that the steps end in spell the result, and every step is true."""
    rng = random.Random(1)
    for sign in "+-*":
        for _ in range(500):
            left, right = rng.randint(0, 999), rng.randint(0, 9 if sign == "*" else 999)
            if sign == "-" and left < right:
                left, right = right, left
            steps = warmup.digit_steps(left, sign, right)
            values = []
            for step in steps:
                expression, value = step.split()[1].split("=")
                assert warmup.evaluate(expression) == int(value)
                values.append(int(value))
            shown = [value % 10 for value in values[:-1]] + values[-1:]
            assert sum(v * 10**i for i, v in enumerate(shown)) == warmup.evaluate(f"{left}{sign}{right}")


def test_the_vocabulary_is_small() -> None:
    words: set[str] = set()
    for name, level in CASES:
        for example in examples(name, 100, level, "train", seed=0):
            words.update(warmup.tokens(f"{example.question} {checked_trace(example)}"))
    assert 60 < len(words) < 200


@pytest.mark.parametrize("name", list_recipes())
def test_a_share_of_traces_answers_at_once(name: str, tmp_path) -> None:
    rows = build_conversations(name, 300, 0, "train", 3, ImageStore(tmp_path), {"brief": 0.4})
    plain = build_conversations(name, 300, 0, "train", 3, ImageStore(tmp_path))
    brief = [row.messages[-1]["content"].startswith("<think>so ") for row in rows]
    assert 0.3 < sum(brief) / len(rows) < 0.5
    for is_brief, row, full in zip(brief, rows, plain, strict=True):
        answer = re.search(r"\\boxed\{(.+)\}", full.messages[-1]["content"])
        assert answer is not None
        expected = warmup.compose_brief(answer[1]) if is_brief else full.messages[-1]["content"]
        assert row.messages[-1]["content"] == expected
        assert row.messages[:-1] == full.messages[:-1]


@pytest.mark.parametrize("share", [2, -0.1, True, "half"])
def test_a_brief_share_that_is_none_is_refused(share: object, tmp_path) -> None:
    with pytest.raises(UserError, match="'brief' must be a share from 0 to 1"):
        build_conversations("shapes", 3, 0, "train", 3, ImageStore(tmp_path), {"brief": share})
