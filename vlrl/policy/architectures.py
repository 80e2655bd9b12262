"""Random-weight checkpoints of real architectures, small ones for tests and full-size ones.

`init_model` writes a Hugging Face folder (weights, configs, tokenizer, processor, chat template) that
`from_pretrained` loads and vLLM serves. Sizes are plain data. Full sizes carry the dimensions and the
image processor of the checkpoint they are named after, as published in its `config.json`.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlrl.errors import UserError, writing
from vlrl.policy.tokenizer import train_tokenizer
from vlrl.runs.files import disk_errors

Size = dict[str, Any]

HEAD_DIM = 32  # the smallest that vLLM's CPU attention takes


def _text(hidden: int, layers: int, mlp: int, heads: int, kv_heads: int, **more: Any) -> Size:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 8192,
    } | more


def _vision(hidden: int, depth: int, mlp: int, heads: int, **more: Any) -> Size:
    return {"hidden_size": hidden, "depth": depth, "intermediate_size": mlp, "num_heads": heads} | more


_REAL = {"vocab": 151_936, "init": 0.02, "dtype": "bfloat16", "tie": True}

# `image_tokens`: the fewest and the most an image is scaled to; from 1, small drawings stay small.
# Initialisation is wider than the customary 0.02 in narrow models, so that logits depend on the input
# from the start (1/sqrt(192) is 0.07).
_SMALL = {"dtype": "float32", "tie": True, "patch": 8, "image_tokens": (1, 1024)}
_NANO = _SMALL | {"vocab": 384, "init": 0.1, "text": _text(64, 2, 128, 2, 1)}
_MICRO = _SMALL | {"vocab": 512, "init": 0.06, "text": _text(128, 4, 384, 4, 2)}
_TINY = _SMALL | {"vocab": 512, "init": 0.05, "text": _text(192, 4, 384, 6, 2)}
_SMALL_ONE = _SMALL | {"vocab": 2048, "init": 0.04, "text": _text(384, 8, 1024, 12, 4)}

_QWEN3_VISION_4B = _vision(
    1024, 24, 4096, 16, deepstack_visual_indexes=[5, 11, 17], num_position_embeddings=2304
)
_QWEN25_VISION = _vision(1280, 32, 3420, 16, window_size=112, fullatt_block_indexes=[7, 15, 23, 31])
_REAL_VL = _REAL | {"patch": 16, "image_tokens": (64, 16_384)}
_LONG = {"head_dim": 128, "max_position_embeddings": 262_144}

SIZES: dict[str, dict[str, Size]] = {
    "qwen3_vl": {
        "nano": _NANO
        | {"vision": _vision(64, 2, 128, 2, deepstack_visual_indexes=[0], num_position_embeddings=64)},
        "micro": _MICRO
        | {"vision": _vision(64, 2, 128, 2, deepstack_visual_indexes=[0], num_position_embeddings=64)},
        "tiny": _TINY
        | {"vision": _vision(128, 2, 256, 4, deepstack_visual_indexes=[0], num_position_embeddings=256)},
        "small": _SMALL_ONE
        | {"vision": _vision(256, 4, 512, 8, deepstack_visual_indexes=[0, 2], num_position_embeddings=1024)},
        "2b": _REAL_VL | {"text": _text(2048, 28, 6144, 16, 8, **_LONG), "vision": _QWEN3_VISION_4B},
        "4b": _REAL_VL | {"text": _text(2560, 36, 9728, 32, 8, **_LONG), "vision": _QWEN3_VISION_4B},
        "8b": _REAL_VL
        | {
            "tie": False,
            "text": _text(4096, 36, 12_288, 32, 8, **_LONG),
            "vision": _vision(
                1152, 27, 4304, 16, deepstack_visual_indexes=[8, 16, 24], num_position_embeddings=2304
            ),
        },
    },
    "qwen2_5_vl": {
        # Untied as the 7B is, so that the tests see both kinds of head.
        "nano": _NANO
        | {"tie": False, "vision": _vision(64, 2, 128, 2, window_size=64, fullatt_block_indexes=[1])},
        "tiny": _TINY | {"vision": _vision(128, 2, 256, 4, window_size=64, fullatt_block_indexes=[1])},
        "small": _SMALL_ONE
        | {"vision": _vision(256, 4, 512, 8, window_size=64, fullatt_block_indexes=[1, 3])},
        "3b": _REAL
        | {
            "patch": 14,
            "image_tokens": (4, 16_384),
            "text": _text(2048, 36, 11_008, 16, 2, head_dim=128, max_position_embeddings=128_000),
            "vision": _QWEN25_VISION,
        },
        "7b": _REAL
        | {
            "vocab": 152_064,
            "tie": False,
            "patch": 14,
            "image_tokens": (4, 16_384),
            "text": _text(3584, 28, 18_944, 28, 4, head_dim=128, max_position_embeddings=128_000),
            "vision": _QWEN25_VISION,
        },
    },
    # `tile` is the side of the square the vision tower sees, `edge` what the longest side is scaled to.
    "idefics3": {
        "nano": _NANO | {"vision": _vision(64, 2, 128, 2), "tile": 32, "edge": 64, "shuffle": 2},
        "tiny": _TINY | {"vision": _vision(128, 2, 256, 4), "tile": 64, "edge": 128, "shuffle": 2},
        "small": _SMALL_ONE | {"vision": _vision(256, 4, 512, 8), "tile": 128, "edge": 256, "shuffle": 4},
        # SmolVLM-256M-Instruct
        "256m": _REAL
        | {
            "vocab": 49_280,
            "tie": False,
            "patch": 16,
            "text": _text(576, 30, 1536, 9, 3, head_dim=64, rope_theta=100_000.0),
            "vision": _vision(768, 12, 3072, 12),
            "tile": 512,
            "edge": 2048,
            "shuffle": 4,
        },
        # Idefics3-8B-Llama3
        "8b": _REAL
        | {
            "vocab": 128_320,
            "tie": False,
            "patch": 14,
            "text": _text(
                4096, 32, 14_336, 32, 8, head_dim=128, max_position_embeddings=10_240, rope_theta=500_000.0
            ),
            "vision": _vision(1152, 27, 4304, 16),
            "tile": 364,
            "edge": 1456,
            "shuffle": 2,
        },
    },
    "qwen3": {
        "nano": _NANO,
        "tiny": _TINY,
        "small": _SMALL_ONE,
        "0.6b": _REAL | {"text": _text(1024, 28, 3072, 16, 8, head_dim=128, max_position_embeddings=40_960)},
        "1.7b": _REAL | {"text": _text(2048, 28, 6144, 16, 8, head_dim=128, max_position_embeddings=40_960)},
        "4b": _REAL | {"text": _text(2560, 36, 9728, 32, 8, head_dim=128, max_position_embeddings=40_960)},
    },
}


def named_sizes() -> dict[str, list[str]]:
    """The valid size names of each architecture, smallest first."""
    return {architecture: list(sizes) for architecture, sizes in SIZES.items()}


def init_model(
    out_dir: str | Path,
    architecture: str,
    size: str,
    corpus: Iterable[str],
    seed: int,
    vocab_size: int | None = None,
) -> Path:
    """Write a random-weight checkpoint folder and return its path.

    The same arguments give the same bytes. `vocab_size` (a multiple of 64) bounds the tokenizer trained
    on `corpus` and the embedding; unset, the size's own applies. Weights are float32 in the small sizes,
    bfloat16 in the full ones.

    Raises:
        UserError: unknown architecture or size, a vocabulary that cannot be, or a folder that cannot be
            written; nothing is left there then.
    """
    spec = _find(architecture, size)
    config, processor = make_parts(architecture, size, corpus, vocab_size)
    out_dir = Path(out_dir)
    with _new_folder(out_dir) as scratch:
        _random_model(config, processor, spec["dtype"], seed).save_pretrained(scratch)
        processor.save_pretrained(scratch)
    return out_dir


def _random_model(config: Any, processor: Any, dtype: str, seed: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig

    sees = processor is not getattr(processor, "tokenizer", processor)
    tokenizer = processor.tokenizer if sees else processor
    auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto_class.from_config(config, dtype=getattr(torch, dtype))
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a scratch folder; on success what it holds is at `out`, which may exist if it is empty."""
    place = out.resolve()
    exists = place.is_dir()  # it stays itself: a shell may stand in it, or a disk be mounted there
    scratch = (place if exists else place.parent) / f".{place.name}.tmp"
    with writing(out), disk_errors(place, "free space and run the command again"):
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(parents=True)
            yield scratch
            if exists:
                for path in scratch.iterdir():
                    path.rename(place / path.name)
            else:
                scratch.rename(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def make_parts(
    architecture: str, size: str, corpus: Iterable[str], vocab_size: int | None = None
) -> tuple[Any, Any]:
    """What `init_model` writes beside the weights: transformers' config and processor (a text model's is its
    tokenizer).

    Raises:
        UserError: unknown architecture or size, or a vocabulary that cannot be.
    """
    spec = _find(architecture, size)
    limit = vocab_size or spec["vocab"]
    # A corpus seldom fills a real vocabulary; training stops where nothing repeats any more.
    tokenizer = train_tokenizer(corpus, architecture, limit)
    rows = limit if spec["dtype"] == "bfloat16" else len(tokenizer)
    config = _CONFIGS[architecture](spec, tokenizer, rows)
    return config, _processor(architecture, spec, tokenizer)


def _find(architecture: str, size: str) -> Size:
    if architecture not in SIZES:
        raise UserError(f"unknown architecture '{architecture}'; valid names: {', '.join(SIZES)}")
    if size not in SIZES[architecture]:
        valid = ", ".join(SIZES[architecture])
        raise UserError(f"unknown size '{size}' of {architecture}; valid names: {valid}")
    return SIZES[architecture][size]


def _mrope_section(head_dim: int, shares: tuple[int, int, int]) -> list[int]:
    """Rotary frequencies of time, height and width: `shares` of 64, scaled to `head_dim` / 2."""
    height, width = (head_dim // 2 * share // 64 for share in shares[1:])
    return [head_dim // 2 - height - width, height, width]


def _qwen3_config(spec: Size, tokenizer: Any, rows: int) -> Any:
    from transformers import Qwen3Config

    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    return Qwen3Config(
        **spec["text"],
        vocab_size=rows,
        initializer_range=spec["init"],
        rope_parameters=rope,
        tie_word_embeddings=spec["tie"],
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _qwen3_vl_config(spec: Size, tokenizer: Any, rows: int) -> Any:
    from transformers import Qwen3VLConfig

    rope = {
        "rope_type": "default",
        "rope_theta": 5_000_000.0,
        "mrope_section": _mrope_section(spec["text"]["head_dim"], (24, 20, 20)),
        "mrope_interleaved": True,
    }
    return Qwen3VLConfig(**_qwen_vl_parts(spec, tokenizer, rows, rope))


def _qwen2_5_vl_config(spec: Size, tokenizer: Any, rows: int) -> Any:
    from transformers import Qwen2_5_VLConfig

    rope = {
        "rope_type": "default",
        "rope_theta": 1_000_000.0,
        "mrope_section": _mrope_section(spec["text"]["head_dim"], (16, 24, 24)),
    }
    parts = _qwen_vl_parts(spec, tokenizer, rows, rope)
    parts["text_config"].pop("head_dim")  # always hidden size / heads here
    return Qwen2_5_VLConfig(**parts)


def _qwen_vl_parts(spec: Size, tokenizer: Any, rows: int, rope: dict[str, Any]) -> dict[str, Any]:
    text = spec["text"] | {
        "vocab_size": rows,
        "initializer_range": spec["init"],
        "rope_parameters": rope,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": spec["tie"],
    }
    vision = spec["vision"] | {
        "patch_size": spec["patch"],
        "out_hidden_size": spec["text"]["hidden_size"],
        "initializer_range": spec["init"],
    }
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    image, video, start, end = (tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names)
    return {
        "text_config": text,
        "vision_config": vision,
        "image_token_id": image,
        "video_token_id": video,
        "vision_start_token_id": start,
        "vision_end_token_id": end,
        "tie_word_embeddings": spec["tie"],
    }


def _idefics3_config(spec: Size, tokenizer: Any, rows: int) -> Any:
    from transformers import Idefics3Config

    text = dict(spec["text"])
    rope = {"rope_type": "default", "rope_theta": text.pop("rope_theta", 10_000.0)}
    shared = {"tie_word_embeddings": spec["tie"], "pad_token_id": tokenizer.pad_token_id}
    vision = spec["vision"]
    return Idefics3Config(
        text_config=text
        | shared
        | {
            "model_type": "llama",
            "vocab_size": rows,
            "initializer_range": spec["init"],
            "rope_parameters": rope,
            "bos_token_id": tokenizer.convert_tokens_to_ids("<|begin_of_text|>"),
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": vision["hidden_size"],
            "num_hidden_layers": vision["depth"],
            "intermediate_size": vision["intermediate_size"],
            "num_attention_heads": vision["num_heads"],
            "patch_size": spec["patch"],
            "image_size": spec["tile"],
            "initializer_range": spec["init"],
        },
        scale_factor=spec["shuffle"],
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        **shared,
    )


def _processor(architecture: str, spec: Size, tokenizer: Any) -> Any:
    """The family's processor; a text model's is its tokenizer."""
    if architecture == "qwen3":
        return tokenizer
    if architecture == "idefics3":
        return _idefics3_processor(spec, tokenizer)
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    merged = 2 * spec["patch"]
    fewest, most = spec["image_tokens"]
    bounds = {"shortest_edge": fewest * merged**2, "longest_edge": most * merged**2}
    shared = {"patch_size": spec["patch"], "merge_size": 2, "temporal_patch_size": 2, "size": bounds}
    if architecture == "qwen2_5_vl":
        images, videos = Qwen2VLImageProcessor(**shared), Qwen2VLVideoProcessor(**shared)
        return Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    images, videos = Qwen2VLImageProcessor(**shared, **half), Qwen3VLVideoProcessor(**shared, **half)
    return Qwen3VLProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)


def _idefics3_processor(spec: Size, tokenizer: Any) -> Any:
    from transformers import Idefics3ImageProcessor, Idefics3Processor

    images = Idefics3ImageProcessor(
        size={"longest_edge": spec["edge"]}, max_image_size={"longest_edge": spec["tile"]}
    )
    side = spec["tile"] // spec["patch"] // spec["shuffle"]
    return Idefics3Processor(images, tokenizer, image_seq_len=side**2, chat_template=tokenizer.chat_template)


_CONFIGS = {
    "qwen3_vl": _qwen3_vl_config,
    "qwen2_5_vl": _qwen2_5_vl_config,
    "idefics3": _idefics3_config,
    "qwen3": _qwen3_config,
}
