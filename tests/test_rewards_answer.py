import time

import pytest

from vlrl.rewards.answer import extract_answer, final_text


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{1} then \boxed{ 2 }", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{x = \boxed{7}}", "7"),
        (r"\boxed {5}", "5"),
        (r"line \\ \\boxed{5}", "5"),
        (r"{ stray \boxed{5} and } more }", "5"),
        (r"\boxed{4} and \boxed{7", "4"),
        ("<answer>12</answer>", "12"),
        ("<answer>1</answer> <answer>2</answer> <answer>3", "2"),
        ("<answer>1</answer> stray </answer>", "1"),
        (r"<answer>it is \boxed{5}</answer>", "5"),
        (r"\boxed{3} <answer>4</answer>", "4"),
        (r"<answer>4</answer> \boxed{3}", "3"),
        (r"\boxed{}", ""),
        ("the answer is 5", None),
        (r"\boxed 5", None),
        (r"unboxed{5}", None),
        ("", None),
    ],
)
def test_last_box_or_span(response: str, answer: str | None) -> None:
    assert extract_answer(response) == answer


def test_only_what_follows_the_thinking_counts() -> None:
    assert extract_answer(r"<think>\boxed{1}</think> \boxed{2}") == "2"
    assert extract_answer(r"<think>\boxed{1}</think> done") is None
    assert extract_answer(r"<think>\boxed{1}") is None
    assert extract_answer(r"<think>a</think> \boxed{2} <think>wait") is None
    # The generation prompt opened the tag, so the response only closes it.
    assert extract_answer(r"\boxed{1}", thinking_open=True) is None
    assert extract_answer(r"hm \boxed{1}</think>\boxed{2}", thinking_open=True) == "2"
    assert extract_answer(r"hm \boxed{1}</think>\boxed{2}") == "2"
    assert final_text("a</think> b") == " b"


@pytest.mark.parametrize(
    "response",
    [
        "\\" * 1_000_000 + "boxed",
        "{" * 1_000_000 + "boxed",
        "\\boxed{" * 150_000,
        "\\boxed" + " " * 1_000_000,
        "\\boxed " * 150_000,
        "boxed" + "{}" * 500_000,
        "<answer>" * 120_000,
        "</answer>" * 110_000,
    ],
)
def test_a_megabyte_takes_no_time(response: str) -> None:
    start = time.process_time()
    assert extract_answer(response) is None
    assert time.process_time() - start < 1.0


def test_the_last_of_many_boxes_wins() -> None:
    assert extract_answer("".join(f"\\boxed{{{i}}} " for i in range(400))) == "399"
    nested = "\\boxed{" * 1000 + "5" + "}" * 1000
    assert extract_answer(nested) == "5"
