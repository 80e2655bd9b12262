"""How documents become micro-batches."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.conftest import ModelBuilder
from vlrl.images import ImageRef
from vlrl.policy.attention_sdpa import Buckets
from vlrl.policy.documents import Documents
from vlrl.policy.load import load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import MicroBatch, TrainDocument, micro_batches, pack, plan
from vlrl.policy.processor import PolicyProcessor
from vlrl.training.frozen import document_logprobs
from vlrl.training.ranks import start_ranks


def _random_case(generator: random.Random) -> tuple[list[int], int, int]:
    capacity = generator.choice([1, 2, 7, 64, 1000])
    shape = generator.choice(["even", "wide", "tiny and huge", "all full"])
    count = generator.randint(1, 60)
    if shape == "even":
        lengths = [max(1, capacity // generator.randint(1, 9))] * count
    elif shape == "wide":
        lengths = [generator.randint(1, capacity) for _ in range(count)]
    elif shape == "all full":
        lengths = [capacity] * count
    else:
        lengths = [1] * count
        lengths[generator.randrange(count)] = capacity
    return lengths, capacity, generator.choice([1, 2, 3, 4])


def test_every_plan_keeps_order_capacity_and_the_multiple_of_ranks() -> None:
    generator = random.Random(0)
    for _ in range(2000):
        lengths, capacity, world = _random_case(generator)
        shared = _random_shares(lengths, generator)
        bins = plan(lengths, shared, capacity, world)
        assert [i for members in bins for i in members] == list(range(len(lengths)))
        assert all(_tokens(members, lengths, shared) <= capacity for members in bins)
        assert len(bins) % world == 0
        used = [members for members in bins if members]
        assert bins[: len(used)] == used  # stand-ins come last
        assert len(bins) - len(used) < world
        # As few batches as any split in order could take, rounded up to the ranks.
        fewest, start = 0, 0
        while start < len(lengths):
            ends = range(start + 1, len(lengths) + 1)
            start = max(e for e in ends if _tokens(list(range(start, e)), lengths, shared) <= capacity)
            fewest += 1
        assert len(bins) == -(-fewest // world) * world


def _random_shares(lengths: list[int], generator: random.Random) -> list[int]:
    """For each document tokens that the one before it holds too, often none."""
    shares = [generator.randint(0, min(pair)) for pair in pairwise(lengths)]
    return [0] + [generator.choice([0, share]) for share in shares]


def _tokens(members: list[int], lengths: list[int], shared: list[int]) -> int:
    """Tokens of a row that holds `members`, what neighbours share only once."""
    return sum(lengths[i] - (shared[i] if place else 0) for place, i in enumerate(members))


def test_no_other_split_in_order_has_a_smaller_largest_batch() -> None:
    generator = random.Random(1)
    for _ in range(200):
        lengths = [generator.randint(1, 12) for _ in range(generator.randint(1, 8))]
        world = generator.choice([1, 2])
        shared = _random_shares(lengths, generator)
        bins = plan(lengths, shared, 14, world)
        largest = max(_tokens(members, lengths, shared) for members in bins)
        assert largest == _best(list(range(len(lengths))), lengths, shared, len(bins))


def _best(members: list[int], lengths: list[int], shared: list[int], count: int) -> int:
    """The smallest largest row over all ways to cut `members` into at most `count` runs."""
    whole = _tokens(members, lengths, shared)
    if count == 1 or len(members) == 1:
        return whole
    cuts = (
        max(_tokens(members[:c], lengths, shared), _best(members[c:], lengths, shared, count - 1))
        for c in range(1, len(members))
    )
    return min(whole, *cuts)


def test_a_huge_and_many_tiny_documents_are_planned_at_once() -> None:
    started = time.perf_counter()
    lengths = [1] * 20_000
    lengths[777] = 100_000
    bins = plan(lengths, [0] * len(lengths), 100_000, world=8)
    assert len(bins) == 8 and sum(len(members) for members in bins) == 20_000
    assert time.perf_counter() - started < 2


def test_ranks_get_whole_batches_where_there_is_enough_for_all() -> None:
    alone = [0] * 8
    assert plan([10] * 8, alone, 100, world=2) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert plan([10] * 8, alone, 40, world=3) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert plan([10], [0], 40, world=2) == [[0], []]
    # Two prompts of six tokens, each of four documents: a row holds a whole group.
    assert plan([10] * 8, [0, 6, 6, 6] * 2, 22) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_documents_gather_and_scatter_every_token_once() -> None:
    generator = random.Random(2)
    for _ in range(200):
        lengths = [generator.choice([1, 2, 30, 31, 200]) for _ in range(generator.randint(1, 12))]
        row = torch.arange(sum(lengths))
        documents = Documents.from_spans(list(row.split(lengths))).layout(Buckets.of)
        padded = torch.cat([row[index].flatten() for index in documents.buckets])
        assert torch.equal(padded[documents.scatter], row)
        starts = {sum(lengths[:d]): lengths[d] for d in range(len(lengths))}
        seen = []
        for index in documents.buckets:
            for line in index.tolist():
                length = starts[line[0]]
                assert line[:length] == list(range(line[0], line[0] + length))
                seen.append(line[0])
                # A bucket wastes little: its documents are of similar length.
                assert len(line) <= 1.3 * min(starts[other[0]] for other in index.tolist()) + 8
        assert sorted(seen) == sorted(starts)


@pytest.fixture(scope="module")
def parts(build_model: ModelBuilder) -> tuple[Policy, PolicyProcessor]:
    folder = str(build_model("qwen3_vl"))
    processor = PolicyProcessor.load(folder)
    return Policy(load_model(folder, torch.float32), banned_ids=processor.banned_ids), processor


def _documents(
    processor: PolicyProcessor, draw_image: Callable[..., ImageRef], count: int = 7
) -> list[TrainDocument]:
    out = []
    for i in range(count):
        images = [draw_image(j) for j in range(i % 3)]
        question = "<image>" * len(images) + f"What is {i}?"
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": "so " * (1 + 5 * i)},
        ]
        ids, mask = processor.encode_conversation(messages, images)
        out.append(TrainDocument(ids, images, mask))
    return out


def test_scored_tokens_name_their_document_and_their_target(
    parts: tuple[Policy, PolicyProcessor], draw_image: Callable[..., ImageRef]
) -> None:
    policy, processor = parts
    documents = _documents(processor, draw_image)
    members = [4, 1, 6]
    batch = pack(documents, members, policy, processor)
    expected = [
        (d, documents[d].ids[place], documents[d].ids[place - 1])
        for d in members
        for place in range(1, len(documents[d].ids))
        if documents[d].loss_mask[place]
    ]
    inputs = batch.inputs
    sources = inputs.input_ids[inputs.predict_from].tolist()
    found = list(zip(batch.global_owner.tolist(), inputs.targets.tolist(), sources, strict=True))
    assert found == expected
    assert torch.bincount(batch.owner).tolist() == [documents[d].scored for d in members]
    # Images in the order of the row; each distinct one once.
    hashes = [image.sha256 for d in members for image in documents[d].images]
    assert len(inputs.images) == len(set(hashes)) == 1
    assert inputs.image_use == [0, 0]


def test_a_masked_first_token_is_not_scored(parts: tuple[Policy, PolicyProcessor]) -> None:
    policy, processor = parts
    document = TrainDocument([70, 71, 72], [], [1, 0, 1])
    batch = pack([document], [0], policy, processor)
    assert document.scored == 1
    assert batch.inputs.predict_from.tolist() == [1] and batch.inputs.targets.tolist() == [72]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_documents_and_run_equally_many_batches(
    parts: tuple[Policy, PolicyProcessor], draw_image: Callable[..., ImageRef], world: int
) -> None:
    policy, processor = parts
    documents = _documents(processor, draw_image, count=5)
    longest = max(len(d.ids) for d in documents)
    shares = [
        list(micro_batches(documents, policy, processor, max_tokens=longest, rank=rank, world=world))
        for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    counted = sorted(
        d for share in shares for batch in share if not batch.empty for d in batch.documents.tolist()
    )
    assert counted == list(range(len(documents)))
    assert all(len(batch.inputs.input_ids) <= longest for share in shares for batch in share)


@pytest.mark.parametrize("world", [1, 2])
def test_documents_without_scored_tokens_are_not_computed(
    parts: tuple[Policy, PolicyProcessor], draw_image: Callable[..., ImageRef], world: int
) -> None:
    policy, processor = parts
    documents = _documents(processor, draw_image)
    for silent in (0, 3, 6):
        documents[silent] = replace(documents[silent], loss_mask=[0] * len(documents[silent].ids))
    kept = [documents[i] for i in (1, 2, 4, 5)]
    longest = max(len(d.ids) for d in kept)  # shorter than what is left out

    def rows(documents: list[TrainDocument], rank: int) -> list[MicroBatch]:
        return list(micro_batches(documents, policy, processor, max_tokens=longest, rank=rank, world=world))

    for rank in range(world):
        for found, wanted in zip(rows(documents, rank), rows(kept, rank), strict=True):
            assert torch.equal(found.inputs.input_ids, wanted.inputs.input_ids)
            assert torch.equal(found.owner, wanted.owner) and found.empty == wanted.empty
            assert found.documents.tolist() == [(1, 2, 4, 5)[i] for i in wanted.documents]
        assert rows([documents[0], documents[3]], rank) == []
    if world == 1:
        values = document_logprobs(policy, rows(documents, 0), len(documents), start_ranks(1))
        assert [len(v) for v in values] == [d.scored for d in documents]
