"""The packed policy against transformers alone: one document at a time, its own attention and processor."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from tests.conftest import ModelBuilder
from vlrl.errors import UserError
from vlrl.images import ImageRef, load
from vlrl.policy.load import freeze, load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, micro_batches, pack
from vlrl.policy.processor import PolicyProcessor, join_media

DrawImage = Callable[..., ImageRef]
ARCHITECTURES = ["qwen3_vl", "qwen2_5_vl", "idefics3", "qwen3"]
SEEING = ARCHITECTURES[:3]
Conversation = tuple[list[dict[str, str]], list[ImageRef]]


def _turns(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


def _conversations(architecture: str, draw_image: DrawImage) -> list[Conversation]:
    """From a few tokens to a few hundred; several images a document, one of them used three times."""
    long = " ".join(f"<think> {i} and {i * 7} so </think>" for i in range(12))
    out: list[Conversation] = [
        (_turns("Hi", "4"), []),
        (_turns("How many?", long, "Are there 3 squares?", "\\boxed{3}"), []),
    ]
    if architecture != "qwen3":
        a, b, c = draw_image(1), draw_image(2, 96, 48), draw_image(3, 40, 120)
        out += [
            (_turns("<image>How many squares?", "there are 5"), [a]),
            (_turns("<image> and <image> so", "12", "<image> the answer", "is \\boxed{7}."), [b, a, a]),
            (_turns("How <image><image>", "1"), [c, b]),
        ]
    return out


def _documents(processor: PolicyProcessor, conversations: list[Conversation]) -> list[TrainDocument]:
    documents = []
    for messages, images in conversations:
        ids, mask = processor.encode_conversation(messages, images)
        documents.append(TrainDocument(ids, images, mask))
    return documents


def _plain_model(folder: Path, architecture: str) -> Any:
    auto = AutoModelForCausalLM if architecture == "qwen3" else AutoModelForImageTextToText
    return auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def _plain_logprobs(
    model: Any, hf: Any, document: TrainDocument, banned: list[int], temperature: float
) -> torch.Tensor:
    ids = torch.tensor([document.ids])
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if document.images:
        pictures = hf.image_processor(images=[load(i) for i in document.images], return_tensors="pt")
        inputs |= {name: value for name, value in pictures.items() if isinstance(value, torch.Tensor)}
        if "image_grid_thw" in inputs:
            inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    logits = model(**inputs).logits[0, :-1]
    bias = torch.zeros(logits.shape[-1])
    bias[banned] = -100.0
    logprobs = ((logits + bias) / temperature).log_softmax(-1)
    chosen = logprobs.gather(1, ids[0, 1:, None]).squeeze(1)
    return chosen[torch.tensor(document.loss_mask[1:], dtype=torch.bool)]


def _relative_gap(mine: Any, other: Any) -> float:
    """Norm of the difference of two models' gradients, relative to the gradient's own norm."""
    names = dict(other.named_parameters())
    gap, norm = 0.0, 0.0
    for name, parameter in mine.named_parameters():
        expected = names[name].grad
        assert (parameter.grad is None) == (expected is None), name
        if expected is not None:
            gap += float((parameter.grad.double() - expected.double()).square().sum())
            norm += float(expected.double().square().sum())
    assert norm > 0
    return (gap / norm) ** 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_equals_one_document_at_a_time(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    folder, temperature = build_model(architecture), 0.7
    processor = PolicyProcessor.load(str(folder))
    documents = _documents(processor, _conversations(architecture, draw_image))
    lengths = [len(d.ids) for d in documents]
    assert max(lengths) > 10 * min(lengths)
    policy = Policy(
        load_model(str(folder), torch.float32),
        banned_ids=processor.banned_ids,
        temperature=temperature,
        logprob_chunk=7,
    )
    batch = pack(documents, list(range(len(documents))), policy, processor)
    if architecture != "qwen3":
        assert len(batch.inputs.images) == 3 and len(batch.inputs.image_use) == 6
    logprobs, _ = policy(batch.inputs)
    plain, hf = _plain_model(folder, architecture), AutoProcessor.from_pretrained(folder)
    expected = torch.cat(
        [_plain_logprobs(plain, hf, d, processor.banned_ids, temperature) for d in documents]
    )
    torch.testing.assert_close(logprobs, expected, rtol=1e-5, atol=1e-5)
    # Weights that differ by token, so that a wrong assignment of gradients to tokens shows.
    weights = torch.randn(len(expected), generator=torch.Generator().manual_seed(0))
    (logprobs * weights).sum().backward()
    (expected * weights).sum().backward()
    assert _relative_gap(policy.model, plain) < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_document_does_not_see_its_neighbours(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    folder = build_model(architecture)
    processor = PolicyProcessor.load(str(folder))
    policy = Policy(load_model(str(folder), torch.float32), banned_ids=processor.banned_ids)
    documents = _documents(processor, _conversations(architecture, draw_image))
    everyone = list(range(len(documents)))

    @torch.no_grad()
    def by_document(docs: list[TrainDocument], members: list[int]) -> dict[int, torch.Tensor]:
        batch = pack(docs, members, policy, processor)
        logprobs, _ = policy(batch.inputs)
        return {d: logprobs[batch.global_owner == d] for d in members}

    reference = by_document(documents, everyone)
    if architecture == "qwen3":
        others = _documents(processor, [(_turns("Are you", "so 99 and 3"), [])])
    else:
        pictures = [draw_image(7, 64, 64), draw_image(8, 40, 24)]
        others = _documents(processor, [(_turns("<image> 1 <image>", "so 99 and 3"), pictures)])
    for changed in everyone:
        neighbours = [others[0] if d == changed else documents[d] for d in everyone]
        found = by_document(neighbours, everyone)
        for d in everyone:
            if d != changed:
                torch.testing.assert_close(found[d], reference[d], rtol=0, atol=1e-6)
    shuffled = by_document(documents, random.Random(1).sample(everyone, len(everyone)))
    for d in everyone:
        torch.testing.assert_close(shuffled[d], reference[d], rtol=0, atol=2e-6)


def test_mrope_positions_are_the_grid_of_each_image(build_model: ModelBuilder, draw_image: DrawImage) -> None:
    folder = build_model("qwen3_vl")
    processor = PolicyProcessor.load(str(folder))
    policy = Policy(load_model(str(folder), torch.float32), banned_ids=processor.banned_ids)
    images = [draw_image(1, 48, 32), draw_image(2, 16, 64)]
    ids, mask = processor.encode_conversation(_turns("a <image> b <image>", "7"), images)
    media = [processor.image_inputs(image) for image in images]
    found = policy.positions(torch.tensor(ids), media)
    placeholder = policy.model.config.image_token_id
    expected: list[tuple[int, int, int]] = []
    position, place, grids = 0, 0, [(2, 3), (4, 1)]  # rows and columns of merged 16-pixel squares
    while place < len(ids):
        if ids[place] != placeholder:
            expected.append((position, position, position))
            position, place = position + 1, place + 1
            continue
        rows, columns = grids.pop(0)
        expected += [(position, position + r, position + c) for r in range(rows) for c in range(columns)]
        position, place = position + max(rows, columns), place + rows * columns
    assert not grids
    assert found.T.tolist() == [list(p) for p in expected]
    # Each document of a row starts from zero again.
    two = pack([TrainDocument(ids, images, mask)] * 2, [0, 1], policy, processor)
    assert torch.equal(two.inputs.position_ids, torch.cat([found, found], 1))


SIZES = [(1, 1), (8, 8), (17, 31), (32, 32), (48, 33), (64, 100), (130, 20), (151, 113), (200, 90), (15, 240)]
BOUNDS = [(None, None), (2_000, None), (None, 3_000), (4_000, 1_000)]


@pytest.mark.parametrize("architecture", SEEING)
def test_prompts_are_encoded_as_the_checkpoints_own_processor_does(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    folder = build_model(architecture)
    hf = AutoProcessor.from_pretrained(folder)
    for most, fewest in BOUNDS:
        processor = PolicyProcessor.load(str(folder), max_pixels=most, min_pixels=fewest)
        for index, (width, height) in enumerate(SIZES):
            images = [draw_image(index, width, height), draw_image(index + 1, 40, 40)]
            encoded = processor.encode(_turns("Look: <image> then\n<image>, so?"), images)
            content = [
                {"type": "text", "text": "Look: "},
                {"type": "image"},
                {"type": "text", "text": " then\n"},
                {"type": "image"},
                {"type": "text", "text": ", so?"},
            ]
            text = hf.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            pictures = [load(image, most, fewest) for image in images]
            for picture in pictures:
                # Whole pixels are lost on each side, and an aspect that cannot be kept costs more.
                pixels, slack = picture.width * picture.height, picture.width + picture.height
                assert most is None or pixels <= max(most, slack)
                assert fewest is None or pixels >= fewest - slack
            whole = hf(text=[text], images=[pictures], add_special_tokens=False, return_tensors="pt")
            assert encoded.expanded_ids == whole["input_ids"][0].tolist(), (width, height, most, fewest)
            assert encoded.prompt_ids == hf.tokenizer(text, add_special_tokens=False)["input_ids"]
            media = join_media([processor.image_inputs(image) for image in images])
            for name, value in media.items():
                assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize("architecture", SEEING)
def test_a_tokenizer_that_writes_a_first_token_does_not_write_it_at_every_image(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    """Llama's tokenizer, which Idefics 3 has, puts its first token before any text it is given."""
    from tokenizers.processors import TemplateProcessing

    processor = PolicyProcessor.load(str(build_model(architecture)))
    plain = processor.encode(_turns("a <image> b"), [draw_image(1)])
    eager = PolicyProcessor.load(str(build_model(architecture)))
    first = eager.tokenizer.pad_token
    eager.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, eager.tokenizer.pad_token_id)]
    )
    assert eager.tokenizer("a")["input_ids"][0] == eager.tokenizer.pad_token_id
    assert eager.encode(_turns("a <image> b"), [draw_image(1)]) == plain


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_conversations_learn_what_the_assistant_says_and_its_stop(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    processor = PolicyProcessor.load(str(build_model(architecture)))
    for messages, images in _conversations(architecture, draw_image):
        ids, mask = processor.encode_conversation(messages, images)
        assert len(ids) == len(mask)
        spans: list[list[int]] = []
        for place, (token, learned) in enumerate(zip(ids, mask, strict=True)):
            if learned:
                if not mask[place - 1]:
                    spans.append([])
                spans[-1].append(token)
        answers = [m["content"] for m in messages if m["role"] == "assistant"]
        assert [processor.decode(span) for span in spans] == answers
        assert all(span[-1] in processor.stop_ids for span in spans)
        # What stands before the first answer is exactly the prompt that a sampler is given.
        opening = messages[: [m["role"] for m in messages].index("assistant")]
        used = images[: sum(m["content"].count("<image>") for m in opening)]
        assert ids[: mask.index(1)] == processor.encode(opening, used).expanded_ids


@pytest.mark.parametrize("architecture", SEEING)
def test_media_ids_are_banned_and_cannot_be_written_as_text(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    folder = build_model(architecture)
    processor = PolicyProcessor.load(str(folder))
    token = AutoProcessor.from_pretrained(folder).image_token
    placeholder = processor.tokenizer.convert_tokens_to_ids(token)
    assert placeholder in processor.banned_ids
    assert not set(processor.banned_ids) & set(processor.stop_ids)
    if token != "<image>":  # else it is the marker itself, and counted as one
        with pytest.raises(UserError, match="image token"):
            processor.encode(_turns(f"see {token}"), [])
        with pytest.raises(UserError, match="image token"):
            processor.encode_conversation(_turns(f"see {token} <image>", "4"), [draw_image(1)])
        with pytest.raises(UserError, match="image token"):
            processor.encode_conversation(_turns("see <image>", f"4 {token}"), [draw_image(1)])


def test_unused_images_of_a_conversation_are_refused(
    build_model: ModelBuilder, draw_image: DrawImage
) -> None:
    """Messages after the last answer teach nothing; an image there would be features without a place."""
    processor = PolicyProcessor.load(str(build_model("qwen3_vl")))
    images = [draw_image(1), draw_image(2)]
    with pytest.raises(UserError, match="after the last"):
        processor.encode_conversation(_turns("<image> a", "4", "<image> b"), images)


def test_a_text_policy_refuses_images(build_model: ModelBuilder, draw_image: DrawImage) -> None:
    processor = PolicyProcessor.load(str(build_model("qwen3")))
    with pytest.raises(UserError, match="text only"):
        processor.encode(_turns("<image> what"), [draw_image(1)])


@pytest.mark.parametrize("architecture", SEEING)
def test_frozen_parts_get_no_gradient(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    folder = build_model(architecture)
    processor = PolicyProcessor.load(str(folder))
    model = load_model(str(folder), torch.float32)
    freeze(model, ["vision", "projector"])
    policy = Policy(model, banned_ids=processor.banned_ids)
    documents = _documents(processor, _conversations(architecture, draw_image))
    logprobs, _ = policy(pack(documents, [2, 3], policy, processor).inputs)
    logprobs.sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained and all("language_model" in n or "text_model" in n or "lm_head" in n for n in trained)
    with pytest.raises(UserError, match="nothing is left"):
        freeze(model, ["vision", "projector", "language"])


@pytest.mark.parametrize("architecture", SEEING)
def test_an_idle_image_uses_every_weight_and_changes_nothing(
    build_model: ModelBuilder, draw_image: DrawImage, architecture: str
) -> None:
    processor = PolicyProcessor.load(str(build_model(architecture)))
    policy = Policy(load_model(str(build_model(architecture)), torch.float32), banned_ids=[])
    documents = _documents(processor, [(_turns("What is 3 + 4", "7"), [])])
    with_it, without = (
        next(micro_batches(documents, policy, processor, max_tokens=1000, use_every_weight=every)).inputs
        for every in (True, False)
    )
    assert torch.equal(policy(with_it)[0], policy(without)[0])
    policy(without)[0].sum().backward()
    plain = {name: p.grad for name, p in policy.named_parameters()}
    assert any(grad is None for grad in plain.values())
    policy.zero_grad()
    policy(with_it)[0].sum().backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        expected = plain[name]
        assert torch.equal(parameter.grad, torch.zeros_like(parameter) if expected is None else expected)


def test_an_image_that_the_processor_refuses_is_named(
    build_model: ModelBuilder, draw_image: DrawImage
) -> None:
    """Qwen's takes no image that is 200 times as wide as high."""
    processor = PolicyProcessor.load(str(build_model("qwen3_vl")))
    thread = draw_image(1, 900, 2)
    with pytest.raises(UserError, match=f"{thread.path}.*900x2"):
        processor.encode(_turns("<image> what"), [thread])
