"""The oracle of the sampler tests: transformers' own processor and one plain forward pass, no cache."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from vlrl.images import ImageRef, load
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import SampleRequest

Case = tuple[str, list[ImageRef]]


class Plain:
    """A checkpoint as transformers alone runs it."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.takes_images = hasattr(self.processor, "image_processor")
        auto = AutoModelForImageTextToText if self.takes_images else AutoModelForCausalLM
        self.model = auto.from_pretrained(folder, dtype=torch.float32).eval()

    def logprobs(
        self, case: Case, response: list[int], banned: list[int], temperature: float = 1.0
    ) -> torch.Tensor:
        """float32 [response, V]: log-probs of every token at each place of the response."""
        inputs = self._inputs(case)
        prompt = inputs["input_ids"].shape[1]
        tokens = torch.tensor([response])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            kinds = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(tokens)], 1)
        with torch.no_grad():
            logits = self.model(**inputs).logits[0, prompt - 1 : -1]
        logits[:, banned] -= 100.0
        return (logits / temperature).log_softmax(-1)

    def worst_gap(
        self,
        case: Case,
        response: list[int],
        logprobs: list[float],
        banned: list[int],
        temperature: float = 1.0,
    ) -> float:
        """Largest difference to the reported log-probs of the response's own tokens."""
        full = self.logprobs(case, response, banned, temperature)
        own = full.gather(1, torch.tensor(response)[:, None]).squeeze(1)
        return float((own - torch.tensor(logprobs)).abs().max())

    def _inputs(self, case: Case) -> dict[str, Any]:
        question, images = case
        content: Any = [{"type": "image"} for _ in images] + [{"type": "text", "text": question}]
        messages = [{"role": "user", "content": content if self.takes_images else question}]
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        pictures = {"images": [load(image) for image in images]} if images else {}
        return dict(self.processor(text=[text], return_tensors="pt", add_special_tokens=False, **pictures))


def nucleus(logprobs: torch.Tensor, top_p: float) -> torch.Tensor:
    """float32 [T, V]: log-probs after the fewest tokens that hold `top_p` are kept, -inf for the others."""
    ordered, order = logprobs.sort(-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    kept = torch.zeros_like(logprobs, dtype=torch.bool).scatter(-1, order, before < top_p)
    return logprobs.masked_fill(~kept, -torch.inf).log_softmax(-1)


def make_request(
    processor: PolicyProcessor,
    case: Case,
    seed: int,
    max_tokens: int = 24,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> SampleRequest:
    question, images = case
    encoded = processor.encode([{"role": "user", "content": "<image>" * len(images) + question}], images)
    return SampleRequest(
        f"request-{seed}",
        encoded.prompt_ids,
        encoded.expanded_ids,
        images,
        seed,
        max_tokens,
        temperature,
        top_p,
    )
