"""Sliding windows are trained exactly; what packed training would run as something else is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.conftest import ModelBuilder
from vlrl.errors import UserError
from vlrl.policy.load import load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import TrainDocument, pack
from vlrl.policy.processor import PolicyProcessor

SHAPE = {
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., str]:
    """`save_model("Qwen2", **values)` -> folder of random weights of that causal model."""

    def save(name: str, **values: Any) -> str:
        config = getattr(transformers, f"{name}Config")(**values)
        torch.manual_seed(0)
        sees = "vision_config" in values
        auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        auto.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
        return str(tmp_path)

    return save


@pytest.mark.parametrize("window", [2, 7, 64])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Qwen2", {"use_sliding_window": True, "max_window_layers": 1}),
        ("Gemma3Text", {"layer_types": MIXED}),
        ("Mistral", {}),
    ],
)
def test_a_sliding_window_is_that_of_transformers(
    build_model: ModelBuilder, save_model: Callable[..., str], name: str, more: dict[str, Any], window: int
) -> None:
    folder = save_model(name, **SHAPE, **more, sliding_window=window)
    policy = Policy(load_model(folder, torch.float32), banned_ids=[])
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    generator = torch.Generator().manual_seed(1)
    lengths = [5, 7, 8, 20, 23, 60]
    rows = [torch.randint(2, 384, (n,), generator=generator) for n in lengths]
    documents = [TrainDocument(row.tolist(), [], [0] + [1] * (len(row) - 1)) for row in rows]
    processor = PolicyProcessor.load(str(build_model("qwen3")))
    found, _ = policy(pack(documents, list(range(len(rows))), policy, processor).inputs)
    logprobs = [plain(row[None]).logits[0, :-1].log_softmax(-1) for row in rows]
    expected = torch.cat(
        [full.gather(1, row[1:, None])[:, 0] for full, row in zip(logprobs, rows, strict=True)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(len(expected), generator=generator)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    grads = {key: p.grad for key, p in plain.named_parameters()}
    for key, parameter in policy.model.named_parameters():
        torch.testing.assert_close(parameter.grad, grads[key], rtol=1e-4, atol=1e-4)
    # The window matters here, so equality says something.
    if window < max(lengths):
        everything = SHAPE | more | {"sliding_window": 1000}
        wide = save_model(name, **everything)
        full, _ = Policy(load_model(wide, torch.float32), banned_ids=[])(
            pack(documents, list(range(len(rows))), policy, processor).inputs
        )
        assert (full - expected).abs().max() > 1e-2


def test_a_window_that_is_switched_off_stays_off(save_model: Callable[..., str]) -> None:
    model = load_model(
        save_model("Qwen2", **SHAPE, use_sliding_window=False, sliding_window=4), torch.float32
    )
    assert model.config.sliding_window is None


REFUSED = [
    ("GPT2", {"vocab_size": 384, "n_embd": 32, "n_layer": 1, "n_head": 2}, "another layout"),
    ("Bloom", {"vocab_size": 384, "hidden_size": 32, "n_layer": 1, "n_head": 2}, "another layout"),
    (
        "OPT",
        {
            "vocab_size": 384,
            "hidden_size": 32,
            "ffn_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        "learned positions",
    ),
    ("Gemma2", SHAPE, "attn_logit_softcapping"),
    ("Gemma3Text", SHAPE | {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ("GptOss", SHAPE | {"num_local_experts": 2, "num_experts_per_tok": 1}, "attention sinks"),
    ("Llama4Text", SHAPE | {"num_local_experts": 2, "intermediate_size_mlp": 64}, "chunked_attention"),
    ("Cohere", SHAPE, "logit_scale"),
    ("Granite", SHAPE | {"logits_scaling": 8.0}, "logits_scaling"),
    ("Phi", SHAPE | {"num_key_value_heads": 4}, "output head with a bias"),
    ("Qwen2Moe", SHAPE | {"use_sliding_window": True, "num_experts": 2}, "only its attention mask"),
    ("Mamba", {"vocab_size": 384, "hidden_size": 32, "num_hidden_layers": 1}, "recurrent layers"),
    ("Gemma3", {"text_config": SHAPE, "vision_config": VISION, "mm_tokens_per_image": 4}, "later ones"),
]


@pytest.mark.parametrize(("name", "values", "feature"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_trained_exactly_is_refused_by_name(
    save_model: Callable[..., str], name: str, values: dict[str, Any], feature: str
) -> None:
    folder = save_model(name, **values)
    with pytest.raises(UserError, match=rf"policy\.path .*: the architecture '.*' has .*{feature}") as error:
        load_model(folder, torch.float32)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_positions_is_refused_before_its_tokenizer(
    save_model: Callable[..., str],
) -> None:
    folder = save_model("Bloom", **{"vocab_size": 384, "hidden_size": 32, "n_layer": 1, "n_head": 2})
    with pytest.raises(UserError, match="'bloom' states no max_position_embeddings"):
        PolicyProcessor.load(folder)
