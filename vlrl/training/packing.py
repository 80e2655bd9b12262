"""Documents into packed micro-batches.

Documents keep their order, so rollouts of one prompt lie together and share its image within a
micro-batch. Pixels are made when a micro-batch is built and die with it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vlrl.images import ImageRef
from vlrl.policy.attention import Documents
from vlrl.policy.model import PackedInputs, Policy
from vlrl.policy.processor import PolicyProcessor


@dataclass(slots=True, frozen=True)
class TrainDocument:
    """One document: expanded token ids, its images in order, and 1 for each token that is scored."""

    ids: list[int]
    images: list[ImageRef]
    loss_mask: list[int]

    @property
    def scored(self) -> int:
        """Tokens in the loss; the first token of a document has no prediction."""
        return sum(self.loss_mask[1:])


@dataclass(slots=True)
class MicroBatch:
    """Packed inputs and where their scored tokens come from.

    `documents` are the global indices of the documents held, in order; `owner` int64 [M] is the place in
    `documents` that each scored token belongs to. `empty` marks a stand-in that must not count: ranks
    with fewer micro-batches run one so that every rank takes part in every collective.
    """

    inputs: PackedInputs
    documents: torch.Tensor
    owner: torch.Tensor
    empty: bool = False

    @property
    def global_owner(self) -> torch.Tensor:
        return self.documents[self.owner]


def plan(lengths: list[int], max_tokens: int, world: int = 1) -> list[list[int]]:
    """Split documents, in order, into as few micro-batches of at most `max_tokens` as there can be.

    Their number is a multiple of `world` (the last ones may be empty lists), and among such splits this
    is the one whose largest micro-batch is smallest, so that ranks seldom wait for each other.
    """
    assert lengths and max(lengths) <= max_tokens
    count = -(-len(_fill(lengths, max_tokens)) // world) * world
    sizes = range(max(lengths), max_tokens + 1)
    # Filling in order needs the fewest micro-batches of a size, and fewer the larger the size.
    size = sizes[bisect_left(sizes, True, key=lambda size: len(_fill(lengths, size)) <= count)]
    bins = _fill(lengths, size)
    return bins + [[] for _ in range(-len(bins) % world)]


def _fill(lengths: list[int], capacity: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room = 0
    for index, length in enumerate(lengths):
        if length > room:
            bins.append([])
            room = capacity
        bins[-1].append(index)
        room -= length
    return bins


def micro_batches(
    documents: list[TrainDocument],
    policy: Policy,
    processor: PolicyProcessor,
    *,
    max_tokens: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[MicroBatch]:
    """This rank's share of the documents, packed; every rank yields the same number."""
    bins = plan([len(d.ids) for d in documents], max_tokens, world)
    for members in bins[rank::world]:
        batch = pack(documents, members or bins[0][:1], policy, processor, device)
        batch.empty = not members
        yield batch


def pack(
    documents: list[TrainDocument],
    members: list[int],
    policy: Policy,
    processor: PolicyProcessor,
    device: torch.device | str = "cpu",
) -> MicroBatch:
    """Lay the chosen documents end to end in one row."""
    distinct: dict[str, int] = {}
    images: list[dict[str, torch.Tensor]] = []
    image_use: list[int] = []
    rows, positions, predict_from, owner = [], [], [], []
    start = 0
    for place, index in enumerate(members):
        document = documents[index]
        for image in document.images:
            if image.sha256 not in distinct:
                distinct[image.sha256] = len(images)
                images.append(processor.image_inputs(image))
            image_use.append(distinct[image.sha256])
        ids = torch.tensor(document.ids)
        rows.append(ids)
        positions.append(policy.positions(ids, [images[distinct[i.sha256]] for i in document.images]))
        scored = torch.tensor(document.loss_mask[1:], dtype=torch.bool).nonzero().squeeze(1)
        predict_from.append(scored + start)
        owner.append(torch.full_like(scored, place))
        start += len(ids)
    input_ids, places = torch.cat(rows), torch.cat(predict_from)
    inputs = PackedInputs(
        input_ids=input_ids.to(device),
        position_ids=torch.cat(positions, dim=-1).to(device),
        documents=Documents.from_lengths([len(r) for r in rows], device),
        images=[{name: value.to(device) for name, value in image.items()} for image in images],
        image_use=image_use,
        predict_from=places.to(device),
        targets=input_ids[places + 1].to(device),
    )
    return MicroBatch(inputs, torch.tensor(members), torch.cat(owner).to(device))
