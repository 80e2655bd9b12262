"""Documents into packed micro-batches.

Documents keep their order, so rollouts of one prompt lie together and share it within a micro-batch: its
tokens and images are computed once. Pixels are made when a micro-batch is built and die with it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vlrl.images import ImageRef
from vlrl.policy.documents import Documents
from vlrl.policy.model import PackedInputs, Policy
from vlrl.policy.processor import PolicyProcessor


@dataclass(slots=True, frozen=True)
class TrainDocument:
    """One document: expanded token ids, its images in order, and 1 for each token that is scored.

    The first `prompt_tokens` hold every image and may be shared with a neighbour that begins alike.
    """

    ids: list[int]
    images: list[ImageRef]
    loss_mask: list[int]
    prompt_tokens: int = 0

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


def shared_tokens(last: TrainDocument | None, document: TrainDocument) -> int:
    """Length of the prompt of `document`, where the one before it has the same; else 0."""
    count = document.prompt_tokens
    if last is None or last.prompt_tokens != count or last.images != document.images:
        return 0
    return count if last.ids[:count] == document.ids[:count] else 0


def plan(lengths: list[int], shared: list[int], max_tokens: int, world: int = 1) -> list[list[int]]:
    """Split documents, in order, into as few micro-batches of at most `max_tokens` as there can be.

    `shared` holds how many tokens each document need not bring where the one before it lies in the same
    micro-batch. The number of micro-batches is a multiple of `world` (the last ones may be empty lists), and
    among such splits this is the one whose largest is smallest, so that ranks seldom wait for each other.
    """
    assert lengths and max(lengths) <= max_tokens
    count = -(-len(_fill(lengths, shared, max_tokens)) // world) * world
    sizes = range(max(lengths), max_tokens + 1)
    # Filling in order needs the fewest micro-batches of a size, and fewer the larger the size; for a
    # micro-batch that starts a document later never holds more tokens, since none shares more than was there.
    size = sizes[bisect_left(sizes, True, key=lambda size: len(_fill(lengths, shared, size)) <= count)]
    bins = _fill(lengths, shared, size)
    return bins + [[] for _ in range(-len(bins) % world)]


def _fill(lengths: list[int], shared: list[int], capacity: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room = -1
    for index, length in enumerate(lengths):
        own = length - shared[index]
        if own > room:
            bins.append([])
            room, own = capacity, length
        bins[-1].append(index)
        room -= own
    return bins


def document_lengths(documents: list[TrainDocument]) -> tuple[list[int], list[int]]:
    """Tokens of each document, and how many of them it shares with the one before it."""
    before = [None, *documents[:-1]]
    shared = [shared_tokens(last, document) for last, document in zip(before, documents, strict=True)]
    return [len(document.ids) for document in documents], shared


def micro_batches(
    documents: list[TrainDocument],
    policy: Policy,
    processor: PolicyProcessor,
    *,
    max_tokens: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    use_every_weight: bool = False,
) -> Iterator[MicroBatch]:
    """This rank's share of the documents, packed; every rank yields the same number.

    Documents without a scored token are left out: whatever is learned from the others is the same.
    `use_every_weight` (see `TrainEngine.must_use_every_weight`): no micro-batch leaves out the vision tower.
    """
    idle = processor.blank_image_inputs() if use_every_weight and processor.takes_images else None
    scored = [index for index, document in enumerate(documents) if document.scored]
    if not scored:
        return
    bins = plan(*document_lengths([documents[index] for index in scored]), max_tokens, world)
    for members in bins[rank::world]:
        used = [scored[place] for place in members or bins[0][:1]]
        batch = pack(documents, used, policy, processor, device)
        batch.empty = not members
        if idle is not None and not batch.inputs.images:
            batch.inputs.idle_image = {name: value.to(device) for name, value in idle.items()}
        yield batch


def pack(
    documents: list[TrainDocument],
    members: list[int],
    policy: Policy,
    processor: PolicyProcessor,
    device: torch.device | str = "cpu",
) -> MicroBatch:
    """Lay the chosen documents end to end in one row, a prompt that neighbours share only once."""
    row = _Row(policy, processor)
    predict_from, targets, owner = [], [], []
    for place, index in enumerate(members):
        document = documents[index]
        span = row.add(document)
        scored = torch.tensor(document.loss_mask[1:], dtype=torch.bool).nonzero().squeeze(1)
        predict_from.append(span[scored])
        targets.append(torch.tensor(document.ids)[scored + 1])
        owner.append(torch.full_like(scored, place))
    inputs = PackedInputs(
        input_ids=torch.cat(row.ids).to(device),
        position_ids=torch.cat(row.positions, dim=-1).to(device),
        documents=Documents.from_spans(row.spans, device),
        images=[{name: value.to(device) for name, value in image.items()} for image in row.images],
        image_use=row.image_use,
        predict_from=torch.cat(predict_from).to(device),
        targets=torch.cat(targets).to(device),
    )
    return MicroBatch(inputs, torch.tensor(members), torch.cat(owner).to(device))


class _Row:
    """A packed row as documents are added to it.

    A token depends on those before it alone, so documents that begin with the same prompt can read the same
    tokens: values stay what they are, and gradients add up where they meet.
    """

    def __init__(self, policy: Policy, processor: PolicyProcessor) -> None:
        self.ids: list[torch.Tensor] = []
        self.positions: list[torch.Tensor] = []
        self.spans: list[torch.Tensor] = []
        self.images: list[dict[str, torch.Tensor]] = []
        self.image_use: list[int] = []
        self._policy, self._processor = policy, processor
        self._distinct: dict[str, int] = {}
        self._length = 0
        self._last: TrainDocument | None = None
        self._prompt_positions = torch.empty(0, dtype=torch.int64)

    def add(self, document: TrainDocument) -> torch.Tensor:
        """Append what the row does not hold yet; int64 [length], the place of each token of `document`."""
        ids, shared = torch.tensor(document.ids), shared_tokens(self._last, document)
        if shared:
            # Only text follows a prompt, so its positions count on from the largest.
            start = int(self._prompt_positions.max()) + 1
            after = torch.arange(start, start + len(ids) - shared)
            positions = after.expand(*self._prompt_positions.shape[:-1], -1)
        else:
            positions = self._policy.positions(ids, [self._image(image) for image in document.images])
            self._prompt_positions = positions[..., : document.prompt_tokens]
        own = torch.arange(self._length, self._length + len(ids) - shared)
        self.ids.append(ids[shared:])
        self.positions.append(positions)
        self.spans.append(torch.cat([self.spans[-1][:shared], own]) if shared else own)
        self._length += len(own)
        self._last = document
        return self.spans[-1]

    def _image(self, image: ImageRef) -> dict[str, torch.Tensor]:
        """Inputs of an image that stands next in the row; equal ones are made once."""
        if image.sha256 not in self._distinct:
            self._distinct[image.sha256] = len(self.images)
            self.images.append(self._processor.image_inputs(image))
        self.image_use.append(self._distinct[image.sha256])
        return self.images[self.image_use[-1]]
