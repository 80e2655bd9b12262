"""The GPU benchmarks run, in their tiny form: a GPU is seldom at hand to find out."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlrl.images import ImageRef
from vlrl.policy.packing import TrainDocument, pack

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "gpu"


def _run(script: str, monkeypatch: pytest.MonkeyPatch, *options: str, name: str = "__main__") -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [script, "--tiny", *options])
    return runpy.run_path(str(SCRIPTS / script), run_name=name)


def test_a_step_is_the_same_with_prompts_shared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("step.py", monkeypatch, "--repeats", "1")
    printed = capsys.readouterr().out
    assert "unshared" in printed and "out of memory" not in printed
    losses = printed.rpartition("loss unshared ")[2].split(", shared ")
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-3)


def test_the_longest_document_is_searched_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("longest.py", monkeypatch)
    assert "longest that fits: 512 tokens, the most that was tried" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [0, 15, 16, 31, 40, 47, 48, 63, 64, 100, 1000])
def test_the_search_ends_within_a_grain_of_the_limit(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    longest = _run("longest.py", monkeypatch, name="longest")["longest"]
    tried: list[int] = []

    def fits(tokens: int) -> bool:
        tried.append(tokens)
        return tokens <= limit

    found = longest(fits, 16, 100, 8)
    assert found <= limit and len(tried) == len(set(tried)) and max(tried) <= 100
    if limit < 16:
        assert found == 0 and tried == [16]
    else:
        assert found in tried and min(limit, 100) - found < 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch counts no attention on CPU, but does on GPUs")
def test_flops_of_a_step_are_those_that_torch_counts(
    monkeypatch: pytest.MonkeyPatch, draw_image: Callable[..., ImageRef]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import workbench

    policy, processor, _ = workbench.build_policy("nano", "sdpa", False)
    image = draw_image(1, 64, 32)
    prompt = processor.encode([{"role": "user", "content": "<image>?"}], [image]).expanded_ids
    ids = prompt + workbench.text_ids(processor)[:200]
    # One scored token: the head's logits, which the backward pass computes again, weigh little.
    document = TrainDocument(ids, [image], [0] * (len(ids) - 1) + [1])
    batch = pack([document], [0], policy, processor, workbench.DEVICE)
    with FlopCounterMode(display=False) as counter:
        policy(batch.inputs)[0].sum().backward()
    text, vision = policy.model.config.text_config, policy.model.config.vision_config
    pairs, patches = len(ids) * (len(ids) + 1) // 2, int(batch.inputs.images[0]["image_grid_thw"].prod())
    attention = text.num_hidden_layers * text.num_attention_heads * text.head_dim * pairs
    attention += vision.depth * vision.hidden_size * patches**2
    counted = workbench.model_flops(policy, batch.inputs) - 3 * 4 * attention
    assert counter.get_total_flops() == pytest.approx(counted, rel=1e-3)
