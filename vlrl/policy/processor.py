"""From chat messages and image references to token ids, and from images to pixel tensors.

The expansion of an image marker (how many placeholder ids, which tile tags) depends on the image's size
alone, so prompts are encoded without decoding a pixel; pixels are made late by `image_inputs`, once per
distinct image, and of those seen last a bounded few are kept for the trainer to find after the sampler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from vlrl.errors import UserError
from vlrl.images import ImageRef, load, target_size
from vlrl.policy.recent import RecentImages
from vlrl.schema import IMAGE_MARKER
from vlrl.trajectory import THINK_CLOSE

Message = dict[str, str]

_RECENT_BYTES = 64 << 20  # some hundred small images, or one of 13 megapixels

_MEDIA_ID_NAMES = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "video_token_index",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision_token_id",
    "boi_token_index",
    "eoi_token_index",
)
_MEDIA_TOKEN_NAMES = (
    "image_token",
    "video_token",
    "fake_image_token",
    "global_image_tag",
    "global_image_token",
)


@dataclass(slots=True, frozen=True)
class Encoded:
    """Token ids of a prompt: as the template writes them, and with one placeholder per image feature."""

    prompt_ids: list[int]
    expanded_ids: list[int]


class PolicyProcessor:
    """A checkpoint's tokenizer, chat template and image processor behind one small face.

    `banned_ids` are the media ids, which must never be sampled; `stop_ids` end a response;
    `context_length` is the number of positions that the checkpoint was made for.
    """

    def __init__(
        self,
        processor: Any,
        model_config: Any,
        stop_ids: Sequence[int],
        *,
        max_pixels: int | None = None,
        min_pixels: int | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.takes_images = hasattr(processor, "image_processor")
        self.max_pixels, self.min_pixels = max_pixels, min_pixels
        self._template_kwargs = chat_template_kwargs or {}
        self.stop_ids = sorted(set(stop_ids))
        # Some templates open the thinking themselves, so that a response starts inside it.
        self.thinking_open = (
            self._render([{"role": "user", "content": "x"}], generation_prompt=True)
            .rstrip()
            .endswith("<think>")
        )
        self.banned_ids = self._media_ids(model_config)
        self.context_length: int = model_config.get_text_config().max_position_embeddings
        self._expansions: dict[tuple[int, int], str] = {}
        self._recent = RecentImages(_RECENT_BYTES)

    @classmethod
    def load(
        cls,
        path: str,
        *,
        revision: str | None = None,
        max_pixels: int | None = None,
        min_pixels: int | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> "PolicyProcessor":
        """Load from a local folder or hub id.

        Raises:
            UserError: no checkpoint there, or one without a usable chat template or a number of positions.
        """
        from transformers import AutoConfig, AutoProcessor, GenerationConfig

        config = _load_part(AutoConfig, path, revision)
        if getattr(config.get_text_config(), "max_position_embeddings", None) is None:
            raise UserError(
                f"policy.path {path}: the architecture '{config.model_type}' states no "
                "max_position_embeddings, so it has no rotary positions; choose one that has, such as Qwen3"
            )
        processor = _load_part(AutoProcessor, path, revision)
        tokenizer = getattr(processor, "tokenizer", processor)
        if not (getattr(processor, "chat_template", None) or tokenizer.chat_template):
            raise UserError(
                f"policy.path {path}: the checkpoint has no chat template; use an instruction-tuned "
                "checkpoint or add chat_template.jinja to its folder"
            )
        try:
            generation = GenerationConfig.from_pretrained(path, revision=revision)
            eos = generation.eos_token_id
        except OSError:
            eos = None
        stop = [eos] if isinstance(eos, int) else list(eos or [])
        stop += [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        try:
            return cls(
                processor,
                config,
                stop,
                max_pixels=max_pixels,
                min_pixels=min_pixels,
                chat_template_kwargs=chat_template_kwargs,
            )
        except UserError as error:
            raise UserError(f"policy.path {path}: {error}") from None

    def encode(self, messages: Sequence[Message], images: Sequence[ImageRef]) -> Encoded:
        """Ids of a prompt, the generation prompt included."""
        text = self._render(messages, generation_prompt=True)
        return Encoded(self._tokenize(text), self._tokenize(self._expand(text, images)))

    def encode_conversation(
        self, messages: Sequence[Message], images: Sequence[ImageRef]
    ) -> tuple[list[int], list[int]]:
        """Expanded ids of a whole conversation and its loss mask (1 on what the assistant must say).

        Each assistant turn is tokenised apart from what stands before it, as sampling does, and is
        learned up to and including its stop token.

        Raises:
            UserError: the chat template rewrites earlier turns when later ones come; media tokens in the
                text; images that no answer follows.
        """
        ids: list[int] = []
        mask: list[int] = []
        done, used = "", 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._render(messages[:index], generation_prompt=True)
            after = self._render(messages[: index + 1], generation_prompt=False)
            if not before.startswith(done) or not after.startswith(before):
                raise UserError(
                    "the chat template rewrites earlier turns, so this conversation cannot be learned whole; "
                    "keep one assistant message a row"
                )
            markers = sum(m["content"].count(IMAGE_MARKER) for m in messages[:index])
            prompt_ids = self._tokenize(self._expand(before[len(done) :], images[used:markers]))
            answer_ids = self._tokenize(self._expand(after[len(before) :], []))
            learned = next((i + 1 for i, t in enumerate(answer_ids) if t in self.stop_ids), len(answer_ids))
            ids += prompt_ids + answer_ids
            mask += [0] * len(prompt_ids) + [1] * learned + [0] * (len(answer_ids) - learned)
            done, used = after, markers
        if used < len(images):
            raise UserError(
                f"{len(images) - used} images stand after the last assistant message; remove that message"
            )
        return ids, mask

    def save(self, folder: Path) -> None:
        """Tokenizer, template and image processor, beside the weights they belong to."""
        self._processor.save_pretrained(folder)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a response, without its stop token but with thinking tags."""
        kept = list(ids)
        while kept and kept[-1] in self.stop_ids:
            kept.pop()
        return self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def closes_thinking(self, ids: Sequence[int]) -> bool:
        """Whether a response's thinking is over."""
        return THINK_CLOSE in self.decode(ids)

    def encode_injected(self, text: str) -> list[int]:
        """Ids of text that is put into a response."""
        return self._tokenize(text)

    def open_image(self, image: ImageRef) -> Any:
        """The Pillow image that sampler and trainer both see."""
        return load(image, self.max_pixels, self.min_pixels)

    def image_inputs(self, image: ImageRef) -> dict[str, torch.Tensor]:
        """Model inputs of one image (`pixel_values`, `image_grid_thw`, ...), to be read only."""
        return self._recent.get(image.sha256, lambda: self._inputs_of(self.open_image(image)))

    def blank_image_inputs(self) -> dict[str, torch.Tensor]:
        """Model inputs of a blank image about as small as the image processor makes them."""
        from PIL import Image

        return self._inputs_of(Image.new("RGB", target_size(32, 32, self.max_pixels, self.min_pixels)))

    def _inputs_of(self, image: Any) -> dict[str, torch.Tensor]:
        inputs = self._processor.image_processor(images=[image], return_tensors="pt")
        return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}

    @property
    def _image_token(self) -> str:
        return self._processor.image_token

    def _render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        content = [self._structured(m) for m in messages] if self.takes_images else list(messages)
        try:
            return self._processor.apply_chat_template(
                content, tokenize=False, add_generation_prompt=generation_prompt, **self._template_kwargs
            )
        except TemplateError as error:
            reason = (error.message or type(error).__name__).splitlines()[0]
            raise UserError(f"the chat template refuses these messages ({reason}); mend them") from None

    @staticmethod
    def _structured(message: Message) -> dict[str, Any]:
        parts: list[dict[str, str]] = []
        for index, text in enumerate(message["content"].split(IMAGE_MARKER)):
            if index:
                parts.append({"type": "image"})
            if text:
                parts.append({"type": "text", "text": text})
        return {"role": message["role"], "content": parts}

    def _expand(self, text: str, images: Sequence[ImageRef]) -> str:
        if not self.takes_images:
            if images:
                raise UserError("the prompt has images but the policy takes text only; choose a VLM")
            return text
        pieces = text.split(self._image_token)
        if len(pieces) - 1 != len(images):
            raise UserError(
                f"the chat template wrote {len(pieces) - 1} image placeholders for {len(images)} images; "
                "does the text itself contain the model's image token?"
            )
        out = pieces[0]
        for image, piece in zip(images, pieces[1:], strict=True):
            out += self._expansion(image) + piece
        return out

    def _expansion(self, image: ImageRef) -> str:
        size = target_size(image.width, image.height, self.max_pixels, self.min_pixels)
        if size not in self._expansions:
            from PIL import Image

            try:
                # Without special tokens: some tokenizers put their first one before whatever they are given.
                probe = self._processor(
                    images=[Image.new("RGB", size)], text=[self._image_token], add_special_tokens=False
                )
            except ValueError as error:
                raise UserError(
                    f"image {image.path} ({image.width}x{image.height}): the policy's image processor "
                    f"refuses its size ({error}); crop or pad it"
                ) from None
            ids = probe["input_ids"][0]
            self._expansions[size] = self.tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        return self._expansions[size]

    def _tokenize(self, text: str) -> list[int]:
        # The template already wrote whatever special tokens belong at the front.
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _media_ids(self, model_config: Any) -> list[int]:
        ids = {getattr(model_config, name, None) for name in _MEDIA_ID_NAMES}
        for name in _MEDIA_TOKEN_NAMES:
            token = getattr(self._processor, name, None)
            if isinstance(token, str):
                ids.add(self.tokenizer.convert_tokens_to_ids(token))
        ids |= {i for token, i in self.tokenizer.get_added_vocab().items() if token.startswith("<row_")}
        return sorted(i for i in ids if isinstance(i, int))


def join_media(images: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The inputs of several images as one forward pass takes them."""
    if not images:
        return {}
    # Tile models carry [1, tiles, ...]: their images are joined along the tiles.
    dim = 1 if images[0]["pixel_values"].dim() == 5 else 0
    return {name: torch.cat([image[name] for image in images], dim) for name in images[0]}


def _load_part(auto: Any, path: str, revision: str | None) -> Any:
    looks_local = path.startswith((".", "/", "~")) or path.count("/") > 1
    if looks_local and not Path(path).is_dir():
        raise UserError(f"policy.path {path}: no such folder; correct the path or name a hub id")
    try:
        return auto.from_pretrained(path, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"policy.path {path}: not a loadable checkpoint ({reason})") from None
