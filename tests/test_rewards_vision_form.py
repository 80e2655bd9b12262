"""The form and the language of a response."""

# ruff: noqa: RUF001

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.vision_rows import rewards, row, verdicts
from vlrl.errors import UserError
from vlrl.rewards.form import FormatVerifier
from vlrl.rewards.language import LanguageVerifier, prose
from vlrl.rewards.scripts import guess_language, words_of

FORM, LANGUAGE = FormatVerifier(), LanguageVerifier()
T = "<think>so</think>"


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (f"{T}\\boxed{{5}}", "form"),
        (f" {T} It is <answer>5</answer>.", "form"),
        (f"{T}<answer>\\boxed{{5}}</answer>", "form"),
        ("<think>is it \\boxed{4}?</think>\\boxed{5}", "form"),
        ("", "thinking"),
        ("\\boxed{5}", "thinking"),
        ("<think> </think>\\boxed{5}", "thinking"),
        (f"Well {T}\\boxed{{5}}", "thinking"),
        (f"{T}</think>\\boxed{{5}}", "thinking"),
        (f"{T}{T}\\boxed{{5}}", "thinking"),
        ("<think>\\boxed{5}", "thinking"),
        ("so</think>\\boxed{5}", "thinking"),
        (f"{T}5", "answer"),
        (f"{T}\\boxed{{}}", "answer"),
        (f"{T}\\boxed{{5", "answer"),
        (f"{T}\\boxed{{5}} or \\boxed{{6}}", "answer"),
        (f"{T}\\boxed{{5}} <answer>5</answer>", "answer"),
        (f"{T}<answer>5</answer><answer>6</answer>", "answer"),
        (f"{T}<answer>5</answer></answer>", "answer"),
    ],
)
def test_form(response: str, rule: str) -> None:
    (verdict,) = verdicts(FORM, row(""), response)
    assert verdict is not None and verdict.rule == rule
    assert verdict.reward == (1.0 if rule == "form" else 0.0)


def test_thinking_that_the_generation_prompt_opened() -> None:
    responses = "so</think>\\boxed{5}", f"{T}\\boxed{{5}}", "\\boxed{5}", "</think>\\boxed{5}"
    assert rewards(verdicts(FORM, row(""), *responses, thinking_open=True)) == [1.0, 0.0, 0.0, 0.0]
    prompt = row("", thinking="forbidden")
    assert rewards(verdicts(FORM, prompt, *responses, thinking_open=True)) == [0.0, 0.0, 0.0, 1.0]
    assert rewards(verdicts(FORM, prompt, *responses)) == [0.0, 0.0, 1.0, 0.0]
    assert rewards(verdicts(FORM, row("", thinking="optional"), *responses)) == [0.0, 1.0, 1.0, 0.0]


def test_arguments_of_form() -> None:
    box, span, none, empty = f"{T}\\boxed{{5}}", f"{T}<answer>5</answer>", f"{T}five", T
    for wanted, expected in (("box", [1, 0, 0, 0]), ("span", [0, 1, 0, 0]), ("none", [1, 1, 1, 0])):
        assert rewards(verdicts(FORM, row("", answer_form=wanted), box, span, none, empty)) == expected
    assert rewards(verdicts(FORM, row("", min_chars=27), box, span)) == [0.0, 1.0]
    assert rewards(verdicts(FORM, row("", max_chars=26), box, span)) == [1.0, 0.0]
    assert rewards(verdicts(FORM, row("", pattern=r".*\\boxed\{\d\}"), box, box + "\n")) == [1.0, 0.0]


def test_a_pattern_that_takes_too_long_is_no_wrong_answer() -> None:
    start = time.monotonic()
    (verdict,) = verdicts(
        FORM, row("", pattern="<think>(a|a)*b.*"), f"<think>{'a' * 100_000}</think>\\boxed{{5}}"
    )
    assert verdict is not None and (verdict.status, verdict.rule) == ("grader_error", "pattern_timeout")
    assert time.monotonic() - start < 2.0


EN = "<think>So the red bar is the highest one, and its value is forty.</think> The answer is \\boxed{40}"
DE = "<think>Der rote Balken ist am höchsten und sein Wert ist vierzig.</think> Die Antwort ist \\boxed{40}"
FR = (
    "<think>La barre rouge est la plus haute et sa valeur est de quarante.</think> La réponse est \\boxed{40}"
)
ZH = "<think>红色的柱子最高，它的数值是四十。</think> 答案是 \\boxed{40}"
JA = "<think>赤い棒がいちばん高くて、値は四十です。</think> 答えは \\boxed{40} です"
KO = "<think>빨간 막대가 가장 높고 값은 사십입니다.</think> 답은 \\boxed{40}"
RU = "<think>Красный столбец выше всех остальных, его значение сорок.</think> Ответ \\boxed{40}"
AR = "<think>العمود الأحمر هو الأعلى في الرسم البياني وقيمته أربعون.</think> الجواب \\boxed{40}"
HI = "<think>लाल पट्टी सबसे ऊँची है और उसका मान चालीस है, यह सही है।</think> उत्तर \\boxed{40}"
TH = "<think>แท่งสีแดงสูงที่สุด</think> คำตอบคือ \\boxed{40}"
EL = "<think>Η κόκκινη μπάρα είναι η ψηλότερη.</think> Η απάντηση είναι \\boxed{40}"
HE = "<think>העמודה האדומה היא הגבוהה ביותר.</think> התשובה היא \\boxed{40}"
SPOKEN = {"en": EN, "de": DE, "fr": FR, "zh": ZH, "ja": JA, "ko": KO, "ru": RU, "ar": AR, "hi": HI, "th": TH}
SPOKEN |= {"el": EL, "he": HE}


@pytest.mark.parametrize("language", SPOKEN)
def test_each_language_is_itself_and_no_other(language: str) -> None:
    found = verdicts(LANGUAGE, row("", language=language), *SPOKEN.values())
    assert {code for code, v in zip(SPOKEN, found, strict=True) if v and v.status == "correct"} == {language}
    assert guess_language(words_of(prose(SPOKEN[language]))) == language


def test_the_share_of_words_and_the_smaller_part() -> None:
    prompt = row("", language="zh")
    # Nine Chinese letters and one word; the same again in an answer of two words, one of them English.
    assert rewards(
        verdicts(LANGUAGE, prompt, "红色的柱子最高了吗 really", "红色的柱子最高了 really yes")
    ) == [0.9, 0.8]
    assert rewards(verdicts(LANGUAGE, prompt, "<think>红色的柱子</think>答 really \\boxed{5}")) == [0.5]
    assert rewards(verdicts(LANGUAGE, prompt, "<think>红色的柱子</think>\\boxed{5}")) == [1.0]
    near, far = verdicts(LANGUAGE, row("", language="zh", at_least=0.5), "红 really", "红 really yes")
    assert near is not None and (near.status, near.reward) == ("correct", 0.5)
    assert far is not None and (far.status, far.reward) == ("wrong", 1 / 3)


def test_code_mathematics_and_symbols_are_no_words() -> None:
    formulas = "$x+y$ \\(a = \\text{speed}\\) \\[ \\frac{a}{b} \\] `print(x)` ABC x"
    formulas += " ```python\nfor word in text: pass\n```"
    assert rewards(verdicts(LANGUAGE, row("", language="zh"), f"所以 {formulas} 就是答案")) == [1.0]
    # Nothing is thought in another script behind a formula, closed or not.
    for hidden in (
        "$红色的柱子$",
        "\\(红色的柱子\\)",
        "```\n红色的柱子\n```",
        "`红色的柱子`",
        "\\(红色的柱子",
        "```红色的柱子",
    ):
        (verdict,) = verdicts(LANGUAGE, row("", language="en"), f"The red bar {hidden}")
        assert verdict is not None and verdict.reward == 3 / 8, hidden


def test_the_language_of_the_question() -> None:
    found = verdicts(LANGUAGE, row("", "红色柱子的值是多少？"), ZH, EN)
    assert [v.reward for v in found if v] == [1.0, 0.0]
    asked = "Wie hoch ist der rote Balken in diesem Diagramm?"
    assert rewards(verdicts(LANGUAGE, row("", asked), DE, EN, asked)) == [1.0, 0.0, 0.0]


def test_what_says_nothing_earns_nothing() -> None:
    said = ["", "\\boxed{5}", "40", "<think></think>", "the " * 100, "How much more is C than D?"]
    assert rewards(verdicts(LANGUAGE, row("", "How much more is C than D?"), *said)) == [0.0] * len(said)


@pytest.mark.parametrize(
    ("verifier", "question", "extra", "message"),
    [
        (FORM, "?", {"thinking": "yes"}, "thinking 'yes' must be one of required, optional, forbidden"),
        (FORM, "?", {"answer_form": "json"}, "answer_form 'json' must be one of any, box, span, none"),
        (FORM, "?", {"max_chars": 1.5}, "max_chars 1.5 must be a whole number of at least 0"),
        (FORM, "?", {"min_chars": 9, "max_chars": 5}, "min_chars 9 is above max_chars 5"),
        (FORM, "?", {"pattern": "("}, "pattern '\\(' is no regular expression"),
        (FORM, "?", {"pattern": 5}, "pattern must be text of at most 1000 characters"),
        (FORM, "?", {"pattern": "a" * 1001}, "pattern must be text of at most 1000 characters"),
        (LANGUAGE, "5 + 5 = ?", {}, "the language of the question is not plain; give 'language'"),
        (LANGUAGE, "?", {"language": "xx"}, "language 'xx' must be one of en, fr"),
        (LANGUAGE, "?", {"language": "en", "at_least": 0}, "at_least 0 would pass anything"),
        (LANGUAGE, "?", {"language": "en", "at_least": 2}, "at_least 2 must be a number from 0 to 1"),
    ],
)
def test_refused(verifier: Any, question: str, extra: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"row 'row-7': .*{message}"):
        verifier.check(row("", question, **extra))


def test_hostile_responses_take_no_time() -> None:
    rng = random.Random(0)
    noise = " ".join("".join(rng.choice("abcdefghij") for _ in range(6)) for _ in range(140_000))
    hostile = [
        "$ " * 500_000,
        "\\(" * 500_000,
        "\\[ " * 300_000,
        "`" * 1_000_000,
        "```a" * 250_000,
        "\\" * 1_000_000,
    ]
    hostile += [
        "a" + "\u0301\u0323" * 100_000,
        "a" + "\u0301" * 500_000,
        "word other " * 90_000,
        "http://" * 140_000,
        "a'" * 500_000,
        noise,
    ]
    hostile += [
        "<answer>" * 125_000,
        "<answer>x</answer>" + "<answer>" * 100_000,
        "\\boxed{" * 140_000,
        "<think>" * 140_000,
    ]
    start = time.process_time()
    found = verdicts(LANGUAGE, row("", language="en"), *hostile)
    assert all(v is not None and v.reward <= 1.0 for v in found)
    for thought in ("", T):
        found = verdicts(FORM, row("", max_chars=2_000_000), *[thought + text for text in hostile])
        assert set(rewards(found)) == {0.0}
    assert time.process_time() - start < 3.0


def test_threads_agree() -> None:
    def judge(text: str) -> list[float | None]:
        return rewards(verdicts(LANGUAGE, row("", language="en"), text))

    texts = [EN, DE, FR, ZH] * 25
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(judge, texts)) == [judge(text) for text in texts]
