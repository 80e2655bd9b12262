"""Every recipe runs: the published method on a tiny model, two steps through vLLM and DeepSpeed."""

import json
from pathlib import Path

import pytest

from vlrl.cli import main
from vlrl.config import load_config

ROOT = Path(__file__).parents[1]
TINY = sorted(p for p in (ROOT / "configs" / "tiny").glob("*.yaml") if p.stem != "base")


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.parametrize("recipe", TINY, ids=lambda p: p.stem)
def test_a_tiny_recipe_runs(recipe: Path, tmp_path: Path) -> None:
    # Random weights answer nothing: groups are all wrong, and steps are taken only if they are kept.
    overrides = ["rl.steps=2", "sampling.kv_cache_gb=0.25", "objective.drop_zero_variance=false"]
    assert main(["train", str(recipe), "--run-dir", str(tmp_path / "run"), *overrides]) == 0
    lines = (tmp_path / "run" / "rl" / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert [m["step"] for m in metrics] == [1, 2]
    rl = load_config(recipe).rl
    assert all(m["lag"] <= rl.max_lag + (16 if rl.partial else 0) for m in metrics)
    if rl.max_lag == 0 and rl.partial is None:  # every token was sampled by the weights that learn from it
        assert all(m["mismatch_abs_mean"] < 1e-4 for m in metrics)
    if rl.interruption is not None:
        assert metrics[0]["interrupted_rate"] > 0.5  # a random policy does not close its thinking
