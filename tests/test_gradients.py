"""One global batch, split in every way there is: the engine must take the same step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ModelBuilder
from tests.engine_worker import OBJECTIVES, SPLITS
from tests.ranks import run_ranks
from vlrl.images import ImageRef
from vlrl.policy.load import load_model

Weights = dict[str, torch.Tensor]
WORLDS = (1, 2)


@pytest.fixture(scope="module")
def measured(
    build_model: ModelBuilder, draw_image: Callable[..., ImageRef], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, Any]]:
    """What `engine_worker` measured, by world size."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "checkpoint").symlink_to(build_model("qwen3_vl"))
    for index in range(3):
        (folder / f"{index}.png").symlink_to(draw_image(index, 32 + 16 * index, 48).path)
    for world in WORLDS:
        run_ranks(world, "tests.engine_worker", str(folder / "checkpoint"), str(folder / f"{world}.pt"))
    return {world: torch.load(folder / f"{world}.pt") for world in WORLDS}


def _gap(found: Weights, expected: Weights) -> float:
    """Norm of the difference relative to the norm."""
    assert found.keys() == expected.keys()
    norm = sum(float(w.double().square().sum()) for w in expected.values())
    gap = sum(float((found[n].double() - w.double()).square().sum()) for n, w in expected.items())
    assert norm > 0
    return (gap / norm) ** 0.5


def _equal(found: Weights, expected: Weights) -> bool:
    return all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_and_statistics_of_any_split_are_equal(
    measured: dict[int, dict[str, Any]], objective: str
) -> None:
    expected, expected_stats = measured[1]["gradients"][f"{objective}, 1"]
    for world in WORLDS:
        for split in SPLITS:
            found, stats = measured[world]["gradients"][f"{objective}, {split}"]
            assert _gap(found, expected) < 1e-5, (world, split)
            assert stats == pytest.approx(expected_stats, rel=1e-5, abs=1e-7), (world, split)


def test_objectives_differ(measured: dict[int, dict[str, Any]]) -> None:
    """Else the equality above could be that of gradients which no setting reaches."""
    whole = [measured[1]["gradients"][f"{name}, 1"][0] for name in OBJECTIVES]
    for i, one in enumerate(whole):
        assert all(_gap(one, other) > 0.01 for other in whole[:i])


def test_grad_norm_is_that_of_the_whole_gradient_before_clipping(
    measured: dict[int, dict[str, Any]],
) -> None:
    gradient = measured[1]["gradients"]["cispo prompt, 1"][0]
    norm = sum(float(g.double().square().sum()) for g in gradient.values()) ** 0.5
    for world in WORLDS:
        for name, (_, norms) in measured[world]["updates"].items():
            assert norms[0] == pytest.approx(norm, rel=1e-5), (world, name)


def test_zero_stages_and_ranks_update_weights_alike(measured: dict[int, dict[str, Any]]) -> None:
    """Two clipped steps of AdamW. Weights are fp32, so their changes are known to about 1e-5."""
    expected, _ = measured[1]["updates"]["stage 0, 1"]
    for world in WORLDS:
        for name, (update, _) in measured[world]["updates"].items():
            assert _gap(update, expected) < 3e-5, (world, name)


def test_a_reset_forgets_moments_and_step_counts(measured: dict[int, dict[str, Any]]) -> None:
    for world in WORLDS:
        for name, (kept, reset, fresh) in measured[world]["resets"].items():
            assert _equal(reset, fresh), (world, name)
            assert not _equal(kept, fresh), (world, name)


def test_a_restored_engine_goes_on_bit_for_bit(measured: dict[int, dict[str, Any]]) -> None:
    for world in WORLDS:
        for name, (straight, resumed) in measured[world]["restores"].items():
            assert _equal(resumed, straight), (world, name)


def test_logprobs_are_gathered_whole_whatever_the_split(measured: dict[int, dict[str, Any]]) -> None:
    def flat(values: list[list[float]]) -> torch.Tensor:
        return torch.tensor([v for document in values for v in document])

    expected = flat(measured[1]["logprobs"]["0 float32 1"])
    for world in WORLDS:
        for name, values in measured[world]["logprobs"].items():
            found = flat(values)
            if "float32" in name:
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            else:
                assert 0 < (found - expected).abs().mean() < 0.03, (world, name)


def test_bf16_and_recomputation_take_nearly_the_same_step(measured: dict[int, dict[str, Any]]) -> None:
    for world in WORLDS:
        options = measured[world]["options"]
        plain, _ = options["float32"]
        for name in ("checkpointing", "checkpointing zero 3"):
            assert _gap(options[name][0], plain) < 1e-5, (world, name)
        for name in ("bfloat16", "bfloat16 zero 3"):
            update, buffers = options[name]
            assert _gap(update, plain) < 0.2, (world, name)
            # Rotary frequencies rounded to bf16 would be off by whole turns in long documents.
            assert buffers == {torch.float32}


def test_frozen_parts_stay_under_every_stage(measured: dict[int, dict[str, Any]]) -> None:
    for world in WORLDS:
        for name in ("frozen", "frozen zero 3"):
            update, _ = measured[world]["options"][name]
            moved = {n for n, change in update.items() if change.abs().max() > 0}
            assert moved and not any(".visual.blocks" in n or ".patch_embed" in n for n in moved), name
            assert any(".visual." in n for n in moved)  # the merger is the projector


def test_ranks_with_images_and_ranks_without_take_one_step(measured: dict[int, dict[str, Any]]) -> None:
    for world in WORLDS:
        mixed = measured[world]["mixed"]
        for name, (update, logprobs) in mixed.items():
            expected = next((n for n in ("frozen", "sight") if name.startswith(n)), "stage 0")
            expected_update, expected_logprobs = measured[1]["mixed"][f"{expected}, {name[-1]}"]
            assert _gap(update, expected_update) < 3e-5, (world, name)
            assert len(logprobs) == len(expected_logprobs)
            for found, wanted in zip(logprobs, expected_logprobs, strict=True):
                assert found == pytest.approx(wanted, abs=1e-4), (world, name)


def test_zero_3_saves_a_policy_that_loads(measured: dict[int, dict[str, Any]]) -> None:
    for world in WORLDS:
        saved = measured[world]["policy"]
        model = load_model(str(Path(saved["path"])), torch.float32)
        loaded = {name: weight.detach() for name, weight in model.named_parameters()}
        assert loaded.keys() == saved["weights"].keys()
        assert _equal(loaded, saved["weights"])
