"""A prompt that rollouts share is packed once and changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.conftest import ModelBuilder
from vlrl.images import ImageRef
from vlrl.policy.load import load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, pack
from vlrl.policy.processor import PolicyProcessor

DrawImage = Callable[..., ImageRef]


def _group(
    processor: PolicyProcessor, question: str, images: list[ImageRef], responses: list[list[int]]
) -> list[TrainDocument]:
    prompt = processor.encode([{"role": "user", "content": question}], images).expanded_ids
    return [
        TrainDocument(prompt + ids, images, [0] * len(prompt) + [1] * len(ids), len(prompt))
        for ids in responses
    ]


def _documents(processor: PolicyProcessor, draw_image: DrawImage | None) -> list[TrainDocument]:
    """Groups of several sizes and lengths; neighbours that differ in their image or question alone."""
    responses = [[40, 41, 42], [40, 41], [50 + i % 9 for i in range(70)], [60]]
    groups = [
        _group(processor, "How many?", [], responses),
        _group(processor, "How many!", [], responses[:2]),
    ]
    if draw_image is not None:
        a, b = draw_image(1, 64, 32), draw_image(2, 64, 32)
        groups += [
            _group(processor, "<image>How many?", [a], responses),
            _group(processor, "<image>How many?", [b], responses[1:]),
            _group(processor, "<image> or <image>?", [b, a], responses),
        ]
    return [document for group in groups for document in group]


def _gradients(policy: Policy, documents: list[TrainDocument], processor: PolicyProcessor) -> Any:
    batch = pack(documents, list(range(len(documents))), policy, processor)
    logprobs, entropy = policy(batch.inputs)
    policy.zero_grad()
    weights = torch.randn(len(logprobs), generator=torch.Generator().manual_seed(0))
    (logprobs * weights).sum().backward()
    gradients = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    return batch, logprobs.detach(), entropy, gradients


@pytest.mark.parametrize("architecture", ["qwen3_vl", "qwen2_5_vl", "idefics3", "qwen3"])
def test_sharing_changes_neither_values_nor_gradients(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    folder = str(build_model(architecture))
    processor = PolicyProcessor.load(folder)
    policy = Policy(load_model(folder, torch.float32), banned_ids=processor.banned_ids)
    documents = _documents(processor, None if architecture == "qwen3" else draw_image)
    apart = [replace(document, prompt_tokens=0) for document in documents]
    batch, logprobs, entropy, gradients = _gradients(policy, documents, processor)
    reference, expected, expected_entropy, expected_gradients = _gradients(policy, apart, processor)

    groups = {(tuple(d.ids[: d.prompt_tokens]), tuple(d.images)): d.prompt_tokens for d in documents}
    assert len(groups) == (2 if architecture == "qwen3" else 5)
    responses = sum(len(d.ids) - d.prompt_tokens for d in documents)
    assert len(batch.inputs.input_ids) == sum(groups.values()) + responses
    assert len(reference.inputs.input_ids) == sum(len(d.ids) for d in documents)
    assert torch.equal(batch.inputs.targets, reference.inputs.targets)
    assert torch.equal(batch.owner, reference.owner)

    torch.testing.assert_close(logprobs, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    # Over all parameters at once: the gradient of a key's bias is zero but for rounding.
    mine, other = (torch.cat([g[n].flatten() for n in gradients]) for g in (gradients, expected_gradients))
    assert (mine - other).norm() < 1e-5 * other.norm()


def test_only_neighbours_with_the_same_prompt_and_images_share(
    build_model: ModelBuilder, draw_image: DrawImage
) -> None:
    folder = str(build_model("qwen3_vl"))
    processor = PolicyProcessor.load(folder)
    policy = Policy(load_model(folder, torch.float32), banned_ids=processor.banned_ids)
    first, second = draw_image(1, 64, 32), draw_image(2, 64, 32)
    one = _group(processor, "<image>?", [first], [[40], [41]])
    other = _group(processor, "<image>?", [second], [[40]])
    # The same ids but for the picture.
    assert other[0].ids == one[0].ids
    documents = [one[0], other[0], one[1], replace(one[1], prompt_tokens=0)]
    batch = pack(documents, [0, 1, 2, 3], policy, processor)
    assert len(batch.inputs.input_ids) == sum(len(d.ids) for d in documents)
    assert batch.inputs.image_use == [0, 1, 0, 0]
    assert len(pack(documents, [0, 2, 1], policy, processor).inputs.input_ids) == 2 * len(one[0].ids) + 1
