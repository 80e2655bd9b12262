"""Attention over packed documents: each backend against a dense mask, and nothing crosses documents."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention as flex_module
from torch.nn.attention.flex_attention import create_block_mask

from tests.conftest import ModelBuilder
from vlrl.errors import UserError
from vlrl.images import ImageRef
from vlrl.policy import attention_varlen
from vlrl.policy.attention import BACKENDS, NAMES, Attend, use_attention
from vlrl.policy.attention_flex import block_mask
from vlrl.policy.attention_sdpa import Buckets
from vlrl.policy.documents import Documents, gather
from vlrl.policy.load import load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, pack
from vlrl.policy.processor import PolicyProcessor

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HEADS, KV_HEADS, DIM = 4, 2, 16
# (length, tokens shared with the document before): two groups, a lone document, one that is all prompt, and
# a prefix that only two of three share.
SHARED = [(9, 0), (12, 6), (6, 6), (40, 0), (3, 0), (7, 2), (8, 5)]
APART = [(9, 0), (1, 0), (17, 0), (30, 0)]
Tensors = tuple[torch.Tensor, ...]


@dataclass
class Backend:
    attend: Attend
    dtype: torch.dtype
    device: torch.device

    def __call__(self, inputs: Tensors, documents: Documents, window: int | None = None) -> torch.Tensor:
        """[1, T, heads, dim], for inputs as transformers hands them over."""
        q, k, v = (x.transpose(1, 2) for x in inputs)
        return self.attend(q, k, v, documents, None, window, 0.0)

    def inputs(self, documents: Documents, seed: int = 0) -> Tensors:
        generator = torch.Generator().manual_seed(seed)
        heads = (HEADS, KV_HEADS, KV_HEADS)
        return tuple(
            torch.randn(1, documents.tokens, n, DIM, generator=generator)
            .to(self.device, self.dtype)
            .requires_grad_()
            for n in heads
        )

    @property
    def tolerance(self) -> float:
        return 2e-5 if self.dtype == torch.float32 and self.device.type == "cpu" else 2e-2


@pytest.fixture
def flex_trains_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch refuses FlexAttention's backward on CPU, but has it for the unfused form that runs there."""
    monkeypatch.setattr(flex_module, "_validate_device", lambda *_: None)


@pytest.fixture(params=["sdpa", "flex", "varlen", "varlen, kernel imitated"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    name, dtype, device = request.param.split(",")[0], torch.float32, DEVICE
    if request.param == "varlen":
        if DEVICE.type != "cuda":
            pytest.skip("FlashAttention's kernel needs a GPU")
        dtype = torch.bfloat16
    elif name == "varlen":
        monkeypatch.setattr(attention_varlen, "varlen_attn", _imitated_kernel)
        device = torch.device("cpu")
    elif name == "flex":
        request.getfixturevalue("flex_trains_on_cpu")
    yield Backend(BACKENDS[name], dtype, device)


def _imitated_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """`varlen_attn` by its documentation: queries aligned with the end of the keys, a window before."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32 and window_size[1] == 0
    sizes_q, sizes_k = cu_seq_q.diff().tolist(), cu_seq_k.diff().tolist()
    assert max_q == max(sizes_q) and max_k == max(sizes_k)
    out = []
    for q, k, v in zip(query.split(sizes_q), key.split(sizes_k), value.split(sizes_k), strict=True):
        back = torch.arange(len(k) - len(q), len(k))[:, None] - torch.arange(len(k))
        mask = (back >= 0) & (back <= window_size[0] if window_size[0] >= 0 else True)
        out.append(_dense(q[None], k[None], v[None], mask)[0])
    return torch.cat(out)


def _dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention written out, in fp32: [1, T, heads, dim] each, mask bool [queries, keys]."""
    q, k, v = (x.float().transpose(1, 2) for x in (query, key, value))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def _documents(shape: list[tuple[int, int]], device: torch.device) -> Documents:
    spans: list[torch.Tensor] = []
    tokens = 0
    for length, shared in shape:
        own = torch.arange(tokens, tokens + length - shared)
        spans.append(torch.cat([spans[-1][:shared], own]) if shared else own)
        tokens += len(own)
    return Documents.from_spans(spans, device)


def _mask(documents: Documents, window: int | None) -> torch.Tensor:
    """bool [T, T], pair by pair: a token sees those before it in any document that holds both."""
    mask = torch.zeros(documents.tokens, documents.tokens, dtype=torch.bool)
    for span in documents.spans:
        for place, query in enumerate(span.tolist()):
            first = 0 if window is None else max(0, place + 1 - window)
            mask[query, span[first : place + 1]] = True
    return mask.to(documents.device)


@pytest.mark.parametrize("window", [None, 1, 5, 39, 1000])
@pytest.mark.parametrize("shape", [SHARED, APART])
def test_values_and_gradients_are_those_of_a_dense_mask(
    backend: Backend, shape: list[tuple[int, int]], window: int | None
) -> None:
    documents = _documents(shape, backend.device)
    inputs, plain = backend.inputs(documents), backend.inputs(documents)
    found, expected = backend(inputs, documents, window), _dense(*plain, _mask(documents, window))
    assert found.shape == (1, documents.tokens, HEADS, DIM) and found.dtype == backend.dtype
    torch.testing.assert_close(found.float(), expected, rtol=backend.tolerance, atol=backend.tolerance)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(backend.device)
    (found.float() * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(inputs, plain, strict=True):
        # A token that sees itself alone has no gradient in its query: the norm may be zero.
        assert (mine.grad - other.grad).norm() < backend.tolerance * (1 + other.grad.norm())


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("shape", [SHARED, APART])
def test_a_changed_token_changes_no_output_and_no_gradient_of_another_document(
    backend: Backend, shape: list[tuple[int, int]], window: int | None
) -> None:
    documents = _documents(shape, backend.device)
    weights = torch.randn(1, documents.tokens, HEADS, DIM, generator=torch.Generator().manual_seed(1))
    weights = weights.to(backend.device, backend.dtype)
    fresh = [x.detach() for x in backend.inputs(documents, seed=2)]
    for changed, span in enumerate(documents.spans):
        # Everything of one document, a prompt that it shares included.
        inputs = backend.inputs(documents)
        other = tuple(
            x.detach().index_copy(1, span.to(x.device), y[:, span]).requires_grad_()
            for x, y in zip(inputs, fresh, strict=True)
        )
        held = {int(t) for t in span}
        apart = [s for s in documents.spans if not held & {int(t) for t in s}]
        assert apart or shape is SHARED
        outside = torch.cat([s for s in apart]).unique()
        results = []
        for case in (inputs, other):
            out = backend(case, documents, window)
            # The loss of all other documents: none of it may reach this one.
            (out[:, outside] * weights[:, outside]).sum().backward()
            assert all(torch.count_nonzero(x.grad[:, span]) == 0 for x in case)
            results.append([out[:, outside], *(x.grad[:, outside] for x in case)])
        assert torch.equal(results[0][0], results[1][0]), f"document {changed}"
        for before, after in zip(results[0][1:], results[1][1:], strict=True):
            if backend.device.type == "cpu":
                assert torch.equal(before, after), f"document {changed}"
            else:  # sums in no fixed order
                torch.testing.assert_close(before, after, rtol=backend.tolerance, atol=backend.tolerance)


def test_responses_to_one_prompt_do_not_see_each_other(backend: Backend) -> None:
    documents = _documents([(10, 0), (12, 6), (9, 6)], backend.device)
    own = [span[6:] for span in documents.spans]
    inputs = backend.inputs(documents)
    for d, mine in enumerate(own):
        out = backend(inputs, documents)
        for x in inputs:
            x.grad = None
        out[:, mine].float().square().sum().backward()
        for o, others in enumerate(own):
            seen = [torch.count_nonzero(x.grad[:, others]) > 0 for x in inputs]
            assert all(seen) if o == d else not any(seen)
        # The prompt's keys and values teach through every response, its queries through none.
        assert [bool(torch.count_nonzero(x.grad[:, :6])) for x in inputs] == [False, True, True]


def test_shared_prompts_equal_unshared_ones(backend: Backend) -> None:
    documents = _documents(SHARED, backend.device)
    apart = _documents([(length, 0) for length, _ in SHARED], backend.device)
    places = torch.cat(documents.spans)
    inputs = backend.inputs(documents)
    copies = tuple(x.detach()[:, places].clone().requires_grad_() for x in inputs)
    shared, unshared = backend(inputs, documents), backend(copies, apart)
    torch.testing.assert_close(shared[:, places], unshared, rtol=backend.tolerance, atol=backend.tolerance)
    # The same loss on both sides: one on each document's copy of its tokens.
    weights = torch.randn(unshared.shape, generator=torch.Generator().manual_seed(1)).to(backend.device)
    (shared[:, places].float() * weights).sum().backward()
    (unshared.float() * weights).sum().backward()
    for mine, copy in zip(inputs, copies, strict=True):
        summed = torch.zeros_like(mine, dtype=torch.float32).index_add(
            1, places.to(mine.device), copy.grad.float()
        )
        assert (mine.grad - summed).norm() < backend.tolerance * summed.norm()


def test_gradients_of_a_prompt_that_many_share_add_up_in_full_precision() -> None:
    x = torch.zeros(3, 2, 4, dtype=torch.bfloat16, requires_grad=True)
    index = torch.tensor([0, 1] * 300 + [2])
    grad = 1 + torch.rand(len(index), 2, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    gather(x, index).backward(grad)
    exact = torch.zeros(3, 2, 4).index_add(0, index, grad.float())
    assert torch.equal(x.grad, exact.bfloat16())


def test_flex_blocks_hold_all_that_is_seen_and_whole_ones_nothing_else() -> None:
    generator = random.Random(0)
    for _ in range(60):
        shape: list[tuple[int, int]] = []
        for _ in range(generator.randint(1, 12)):
            length = generator.choice([1, 3, 16, 40, 130])
            most = min(length, shape[-1][0]) if shape else 0
            shape.append((length, generator.choice([0, generator.randint(0, most)])))
        documents = _documents(shape, torch.device("cpu"))
        window = generator.choice([None, None, 1, 7, 64])
        expected = _mask(documents, window)
        blocks = block_mask(documents, window, block=16)
        count = -(-documents.tokens // 16)
        partial, whole = (
            _blocks(*pair, count)
            for pair in (
                (blocks.kv_num_blocks, blocks.kv_indices),
                (blocks.full_kv_num_blocks, blocks.full_kv_indices),
            )
        )
        rows = torch.arange(documents.tokens)
        assert torch.equal(blocks.mask_mod(0, 0, rows[:, None], rows), expected)
        pad = count * 16 - documents.tokens
        tiles = torch.nn.functional.pad(expected, (0, pad, 0, pad)).view(count, 16, count, 16)
        assert not (partial & whole).any()
        assert not (tiles.any(3).any(1) & ~(partial | whole)).any()
        assert not (whole & ~tiles.all(3).all(1)).any()
        if window is None:
            # Then none is visited in vain; PyTorch's own, from all pairs, says the same.
            length = documents.tokens
            mine = create_block_mask(blocks.mask_mod, None, None, length, length, "cpu", BLOCK_SIZE=16)
            assert torch.equal(blocks.to_dense(), mine.to_dense())
            assert torch.equal(blocks.full_kv_num_blocks, mine.full_kv_num_blocks)


def _blocks(counts: torch.Tensor | None, index: torch.Tensor | None, count: int) -> torch.Tensor:
    assert counts is not None and index is not None
    out = torch.zeros(count, count, dtype=torch.bool)
    for row in range(count):
        out[row, index[0, 0, row, : int(counts[0, 0, row])].long()] = True
    return out


def test_a_layout_is_made_once_a_row() -> None:
    documents = _documents(SHARED, torch.device("cpu"))
    assert documents.layout(block_mask, None) is documents.layout(block_mask, None)
    assert documents.layout(Buckets.of) is documents.layout(Buckets.of)
    assert documents.layout(block_mask, 5) is not documents.layout(block_mask, None)


@pytest.mark.parametrize(
    "spans", [[[0, 1], [3, 4]], [[0, 1, 2], [0, 3], [1, 4]], [[0, 1, 2], [3, 4], [0, 5]], [[1, 0]]]
)
def test_only_prefixes_of_the_neighbour_can_be_shared(spans: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="neither shares a prefix nor continues"):
        Documents.from_spans([torch.tensor(span) for span in spans])


@pytest.mark.parametrize("architecture", ["qwen3_vl", "qwen2_5_vl"])
def test_a_whole_models_gradient_is_that_of_sdpa(
    build_model: ModelBuilder,
    draw_image: Callable[..., ImageRef],
    flex_trains_on_cpu: None,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
) -> None:
    """FlexAttention, and the varlen layout with its kernel imitated, in place of SDPA."""
    folder = str(build_model(architecture))
    processor = PolicyProcessor.load(folder)
    documents = []
    for question, picture, lengths in (
        ("<image>?", 1, (3, 30, 1)),
        ("<image> so?", 2, (8, 2)),
        ("No", 0, (5,)),
    ):
        images = [draw_image(picture, 64, 32)] if picture else []
        prompt = processor.encode([{"role": "user", "content": question}], images).expanded_ids
        for length in lengths:
            ids = prompt + [40 + i % 9 for i in range(length)]
            mask = [0] * len(prompt) + [1] * length
            documents.append(TrainDocument(ids, images, mask, len(prompt)))
    monkeypatch.setattr(attention_varlen, "varlen_attn", _imitated_kernel)
    found: dict[str, Tensors] = {}
    for name in BACKENDS:
        model = load_model(folder, torch.float32)
        _attend_by(model, name, monkeypatch)
        policy = Policy(model, banned_ids=processor.banned_ids)
        logprobs, _ = policy(pack(documents, list(range(len(documents))), policy, processor).inputs)
        (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
        grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
        found[name] = (logprobs.detach(), torch.cat(grads))
    for name in ("flex", "varlen"):
        torch.testing.assert_close(found[name][0], found["sdpa"][0], rtol=1e-5, atol=1e-5)
        assert (found[name][1] - found["sdpa"][1]).norm() < 1e-5 * found["sdpa"][1].norm()


def _attend_by(model: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`use_attention`, as it would choose on a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    device, dtype = torch.device("cuda"), torch.bfloat16
    assert use_attention(model, name, device, dtype) == name
    layer = model.model.language_model.layers[0].self_attn
    assert layer.config._attn_implementation == NAMES[name]
    assert model.model.visual.config._attn_implementation == "sdpa"


BF16, FP32 = torch.bfloat16, torch.float32
GPU, CPU = torch.device("cuda"), torch.device("cpu")


def _model(**text: Any) -> Any:
    shape = {"model_type": "llama", "hidden_size": 256, "num_attention_heads": 4, "_attn_implementation": ""}
    config = SimpleNamespace(**(shape | text))
    config.get_text_config = lambda: config
    part = torch.nn.Module()
    part.config = config
    return part


@pytest.mark.parametrize(
    ("device", "dtype", "text", "capability", "chosen"),
    [
        (CPU, BF16, {}, (9, 0), "sdpa"),
        (GPU, BF16, {}, (9, 0), "varlen"),
        (GPU, FP32, {}, (9, 0), "flex"),
        (GPU, BF16, {}, (7, 5), "flex"),
        (GPU, BF16, {"head_dim": 60}, (9, 0), "flex"),
        (GPU, BF16, {"head_dim": 288}, (9, 0), "flex"),
        (GPU, BF16, {"v_head_dim": 128}, (9, 0), "flex"),
        (GPU, BF16, {"attention_dropout": 0.1}, (9, 0), "sdpa"),
    ],
)
def test_auto_takes_the_fastest_that_can_run_the_model(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    dtype: torch.dtype,
    text: dict[str, Any],
    capability: tuple[int, int],
    chosen: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    model = _model(**text)
    assert use_attention(model, "auto", device, dtype) == chosen
    assert model.config._attn_implementation == NAMES[chosen]


@pytest.mark.parametrize(
    ("choice", "device", "dtype", "text", "reason"),
    [
        ("varlen", CPU, BF16, {}, "needs a GPU, and training runs on cpu"),
        ("flex", CPU, FP32, {}, "needs a GPU, and training runs on cpu"),
        ("varlen", GPU, FP32, {}, "needs trainer.dtype bfloat16, not float32"),
        ("varlen", GPU, BF16, {"head_dim": 60}, "have 60"),
        ("flex", GPU, BF16, {"attention_dropout": 0.1}, "attention_dropout 0.1"),
    ],
)
def test_a_choice_that_cannot_run_is_refused_by_name(
    choice: Any, device: torch.device, dtype: torch.dtype, text: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=rf"^trainer\.attention: '{choice}' .*{reason}"):
        use_attention(_model(**text), choice, device, dtype)
