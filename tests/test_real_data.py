"""Real problems with their real images through vLLM and DeepSpeed; the weights are thrown away."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml

from vlrl.cli import main

SHARED = Path(__file__).parents[2] / "shared" / "data"


def train(tmp_path: Path, rows: Path, **changes: dict) -> Path:
    if not rows.is_file():
        pytest.skip(f"the benchmark files are not here: {rows}")
    config = {
        "name": "real",
        "policy": {"init": {"architecture": "qwen3_vl", "size": "nano"}, "max_pixels": 65536},
        "data": {"train": [{"path": str(rows)}], "answer_instruction": "Put the answer in \\boxed{}."},
        "rl": {
            "steps": 5,
            "prompts_per_step": 61,
            "rollouts_per_prompt": 2,
            "max_prompt_tokens": 3000,
            "max_response_tokens": 32,
            "optimizer": {"lr": 1e-4},
        },
        "objective": {"name": "cispo", "drop_zero_variance": False},
        "trainer": {"dtype": "float32", "tokens_per_micro_batch": 8192, "threads": 2},
        "checkpoint": {"every": 5, "keep": 1},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config | changes))
    with watch_memory(tmp_path / "real" / "rl") as held:
        assert main(["train", str(path), f"runs_dir={tmp_path}"]) == 0
    # Memory flat, the engine's processes included: from the second step to the last it grows by the
    # allocators' slack at most. Peaks of a step: what is held between two is less.
    peaks = {step: max(sizes) for step, sizes in held.items() if sizes}
    assert {2, 4} <= set(peaks) and peaks[4] - peaks[2] < 300e6, peaks
    return tmp_path / "real" / "rl"


@contextmanager
def watch_memory(stage: Path) -> Iterator[dict[int, list[int]]]:
    """Bytes held by this process and all below it, sampled while the step after each logged one goes on."""
    held: dict[int, list[int]] = defaultdict(list)
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            path = stage / "metrics.jsonl"
            step = path.read_bytes().count(b"\n") if path.exists() else 0
            held[step].append(_tree_bytes())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        done.set()
        thread.join()


def _tree_bytes() -> int:
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_sound(stage: Path, prompts: int) -> None:
    import pyarrow.parquet as parquet

    metrics = lines(stage / "metrics.jsonl")
    assert [m["step"] for m in metrics] == [1, 2, 3, 4, 5]
    assert all(m["error_rate"] == 0.0 and m["mismatch_abs_max"] < 1e-4 for m in metrics)
    tables = [parquet.read_table(p).to_pylist() for p in sorted((stage / "rollouts").glob("*.parquet"))]
    assert len({row["prompt_id"] for table in tables for row in table}) == prompts
    # Memory flat: the last step holds no more than the second, but for the allocator's slack.
    held = [t["rss_gb"] for t in lines(stage / "timings.jsonl")]
    assert held[-1] < held[1] * 1.1 + 0.1, held


@pytest.mark.slow
@pytest.mark.vllm
def test_five_steps_over_mathvision_with_its_images(tmp_path: Path) -> None:
    stage = train(tmp_path, SHARED / "mathvision" / "testmini.jsonl")
    assert_sound(stage, prompts=304)


@pytest.mark.slow
@pytest.mark.vllm
def test_five_steps_over_math_500_as_text(tmp_path: Path) -> None:
    rows = SHARED / "math500" / "test.jsonl"
    stage = train(tmp_path, rows, policy={"init": {"architecture": "qwen3", "size": "nano"}})
    assert_sound(stage, prompts=305)
