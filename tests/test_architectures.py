import filecmp
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from tests.conftest import CORPUS, ModelBuilder
from vlrl.errors import UserError
from vlrl.policy.architectures import SIZES, init_model, named_sizes
from vlrl.policy.load import load_model
from vlrl.policy.tokenizer import train_tokenizer

PARTS = [{"type": "image"}, {"type": "text", "text": "What is 407?"}]


@pytest.mark.parametrize("architecture", ["qwen3_vl", "qwen2_5_vl", "idefics3"])
def test_image_changes_the_logits_and_text_parts_equal_a_string(
    build_model: ModelBuilder, architecture: str
) -> None:
    folder = build_model(architecture)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    messages = [{"role": "user", "content": PARTS}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    logits = []
    for colour in ((255, 0, 0), (0, 0, 255)):
        image = Image.new("RGB", (64, 64), colour)
        inputs = processor(text=[text], images=[image], return_tensors="pt")
        with torch.no_grad():
            logits.append(model(**inputs).logits[0, -1])
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    spelled = processor.apply_chat_template([{"role": "user", "content": "What is 407?"}], tokenize=False)
    listed = processor.apply_chat_template([{"role": "user", "content": PARTS[1:]}], tokenize=False)
    assert spelled == listed and "What is 407?" in spelled


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", SIZES)
def test_tied_and_untied_heads_are_whole_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, tied: bool
) -> None:
    """A tied head is in no file and yet not missing; an untied one that is in no file is."""
    monkeypatch.setitem(SIZES[architecture], "nano", SIZES[architecture]["nano"] | {"tie": tied})
    folder = init_model(tmp_path / "model", architecture, "nano", CORPUS, 0)
    weights = load_file(folder / "model.safetensors")
    assert (weights.pop("lm_head.weight", None) is None) == tied
    model = load_model(str(folder), torch.float32)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    if not tied:
        with pytest.raises(UserError, match=r"are not there: lm_head.weight; copy"):
            load_model(str(folder), torch.float32)


def test_a_64_pixel_image_is_16_tokens(build_model: ModelBuilder) -> None:
    for architecture in ("qwen3_vl", "qwen2_5_vl"):
        processor = AutoProcessor.from_pretrained(build_model(architecture, "tiny"))
        text = "<|vision_start|><|image_pad|><|vision_end|>"
        ids = processor(text=[text], images=[Image.new("RGB", (64, 64))])["input_ids"][0]
        assert list(ids).count(processor.image_token_id) == 16


def test_text_model_loads_and_has_no_image_tokens(build_model: ModelBuilder) -> None:
    folder = build_model("qwen3")
    tokenizer = AutoProcessor.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert "<|image_pad|>" not in tokenizer.get_vocab()
    assert model(torch.tensor([tokenizer("What is 407?")["input_ids"]])).logits.isfinite().all()


@pytest.mark.parametrize("architecture", list(SIZES))
def test_tokenizer(build_model: ModelBuilder, architecture: str) -> None:
    folder = build_model(architecture)
    processor = AutoProcessor.from_pretrained(folder)
    tokenizer = getattr(processor, "tokenizer", processor)
    config = json.loads((folder / "config.json").read_text())
    rows = config.get("text_config", config)["vocab_size"]
    assert len(tokenizer) == rows and rows % 64 == 0
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    assert len(tokenizer.tokenize("assistant")) == 1
    for text in ("naïve 日本 ∑x² \t\n  done", "<think>7+8</think>"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    # The generation prompt is a token prefix of the finished conversation, so both train alike.
    turns = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "The answer is 7."}]
    prompt = processor.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
    whole = processor.apply_chat_template(turns, tokenize=False)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole)]
    assert ids[1][: len(ids[0])] == ids[0]
    assert tokenizer.eos_token_id in ids[1][len(ids[0]) :]


def test_same_seed_same_bytes_other_seed_other_weights(tmp_path: Path) -> None:
    folders = [
        init_model(tmp_path / name, "qwen3_vl", "nano", CORPUS, seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    names = sorted(path.name for path in folders[0].iterdir())
    assert "model.safetensors" in names and "chat_template.jinja" in names
    assert filecmp.cmpfiles(folders[0], folders[1], names, shallow=False) == (names, [], [])
    assert not filecmp.cmp(folders[0] / "model.safetensors", folders[2] / "model.safetensors", shallow=False)


def test_idefics_splits_images(build_model: ModelBuilder) -> None:
    processor = AutoProcessor.from_pretrained(build_model("idefics3"))
    inputs = processor(text=["<image>"], images=[Image.new("RGB", (64, 32))], return_tensors="pt")
    assert inputs["pixel_values"].shape[1] == 3  # two tiles and the whole
    tokens = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert {"<row_1_col_1>", "<row_1_col_2>", "<global-img>"} <= set(tokens)


def test_unknown_names_list_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown architecture 'qwen4'.*qwen3_vl"):
        init_model(tmp_path, "qwen4", "nano", CORPUS, 0)
    with pytest.raises(UserError, match=r"unknown size 'huge' of qwen3.*0\.6b"):
        init_model(tmp_path, "qwen3", "huge", CORPUS, 0)
    with pytest.raises(UserError, match=r"vocab_size 100: .*multiple of 64 from 320"):
        init_model(tmp_path, "qwen3", "nano", CORPUS, 0, vocab_size=100)
    assert not list(tmp_path.iterdir())


def test_full_sizes_have_the_parameters_of_their_names() -> None:
    from vlrl.policy.architectures import _CONFIGS

    billions = {
        "qwen3_vl": {"2b": 2.13, "4b": 4.44, "8b": 8.77},
        "qwen2_5_vl": {"3b": 3.75, "7b": 8.29},
        "idefics3": {"256m": 0.256, "8b": 8.46},
        "qwen3": {"0.6b": 0.596, "1.7b": 1.72, "4b": 4.02},
    }
    for architecture, expected in billions.items():
        tokenizer = train_tokenizer(CORPUS, architecture, 384)
        auto = AutoModelForCausalLM if architecture == "qwen3" else AutoModelForImageTextToText
        full = {name for name, spec in SIZES[architecture].items() if spec["dtype"] == "bfloat16"}
        assert full == set(expected) <= set(named_sizes()[architecture])
        for name, count in expected.items():
            spec = SIZES[architecture][name]
            config = _CONFIGS[architecture](spec, tokenizer, spec["vocab"])
            with torch.device("meta"):
                model = auto.from_config(config)
            assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(count, rel=0.01), name


def test_saved_config_reads_back(build_model: ModelBuilder) -> None:
    config = AutoConfig.from_pretrained(build_model("qwen3_vl", "tiny"))
    section = config.text_config.rope_parameters["mrope_section"]
    assert sum(section) == config.text_config.head_dim // 2
