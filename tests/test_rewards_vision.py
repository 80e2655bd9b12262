"""Numbers and charts: what a final answer about an image earns."""

import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.vision_rows import boxed, rewards, row, verdicts
from vlrl.errors import UserError
from vlrl.rewards.numeric import NumericVerifier
from vlrl.rewards.verifier import Verifier
from vlrl.rewards.vision.chart import ChartVerifier

MATHVISTA = Path(__file__).parents[2] / "shared" / "data" / "mathvista"
NUMERIC, CHART = NumericVerifier(), ChartVerifier()

RIGHT: list[tuple[Verifier, str, dict[str, Any], list[str]]] = [
    (NUMERIC, "42", {"tolerance": 0.1}, ["41.9", "42.1", "$42", "42%", "4200%"]),
    (NUMERIC, "100", {"relative_tolerance": 0.05}, ["95", "105", "1.05 \\text{ hundred}"]),
    (NUMERIC, "-100", {"relative_tolerance": 0.05}, ["-95", "-105"]),
    (NUMERIC, "10", {"relative_tolerance": 0.05, "tolerance": 2}, ["8", "12"]),
    (NUMERIC, "45%", {}, ["45", "0.45", "45 percent"]),
    (NUMERIC, "0.45", {}, ["45%", "45\\%"]),
    (NUMERIC, "12345", {}, ["12,345", "12\u202f345", "12.345k", "12.345 thousand"]),
    (NUMERIC, "5200000", {}, ["5.2M", "5.2 mn", "5.2 million", "5,200,000"]),
    (NUMERIC, "5", {"scale": "million"}, ["5", "5 million", "5M", "5000K", "$5 million"]),
    (NUMERIC, "€5", {}, ["€5", "5 EUR", "5"]),
    (NUMERIC, "$5", {}, ["US$5", "5 dollars", "\\$5.00"]),
    (NUMERIC, "5 \\text{ cm}", {}, ["5", "5 cm"]),
    (NUMERIC, "2010", {"relative_tolerance": 0.05, "answer_type": "year"}, ["2010"]),
    (NUMERIC, "7", {"relative_tolerance": 0.2, "answer_type": "count"}, ["7", "7.0"]),
    (CHART, "43", {"relative_tolerance": 0.05}, ["43", "45", "41%"]),
    (CHART, "Yes", {}, ["yes", "True", "Yes."]),
    (CHART, "no", {}, ["No", "false"]),
    (CHART, "Dark Blue", {}, ["dark blue", '"Dark  Blue"', "\\text{dark blue}", "\u201cDark Blue\u201d"]),
    (CHART, "Washington, D.C.", {}, ["washington, d.c."]),
    (CHART, "Trinidad and Tobago", {}, ["Trinidad and Tobago"]),
    (CHART, "2010\u20132012", {}, ["2010-2012"]),
    (CHART, "Price (USD)", {}, ["price", "Price (usd)"]),
    (CHART, "Share", {}, ["share (%)", "Share (in %)"]),
    (CHART, "B", {}, ["B", "(B)", "b"]),
    (CHART, "2010", {"answer_type": "label", "relative_tolerance": 0.05}, ["2010"]),
    (
        CHART,
        '["A", "B", "C"]',
        {},
        ["C, A and B", "b; c; a", '["C", "B", "A"]', "\\{A, B, C\\}", "- A\n- C\n- B"],
    ),
    (CHART, '["A", "B"]', {"ordered": True}, ["A, B", "[A, B]"]),
    (CHART, "[100, 104]", {"relative_tolerance": 0.05}, ["104, 100", "102, 102", "96 and 100"]),
    (CHART, "[1200, 3]", {}, ["1,200, 3", "3; 1,200"]),
]

WRONG: list[tuple[Verifier, str, dict[str, Any], list[str]]] = [
    (NUMERIC, "42", {"tolerance": 0.1}, ["42.11", "42,41", "forty-one", "41 or 42", "40, 41, 42", "4.2"]),
    (NUMERIC, "100", {"relative_tolerance": 0.05}, ["94.9", "105.1", "-100", "100 and 200"]),
    (NUMERIC, "0", {"relative_tolerance": 0.05}, ["0.01"]),
    (NUMERIC, "5", {}, ["5 million", "5M", "5K"]),
    (NUMERIC, "5", {"scale": "million"}, ["5 billion", "5,000,000", "5 thousand"]),
    (NUMERIC, "$5", {}, ["€5", "5 GBP", "5 cents"]),
    (NUMERIC, "5 \\text{ cm}", {}, ["5 mm", "5 \\text{ m}", "5 furlongs"]),
    (NUMERIC, "2010", {"relative_tolerance": 0.05, "answer_type": "year"}, ["2008", "2010.5", "201000%"]),
    (NUMERIC, "7", {"relative_tolerance": 0.2, "answer_type": "count"}, ["8", "7%", "700%"]),
    (CHART, "43", {}, ["43.1", "A", "above 43", "What is shown?"]),
    (CHART, "Yes", {}, ["no", "yes or no", "Yes, No", "maybe", "1"]),
    (CHART, "red", {}, ["red or blue", "red, blue, green", "reddish", "What is shown?", "re d"]),
    (CHART, "Price (USD)", {}, ["Price (EUR)", "Price ("]),
    (CHART, "Sales (2019)", {}, ["Sales", "Sales (2020)"]),
    (CHART, "B", {}, ["A or B", "A, B, C, D", "8"]),
    (CHART, "2010", {"answer_type": "label", "relative_tolerance": 0.05}, ["2008", "2011"]),
    (CHART, '["A", "B", "C"]', {}, ["A, B", "A, B, C, D", "A, A, B", "ABC", "A or B or C", "[[A, B, C]]"]),
    (CHART, '["A", "B"]', {"ordered": True}, ["B, A"]),
    (CHART, "[100, 104]", {"relative_tolerance": 0.01}, ["102, 102", "100, 100", "100104"]),
]


@pytest.mark.parametrize(("verifier", "gold", "extra", "answers"), RIGHT)
def test_right(verifier: Verifier, gold: str, extra: dict[str, Any], answers: list[str]) -> None:
    for answer, verdict in zip(answers, boxed(verifier, row(gold, **extra), *answers), strict=True):
        assert (verdict.reward, verdict.status) == (1.0, "correct"), (answer, verdict)


@pytest.mark.parametrize(("verifier", "gold", "extra", "answers"), WRONG)
def test_wrong(verifier: Verifier, gold: str, extra: dict[str, Any], answers: list[str]) -> None:
    degenerate = ["", " ", "$$", "{}", "\\text{}"]
    answers = [*answers, *degenerate]
    for answer, verdict in zip(answers, boxed(verifier, row(gold, **extra), *answers), strict=True):
        assert (verdict.reward, verdict.status) == (0.0, "wrong"), (answer, verdict)


def test_an_answer_must_be_marked() -> None:
    assert verdicts(CHART, row("red"), "red", "<answer>red</answer>", "<think>\\boxed{red}")[0] is None
    assert rewards(verdicts(CHART, row("red"), "<answer>red</answer>", "<think>\\boxed{red}")) == [1.0, None]


@pytest.mark.parametrize(
    ("verifier", "gold", "extra", "message"),
    [
        (NUMERIC, "red", {}, "ground truth 'red' is no plain number"),
        (NUMERIC, "5", {"tolerance": -1}, "tolerance -1 must be a number that is not negative"),
        (NUMERIC, "5", {"tolerance": "wide"}, "tolerance 'wide' must"),
        (NUMERIC, "5", {"tolerance": "1e999999999"}, "tolerance '1e999999999' must"),
        (NUMERIC, "5", {"tolerance": True}, "tolerance True must"),
        (NUMERIC, "5", {"tolerance": 10**400}, "tolerance 1000"),
        (NUMERIC, "5", {"relative_tolerance": 1.5}, "relative_tolerance 1.5 must be a number from 0 to 0.99"),
        (NUMERIC, "5", {"answer_type": "integer"}, "answer_type 'integer' must be one of value, year"),
        (NUMERIC, "5", {"answer_type": "label"}, "use the verifier 'chart'"),
        (NUMERIC, "5", {"scale": "lakh"}, "scale 'lakh' must be one of thousand"),
        (CHART, "", {}, "the ground truth is empty"),
        (CHART, "[]", {}, "the ground truth is empty"),
        (CHART, '["a", ""]', {}, "the ground truth is empty"),
        (CHART, "[a, b]", {}, "begins with '\\[' but is no JSON list"),
        (CHART, "[[1]]", {}, "begins with '\\[' but is no JSON list"),
        (CHART, "[" * 100_000, {}, "begins with '\\[' but is no JSON list"),
        (CHART, f"{[1] * 101}", {}, "too long; give at most 100 items"),
        (CHART, "red", {"answer_type": "year"}, "answer_type 'year' needs a plain number"),
        (CHART, "red", {"ordered": "yes"}, "ordered 'yes' must be true or false"),
    ],
)
def test_refused(verifier: Verifier, gold: str, extra: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"row 'row-7': .*{message}"):
        verifier.check(row(gold, **extra))


def test_unordered_lists_are_matched_as_well_as_they_can_be() -> None:
    # 100 fits 96 and 104, 96 only 100: the first come must not take what the other needs.
    prompt = row("[100, 96]", tolerance=4)
    assert rewards(boxed(CHART, prompt, "100, 104", "92, 104", "104, 105")) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "answer",
    ["1" * 1_000_000, "," * 1_000_000, "[" * 1_000_000, "- " * 500_000, "a;" * 500_000, "$" * 1_000_000],
)
def test_a_megabyte_takes_no_time(answer: str) -> None:
    start = time.process_time()
    for verifier, prompt in (
        (NUMERIC, row("5")),
        (CHART, row("red")),
        (CHART, row(str([f"label {i}" for i in range(100)]).replace("'", '"'))),
    ):
        assert rewards(verdicts(verifier, prompt, f"<answer>{answer}</answer>")) == [0.0]
    assert time.process_time() - start < 1.0


def test_a_gold_answers_itself_and_not_another() -> None:
    rng = random.Random(0)
    golds = [str(rng.randint(1, 10**6)) for _ in range(200)] + [
        f"Item {rng.randint(0, 10**6)}" for _ in range(200)
    ]
    for gold, other in zip(golds, golds[1:] + golds[:1], strict=True):
        assert rewards(boxed(CHART, row(gold), gold, other)) == [1.0, 0.0]


@pytest.mark.skipif(not MATHVISTA.is_dir(), reason=f"{MATHVISTA} is not here")
@pytest.mark.parametrize(("model", "right"), [("gpt4", 261), ("bard", 348), ("llava_llama_2_13b", 261)])
def test_mathvista_is_scored_as_it_was_published(model: str, right: int) -> None:
    def read(name: str) -> Any:
        return json.loads(gzip.decompress((MATHVISTA / name).read_bytes()))

    problems, outputs = read("testmini.json.gz"), read(f"results/output_{model}.json.gz")
    scored = 0
    for key, output in outputs.items():
        (reward,) = rewards(boxed(CHART, row(problems[key]["answer"]), str(output["prediction"])))
        assert (reward == 1.0) == output["true_false"], (problems[key]["answer"], output["prediction"])
        scored += reward == 1.0
    assert (scored, len(outputs)) == (right, 1000)
