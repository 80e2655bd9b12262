"""Language consistency: whether a response thinks and answers in the language it was asked in.

DeepSeek-R1 (section 2.3.2) rewards the share of the chain of thought's words that are of the target language.
"""

from collections.abc import Sequence

import regex

from vlrl.errors import UserError
from vlrl.rewards import arguments
from vlrl.rewards.echo import echoes
from vlrl.rewards.scripts import LANGUAGE_SCRIPTS, guess_language, language_share, words_of
from vlrl.rewards.verifier import Submission, correct, wrong
from vlrl.rewards.vision.transcript import repeated_share
from vlrl.trajectory import THINK_CLOSE, THINK_OPEN, Prompt, Verdict

MAX_CHARS = 200_000  # of a response that are looked at: its end is no less, its middle is left out
MAX_REPEATED = 0.5

# Each alternative stops at its own opening or at a line's end, so that none is scanned twice.
_CODE_OR_MATH = regex.compile(
    r"```(?:(?!```).)*+```"
    r"|`[^`\n]*+`"
    r"|\$\$[^$]*+\$\$"
    r"|\$[^$\n]*+\$"
    r"|\\\((?:(?!\\[()]).)*+\\\)"
    r"|\\\[(?:(?!\\[][]).)*+\\\]"
    r"|\\[A-Za-z]++"
    r"|</?(?:think|answer)>"
    r"|https?://[^\s<>]*+",
    regex.DOTALL,
)
_ASCII = regex.compile(r"[\x00-\x7f]++")


class LanguageVerifier:
    """The share of words in the wanted language, in the thinking and in what follows it; the smaller counts.

    The language is `language` (a code of `scripts.LANGUAGE_SCRIPTS`) or else that of the user's messages.
    Code, mathematics, markup, numbers, single letters and abbreviations are no words; letters that are not
    ASCII are, wherever they stand, so that nothing is thought in another script inside a formula.
    From `at_least` (share in (0, 1], default 0.9: names, quotations and terms of art make up several percent
    of honest text, and a sentence in another language more than the rest) on the status is correct. Nothing
    is earned without a word, by the question again, or by a text of which more than half repeats.
    Rules: `language`, `no_words`, `echo`, `repetition`.
    """

    def extract(self, response: str, thinking_open: bool) -> str | None:
        """The whole response: a cut one has a language too."""
        return response

    def check(self, prompt: Prompt) -> None:
        _language(prompt)
        _at_least(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [_judge_one(s) for s in submissions]


def _judge_one(submission: Submission) -> Verdict:
    prompt, response = submission.prompt, submission.response
    language, at_least = _language(prompt), _at_least(prompt)
    if len(response) > MAX_CHARS:
        response = response[: MAX_CHARS // 2] + "\n" + response[-MAX_CHARS // 2 :]
    thought, closed, rest = response.rpartition(THINK_CLOSE)
    if echoes(prompt, rest):
        return wrong(language, "echo")
    # A thought cut short closes nothing, and is in `rest` then.
    parts = [words_of(prose(part)) for part in (thought if closed else "", rest)]
    shares = [language_share(words, language) for words in parts if words]
    if not shares:
        return wrong(language, "no_words")
    if repeated_share(" ".join(word for words in parts for _, word in words)) > MAX_REPEATED:
        return wrong(language, "repetition")
    reward = min(shares)
    if reward < at_least:
        return wrong(language, "language", reward)
    return (
        correct(language, "language") if reward == 1.0 else Verdict(reward, "correct", language, "language")
    )


def prose(text: str) -> str:
    """A text without its code, mathematics and markup, but with the letters in them that are not ASCII."""
    return _CODE_OR_MATH.sub(lambda match: f" {_ASCII.sub(' ', match.group())} ", text)


def _language(prompt: Prompt) -> str:
    if "language" in prompt.extra:
        return arguments.choice(prompt, "language", tuple(LANGUAGE_SCRIPTS), "en")
    asked = "\n".join(m["content"] for m in prompt.messages if m["role"] == "user")
    words = words_of(prose(asked.replace("<image>", " ").replace(THINK_OPEN, " ")[:20_000]))
    language = guess_language(words)
    if language is None:
        raise UserError(
            f"{prompt.name}: the language of the question is not plain; give 'language', such as en"
        )
    return language


def _at_least(prompt: Prompt) -> float:
    at_least = arguments.number(prompt, "at_least", 0.9, high=1.0)
    if at_least == 0.0:
        raise UserError(f"{prompt.name}: at_least 0 would pass anything; give a share above 0")
    return at_least
