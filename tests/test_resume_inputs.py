"""What a resumed run must find unchanged, and what a failure at the wrong moment must not cost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ModelBuilder
from vlrl.config import load_config
from vlrl.errors import UserError
from vlrl.launch import launch
from vlrl.runs.checkpoints import latest_checkpoint
from vlrl.runs.directory import RunDirectory
from vlrl.runs.validation_files import HELD_OUT, is_measured
from vlrl.training.session import Session

CONFIG = """
name: inputs
stages: {stages}
policy: {{path: {folder}/model}}
data:
  warmup: [{{path: {folder}/traces.jsonl}}]
  train: [{{path: {folder}/problems.jsonl}}]
  validation: [{{path: {folder}/held_out.jsonl}}]
sft: {{steps: 2, conversations_per_step: 2, max_tokens: 128}}
rl: {{steps: 1, prompts_per_step: 2, rollouts_per_prompt: 2, max_prompt_tokens: 64, max_response_tokens: 8}}
sampling: {{engine: transformers}}
trainer: {{dtype: float32, zero_stage: 0, tokens_per_micro_batch: 256, threads: 1}}
validation: {{samples_per_prompt: 1, blank_images: true}}
"""


@pytest.fixture
def folder(tmp_path: Path, build_model: ModelBuilder) -> Path:
    shutil.copytree(build_model("qwen3_vl"), tmp_path / "model")
    Image.new("RGB", (40, 24), "white").save(tmp_path / "a.png")
    problems = [{"image": "a.png", "question": f"What is {i}?", "answer": str(i)} for i in range(4)]
    _write(tmp_path / "problems.jsonl", problems)
    _write(tmp_path / "held_out.jsonl", problems[:2])
    turns = [{"role": "user", "content": "What is 1?"}, {"role": "assistant", "content": "\\boxed{1}"}]
    _write(tmp_path / "traces.jsonl", [{"messages": turns}] * 3)
    return tmp_path


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _train(folder: Path, *overrides: str, resume: bool = False, stages: str = "[rl]") -> RunDirectory:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder, stages=stages))
    config = load_config(path, list(overrides))
    launch(config, folder / "run", resume=resume, materialise=_no_recipes, command=["test"])
    return RunDirectory.open(folder / "run")


def _no_recipes(*_: Any) -> None:
    raise AssertionError("these configs name no recipe")


def _change_row(folder: Path) -> None:
    path = folder / "problems.jsonl"
    path.write_text(path.read_text().replace('"answer": "3"', '"answer": "4"'))


def _change_image(folder: Path) -> None:
    Image.new("RGB", (40, 24), "black").save(folder / "a.png")


def _change_weights(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "named"),
    [(_change_row, "problems.jsonl"), (_change_image, "problems.jsonl"), (_change_weights, "model")],
)
def test_a_changed_input_is_refused_by_name(folder: Path, change: Callable[[Path], None], named: str) -> None:
    before = shutil.copytree(folder, folder.parent / f"{folder.name}_before")
    run = _train(folder)
    change(folder)
    with pytest.raises(UserError, match=rf"({named}).* changed since .*run began"):
        _train(folder, "rl.steps=2", resume=True)
    assert run.state() == "failed"
    shutil.copytree(before, folder, dirs_exist_ok=True)
    assert _train(folder, "rl.steps=2", resume=True).state() == "finished"


def test_a_moved_row_file_is_the_same_input(folder: Path) -> None:
    """Digests are of content: rewriting a file with the same rows changes nothing."""
    _train(folder)
    path = folder / "problems.jsonl"
    _write(path, [json.loads(line) | {} for line in path.read_text().splitlines()])
    assert _train(folder, "rl.steps=2", resume=True).state() == "finished"


def test_bad_validation_rows_are_found_before_a_warm_up_alone(folder: Path) -> None:
    _write(folder / "held_out.jsonl", [{"image": "missing.png", "question": "What?", "answer": "1"}])
    with pytest.raises(UserError, match=r"held_out\.jsonl row 1"):
        _train(folder, stages="[sft]")
    assert not (folder / "run").exists()


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_a_validation_that_fails_costs_no_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stage: Any
) -> None:
    measure = Session._measure

    def fail(session: Session, part: Any, step: int, *arguments: Any) -> None:
        if step == part.steps:
            raise UserError("the graders fell asleep")
        measure(session, part, step, *arguments)

    monkeypatch.setattr(Session, "_measure", fail)
    with pytest.raises(UserError, match="asleep"):
        _train(folder, stages=f"[{stage}]")
    run = RunDirectory.open(folder / "run")
    directory = run.stage(stage)
    checkpoint = latest_checkpoint(directory.checkpoints)
    assert checkpoint is not None and not is_measured(directory, checkpoint.step, HELD_OUT)
    metrics = directory.metrics.read_bytes()

    monkeypatch.setattr(Session, "_measure", measure)
    assert _train(folder, stages=f"[{stage}]", resume=True).state() == "finished"
    assert is_measured(directory, checkpoint.step, HELD_OUT) and directory.metrics.read_bytes() == metrics
    report = json.loads(run.report_json.read_text())
    assert f"{stage}_accuracy" in report and ("blank_image_accuracy" in report) == (stage == "rl")


def test_a_sampler_that_does_not_close_leaves_no_grader_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlrl.rewards.grader import Grader
    from vlrl.sampling.transformers_sampler import TransformersSampler

    closed = []
    monkeypatch.setattr(Grader, "close", lambda self: closed.append("grader"))

    def refuse(self: TransformersSampler) -> None:
        raise OSError("will not")

    monkeypatch.setattr(TransformersSampler, "close", refuse)
    with pytest.raises(OSError, match="will not"):
        _train(folder)
    assert closed == ["grader"]


def test_a_missing_engine_is_found_before_a_warm_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs vLLM"):
        _train(folder, "sampling.engine=vllm", stages="[sft, rl]")
    assert not (folder / "run").exists()


@pytest.mark.parametrize("name", ["problems", "held_out"])
def test_vllm_is_started_for_the_row_with_the_most_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It refuses a prompt with more than it was started for, in the middle of a step."""
    from vlrl.sampling import vllm_start

    limits = []

    def start(start: vllm_start.EngineStart, *_: object) -> None:
        limits.append(vllm_start.engine_arguments(start, takes_images=True)["limit_mm_per_prompt"])
        raise UserError("no further")

    monkeypatch.setattr("vlrl.training.session.check_installed", lambda engine: None)
    monkeypatch.setattr("vlrl.sampling.build.check_installed", lambda engine: None)
    monkeypatch.setattr("vlrl.sampling.vllm_sampler.VllmSampler", start)
    overrides = ["sampling.engine=vllm", "rl.max_prompt_tokens=700", "trainer.tokens_per_micro_batch=1024"]
    path = folder / f"{name}.jsonl"
    few = path.read_text()
    for images in (1, 65):
        row = {"images": ["a.png"] * images, "question": "Which?", "answer": "1"}
        path.write_text(few + json.dumps(row) + "\n")
        with pytest.raises(UserError, match="no further"):
            _train(folder, *overrides)
    assert limits == [{"image": 64, "video": 0}, {"image": 65, "video": 0}]
