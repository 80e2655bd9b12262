"""A whole run on two training ranks, as a launcher starts it, beside the same run on one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.ranks import end_ranks, run_ranks
from vlrl.runs.checkpoints import latest_checkpoint
from vlrl.runs.directory import RunDirectory
from vlrl.runs.files import read_json
from vlrl.runs.metrics import read_metrics

CONFIG = """
name: two_ranks
stages: [sft, rl]
policy: {init: {architecture: qwen3_vl, size: nano}}
data:
  # Rows with images and rows without, so that some micro-batches have none.
  warmup: [{recipe: charts, rows: 10}, {recipe: text_arithmetic, rows: 40}]
  train: [{recipe: charts, rows: 8}, {recipe: text_arithmetic, rows: 8}]
sft: {steps: 3, conversations_per_step: 8, max_tokens: 256, optimizer: {lr: 1.0e-2}}
rl: {steps: 2, prompts_per_step: 4, rollouts_per_prompt: 2, max_prompt_tokens: 64, max_response_tokens: 24}
sampling: {engine: transformers}
trainer: {dtype: float32, tokens_per_micro_batch: 256, threads: 1}
checkpoint: {every: 1}
"""


def _run(folder: Path, world: int, zero_stage: int) -> tuple[RunDirectory, dict[str, torch.Tensor]]:
    config, run = folder / "config.yaml", folder / f"{world}"
    config.write_text(CONFIG)
    command = ["vlrl.cli", "train", str(config), "--run-dir", str(run), f"trainer.zero_stage={zero_stage}"]
    run_ranks(world, *command, timeout=240)
    directory = RunDirectory.open(run)
    checkpoint = latest_checkpoint(directory.stage("sft").checkpoints)
    assert checkpoint is not None
    whole = read_json(directory.stage("sft").seconds)["seconds"]
    assert whole > read_json(checkpoint.path / "state.json")["seconds"]
    assert read_json(directory.report_json)["seconds"]["sft"] == round(whole, 1)
    return directory, load_file(checkpoint.path / "policy" / "model.safetensors")


def _metrics(run: RunDirectory, stage: Any) -> list[dict[str, Any]]:
    return list(read_metrics(run.stage(stage).metrics))


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_two_ranks_train_what_one_trains(tmp_path: Path, zero_stage: int) -> None:
    (one, expected), (two, found) = (_run(tmp_path, world, zero_stage) for world in (1, 2))
    assert two.state() == "finished"
    for mine, theirs in zip(_metrics(two, "sft"), _metrics(one, "sft"), strict=True):
        for name in ("loss", "grad_norm", "lr", "tokens"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4), (mine["step"], name)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-4)
    rl = _metrics(two, "rl")
    assert [line["step"] for line in rl] == [1, 2]
    for mine, theirs in zip(rl, _metrics(one, "rl"), strict=True):
        assert mine["response_tokens"] == theirs["response_tokens"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.train": "[{path: /nowhere/rows.jsonl}]"}, "vlrl: /nowhere/rows.jsonl"),
        ({"rl.max_prompt_tokens": "2"}, "over rl.max_prompt_tokens = 2"),
        ({"rl.stepz": "3"}, "unknown key 'rl.stepz'"),
    ],
)
def test_a_mistake_is_said_once_by_the_main_rank(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    overrides = [f"{key}={value}" for key, value in changes.items()]
    command = ["vlrl.cli", "train", str(config), "--run-dir", str(tmp_path / "run"), *overrides]
    ended = end_ranks(2, *command, timeout=120)
    assert [code for code, _ in ended] == [2, 2], ended
    main, other = (output for _, output in ended)
    assert said in main.splitlines()[-1] and "Traceback" not in main
    assert "vlrl:" not in other and "Traceback" not in other
    assert not (tmp_path / "run").exists()


def test_what_one_rank_alone_comes_upon_ends_all_and_the_main_one_says_it() -> None:
    (main_code, main), (other_code, other) = end_ranks(2, "tests.mistaken_rank", timeout=60)
    assert (main_code, other_code) == (2, 2)
    assert main.splitlines()[-1] == "vlrl: its model folder is missing"
    assert "vlrl:" not in other and "Traceback" not in main + other
