"""What reward models are shown of a prompt and a response, made safe to quote."""

import re

from vlrl.config.reward_models import Judged
from vlrl.errors import UserError
from vlrl.rewards.answer import extract_answer, final_text
from vlrl.schema import IMAGE_MARKER
from vlrl.trajectory import Prompt

# What a tokenizer or chat template may read as a mark of its own: <|im_end|>, </think>, <image>, [INST];
# some write the bar as U+FF5C.
_MARK = re.compile(r"<(?=[|\uff5c/!A-Za-z_])|\[(?=/?[A-Z][A-Z_]+\])")
# A verdict that a judge could be made to repeat.
_VERDICT_KEY = re.compile(r"([\"'])correct(?=[\"'\\]*\s*:)", re.IGNORECASE)


def question_text(prompt: Prompt) -> str:
    """The prompt's text, `<image>` markers included; of a conversation each turn under its role's name."""
    if len(prompt.messages) == 1:
        return prompt.messages[0]["content"].strip()
    return "\n\n".join(f"{m['role']}: {m['content'].strip()}" for m in prompt.messages)


def inert(text: str) -> str:
    """A candidate's text in which no special token, image marker or verdict is left.

    A space stands behind each "<" that begins a tag or mark, and before a quoted key "correct": nothing that
    a mathematical reading would notice. The endpoint tokenises the whole conversation, so what looks like the
    end of a turn in it would be one.
    """
    return _VERDICT_KEY.sub(r"\1 correct", _MARK.sub(lambda found: f"{found.group()} ", text))


def judged_part(response: str, thinking_open: bool, judged: Judged) -> str | None:
    """The final answer, or all that follows the thinking; None where there is none."""
    if judged == "answer":
        return extract_answer(response, thinking_open)
    text = final_text(response, thinking_open)
    return None if text is None else text.strip()


def is_empty(answer: str) -> bool:
    """Whether nothing is said: braces, marks and blanks only."""
    return not answer.strip(" \t\r\n\\{}()[].,;$")


def check_markers(prompt: Prompt) -> None:
    """
    Raises:
        UserError: the question has not one `<image>` marker an image.
    """
    markers = question_text(prompt).count(IMAGE_MARKER)
    if markers != len(prompt.images):
        raise UserError(
            f"{prompt.name}: {markers} {IMAGE_MARKER} markers for {len(prompt.images)} images; mend the row"
        )


def check_reference(prompt: Prompt) -> None:
    """
    Raises:
        UserError: the row has no reference answer.
    """
    if is_empty(prompt.ground_truth):
        raise UserError(
            f"{prompt.name}: the ground truth {prompt.ground_truth!r} is empty, and a reward model compares "
            "with it; give the reference answer or leave the row out"
        )
