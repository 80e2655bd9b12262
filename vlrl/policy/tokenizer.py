"""Tokenizers trained on the spot, and the chat templates of the families that `init_model` builds.

Byte-level BPE in which every digit is a token of its own: a small model then reads 407 as 4, 0, 7 and
never as a chunk that depends on what the corpus happened to repeat.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

from vlrl.errors import UserError

# Letters with at most one leading mark or space; single digits; runs of marks; line breaks; spaces.
PRETOKENIZE = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PAD_MULTIPLE = 64
BYTES = 256
ROLE_WORDS = ("system", "user", "assistant", "System", "User", "Assistant")

_QWEN_TEXT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_QWEN_MEDIA = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_IDEFICS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|pad|>",
    "<end_of_utterance>",
    "<think>",
    "</think>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)

_QWEN_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'text' -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

_IDEFICS_TEMPLATE = """\
{{- '<|begin_of_text|>' -}}
{%- for message in messages -%}
{{- message.role | capitalize + ':\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{{- '<image>' -}}
{%- elif part.type == 'text' -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<end_of_utterance>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- 'Assistant:\\n' -}}
{%- endif -%}
"""

# Per architecture: special tokens in id order, end of a turn, padding, chat template.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_vl": {
        "special": _QWEN_TEXT + _QWEN_MEDIA,
        "eos": "<|im_end|>",
        "pad": "<|endoftext|>",
        "template": _QWEN_TEMPLATE,
    },
    "qwen3": {
        "special": _QWEN_TEXT,
        "eos": "<|im_end|>",
        "pad": "<|endoftext|>",
        "template": _QWEN_TEMPLATE,
    },
    "idefics3": {
        "special": _IDEFICS,
        "eos": "<end_of_utterance>",
        "pad": "<|pad|>",
        "template": _IDEFICS_TEMPLATE,
    },
}
FAMILIES["qwen2_5_vl"] = FAMILIES["qwen3_vl"]


def train_tokenizer(corpus: Iterable[str], architecture: str, vocab_size: int) -> Any:
    """Train the tokenizer of `architecture` on `corpus`; returns a `PreTrainedTokenizerFast`.

    It holds at most `vocab_size` ids, special tokens included, and exactly a multiple of 64: reserved
    tokens fill it up, so that every id a small model can sample has a text.

    Raises:
        UserError: `vocab_size` cannot hold the 256 bytes and the special tokens, or is no multiple of 64.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[architecture]
    special: tuple[str, ...] = family["special"]
    if vocab_size % PAD_MULTIPLE or vocab_size < BYTES + len(special):
        smallest = -(-(BYTES + len(special)) // PAD_MULTIPLE) * PAD_MULTIPLE
        raise UserError(f"vocab_size {vocab_size}: give a multiple of {PAD_MULTIPLE} from {smallest} up")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Every conversation spells the roles; a corpus of bare texts would leave them to single letters.
    tokenizer.train_from_iterator(chain(corpus, ROLE_WORDS * 1000), trainer)
    used = tokenizer.get_vocab_size() + len(special)
    reserved = [f"<|reserved_{index}|>" for index in range(-used % PAD_MULTIPLE)]
    # The thinking marks stay in decoded text, as in Qwen3: rewards and people read them.
    tokenizer.add_tokens(
        [AddedToken(t, special=t not in ("<think>", "</think>"), normalized=False) for t in special]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in reserved])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=family["eos"],
        pad_token=family["pad"],
        chat_template=family["template"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
