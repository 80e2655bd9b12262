"""The classic reward model: a language model whose last hidden state is read by a linear head.

Kimi k1.5 (section 2.3.5): question, reference answer and response in, one scalar out, after InstructGPT.

Input (`TEMPLATE` 1): the user's turn of the checkpoint's own chat template holds the question (with the
prompt's images), the reference answer and what is asked; the assistant's turn is what is judged. The head
reads the token that ends that turn. So what one prompt's responses share is a prefix, and is computed once.

On disk a reward model is a folder that `from_pretrained` loads, with two files more: `value_head.safetensors`
(`weight` float32 [1, H], `bias` float32 [1]) and `reward_model.json` (`HeadSettings`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlrl.config.policy import PolicyConfig
from vlrl.config.reward_models import Judged
from vlrl.errors import UserError
from vlrl.policy.attention import use_attention
from vlrl.policy.load import load_model, load_processor
from vlrl.policy.model import PackedInputs, Policy
from vlrl.policy.packing import TrainDocument, document_lengths, pack, plan
from vlrl.policy.processor import PolicyProcessor
from vlrl.rewards.models.classic_settings import SETTINGS_FILE, HeadSettings, RewardInput
from vlrl.rewards.models.question import inert
from vlrl.runs.files import disk_errors, replacing, write_json

HEAD_FILE = "value_head.safetensors"
_USER = """\
{question}

Reference answer:
{reference}

Give a response whose final answer is the reference answer."""


class ClassicRewardModel(nn.Module):
    """Packed rows in, the logit of "correct" of each document out.

    `policy.model` is the checkpoint's model, `head` the value head, in float32 whatever the model's dtype.
    """

    def __init__(self, policy: Policy, processor: PolicyProcessor, settings: HeadSettings) -> None:
        super().__init__()
        self.policy, self.processor, self.settings = policy, processor, settings
        size = policy.model.config.get_text_config().hidden_size
        self.head = nn.Linear(size, 1, dtype=torch.float32)
        nn.init.normal_(self.head.weight, std=(size + 1) ** -0.5)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def init(
        cls, path: str, dtype: torch.dtype, judged: Judged = "response", seed: int = 0
    ) -> "ClassicRewardModel":
        """A reward model to be trained: the checkpoint at `path` under a random head.

        Raises:
            UserError: no loadable checkpoint there; see `load_model`.
        """
        model, processor = _load_checkpoint(path, dtype, None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            settings = HeadSettings(judged=judged, takes_images=processor.takes_images)
            return cls(Policy(model, banned_ids=[]), processor, settings)

    @classmethod
    def load(cls, path: str, dtype: torch.dtype, max_pixels: int | None = None) -> "ClassicRewardModel":
        """What `save` wrote, on the CPU.

        Raises:
            UserError: the folder is no reward model, or a part of it is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        settings = HeadSettings.load(path)
        model, processor = _load_checkpoint(path, dtype, max_pixels)
        out = cls(Policy(model, banned_ids=[]), processor, settings)
        try:
            out.head.load_state_dict(load_file(Path(path) / HEAD_FILE))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"{Path(path) / HEAD_FILE}: not this model's value head ({reason}); copy the folder again"
            ) from None
        return out

    def save(self, folder: Path) -> None:
        """Write the whole reward model; what is in `folder` is overwritten.

        Raises:
            UserError: the disk is full.
        """
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / SETTINGS_FILE).unlink(missing_ok=True)  # half a reward model is none
            self.policy.model.save_pretrained(folder)
            self.processor.save(folder)
            self.save_head(folder)

    def save_head(self, folder: Path) -> None:
        """Write the head and its settings into a checkpoint of the model, the settings last."""
        from safetensors.torch import save_file

        tensors = {name: value.detach().float().cpu() for name, value in self.head.state_dict().items()}
        with replacing(folder / HEAD_FILE) as scratch:
            save_file(tensors, scratch)
        write_json(folder / SETTINGS_FILE, asdict(self.settings))

    def forward(self, inputs: PackedInputs) -> torch.Tensor:
        """Logits of "correct", float32 [documents], each read at the last token of its document."""
        ends = torch.stack([span[-1] for span in inputs.documents.spans])
        hidden = self.policy.hidden(inputs)
        return self.head(hidden.index_select(0, ends.to(hidden.device)).float()).squeeze(-1)

    def encode(self, given: RewardInput) -> TrainDocument:
        """The document that is scored; its last token alone is in the loss mask.

        Raises:
            UserError: images that the model does not take, or whose size it refuses.
        """
        reference = inert(given.reference.strip())
        content = _USER.format(question=given.question, reference=reference)
        prompt = self.processor.encode([{"role": "user", "content": content}], given.images).expanded_ids
        end = self.processor.tokenizer.eos_token_id
        response = [*self.processor.encode_injected(inert(given.response)), end]
        mask = [0] * (len(prompt) + len(response) - 1) + [1]
        return TrainDocument(prompt + response, list(given.images), mask, prompt_tokens=len(prompt))

    @torch.no_grad()
    def score(
        self, given: Sequence[RewardInput], *, batch_tokens: int, max_tokens: int
    ) -> Iterator[tuple[int, float | str]]:
        """(place in `given`, probability of "correct", or why there is none) of each, batch by batch.

        A score does not depend on what else is in its batch, beyond rounding. An input of more than
        `max_tokens` tokens is refused. Of a batch that fails each input is tried alone, so an image that is
        gone or a prompt that does not fit into memory costs its own inputs only.
        """
        self.eval()
        documents: list[TrainDocument] = []
        places: list[int] = []
        for place, one in enumerate(given):
            try:
                document = self.encode(one)
            except UserError as error:
                yield place, f"refused: {error}"
                continue
            if len(document.ids) > max_tokens:
                yield place, f"too_long: {len(document.ids)} tokens, and max_tokens is {max_tokens}"
                continue
            documents.append(document)
            places.append(place)
        lengths, shared = document_lengths(documents)
        for members in plan(lengths, shared, max(batch_tokens, *lengths)) if documents else []:
            yield from zip([places[i] for i in members], self._score_batch(documents, members), strict=True)

    def _score_batch(self, documents: list[TrainDocument], members: list[int]) -> list[float | str]:
        try:
            batch = pack(documents, members, self.policy, self.processor, self.head.weight.device)
            return self(batch.inputs).sigmoid().tolist()
        except (UserError, RuntimeError) as error:  # torch's out of memory is a RuntimeError
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
        if len(members) == 1:
            return [reason]
        return [self._score_batch(documents, [member])[0] for member in members]


def _load_checkpoint(path: str, dtype: torch.dtype, max_pixels: int | None) -> tuple[Any, PolicyProcessor]:
    try:
        return load_model(path, dtype), load_processor(path, PolicyConfig(path=path, max_pixels=max_pixels))
    except UserError as error:
        raise UserError(str(error).replace("policy.path", "reward model", 1)) from None


def place(model: ClassicRewardModel, device: torch.device, dtype: torch.dtype) -> ClassicRewardModel:
    """Move a model to where it runs and give it the fastest attention there is; the head stays float32."""
    model.to(device)
    use_attention(model.policy.model, "auto", device, dtype)
    return model
