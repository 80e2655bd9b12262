"""Rollouts and validation results on disk; mean@k by hand and by simulation."""

import io
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from vlrl.errors import UserError
from vlrl.images import ImageStore
from vlrl.runs.directory import StageDirectory
from vlrl.runs.rollouts import read_rollouts, write_rollouts
from vlrl.runs.statistics import mean_at_k, wilson_interval
from vlrl.runs.validation_files import HELD_OUT, read_validations, rollouts_path, summarise, write_validation
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Status, Verdict


def group(tmp_path: Path, prompt_id: str, statuses: list[Status], source: str = "charts") -> Group:
    data = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(data, format="PNG")
    images = [ImageStore(tmp_path / "images").put(data.getvalue(), "test")]
    message = {"role": "user", "content": "<image>1 + 1?"}
    prompt = Prompt(prompt_id, [message], images, "math", "2", source, {"level": 3, "list": [1, "ü"]})
    rollouts = []
    for index, status in enumerate(statuses):
        first = Segment([5, 6], [-0.25, float(np.float32(-0.1))], 7, [1, 0], "interrupted")
        second = Segment([9] * (index + 1), [-1e-7] * (index + 1), 8, [1] * (index + 1), "stop")
        second.logprobs = [float(np.float32(p)) for p in second.logprobs]
        verdict = Verdict(float(status == "correct"), status, "2" if status == "correct" else None, "exact")
        rollouts.append(Rollout(prompt_id, index, [1, 2, 2, 3], [first, second], images, "<b> é", verdict))
    return Group(prompt, rollouts)


def test_rollouts_come_back_as_they_were(tmp_path: Path) -> None:
    groups = [group(tmp_path, name, ["correct", "wrong"]) for name in ("b", "a", "b")]
    groups[1].rollouts[0].verdict = None
    groups[1].rollouts[1].segments = []
    path = tmp_path / "rl" / "rollouts" / "step_000012.parquet"
    write_rollouts(path, 12, groups)
    assert read_rollouts(path) == groups
    assert read_rollouts(path, ["a"]) == [groups[1]]
    row = parquet.read_table(path).to_pylist()[0]
    image = groups[0].prompt.images[0]
    assert row["step"] == 12 and row["images"][0] == {
        "sha256": image.sha256,
        "path": image.path,
        "width": 8,
        "height": 6,
    }
    first = path.read_bytes()
    write_rollouts(path, 12, groups)
    assert path.read_bytes() == first


def test_rollouts_hold_whatever_a_model_writes(tmp_path: Path) -> None:
    groups = [group(tmp_path, "a", ["wrong"])]
    groups[0].rollouts[0].text = "nul \x00, surrogate \ud800, line \u2028"
    path = tmp_path / "r.parquet"
    write_rollouts(path, 0, groups)
    assert read_rollouts(path)[0].rollouts[0].text == "nul \x00, surrogate ?, line \u2028"


def test_unreadable_rollouts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with pytest.raises(UserError, match=r"r\.parquet: cannot be read"):
        read_rollouts(path)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"r\.parquet: cannot be read"):
        read_rollouts(path)


def test_mean_at_k_by_hand() -> None:
    # Prompt means 1, 1/2, 1/2, 0: mean 1/2, squared deviations 1/4 + 0 + 0 + 1/4, over 3, over 4: 1/24.
    measured = mean_at_k([[1, 1], [1, 0], [0, 1], [0, 0]])
    assert measured.mean == 0.5 and (measured.n, measured.k) == (4, 2)
    assert measured.stderr == pytest.approx(math.sqrt(1 / 24))
    # Effective size (1/4) / (1/24) = 6: Wilson at p = 1/2 is 1/2 +- z / (2 sqrt(6 + z^2)).
    half = 1.959964 / (2 * math.sqrt(6 + 1.959964**2))
    assert measured.ci95 == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_mean_at_k_takes_prompts_with_fewer_samples() -> None:
    measured = mean_at_k([[1], [0, 0, 1]])
    assert measured.mean == pytest.approx((1 + 1 / 3) / 2) and measured.k == 2


def test_mean_at_k_at_the_edges() -> None:
    right = mean_at_k([[1, 1]] * 256)
    # Wilson's lower bound for n of n is n / (n + z^2), n the prompts and not the samples.
    assert right.mean == 1 and right.stderr == 0
    assert right.ci95 == pytest.approx((256 / (256 + 1.959964**2), 1.0))
    single = mean_at_k([[1, 0, 0, 1]])
    assert single.stderr is None and single.ci95[0] < 0.1 and single.ci95[1] > 0.9
    # Prompts that all came out alike say no more than their samples taken as independent.
    alike = mean_at_k([[1, 0]] * 8)
    assert alike.ci95 == pytest.approx(wilson_interval(0.5, 16))


def test_interval_covers_the_truth_where_an_unclustered_one_does_not() -> None:
    """Samples of one prompt share its difficulty: 64 prompts of 8 samples, true mean@k 0.75."""
    draw = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(400):
        difficulty = draw.beta(0.9, 0.3, size=64)
        scores = (draw.random((64, 8)) < difficulty[:, None]).astype(int).tolist()
        low, high = mean_at_k(scores).ci95
        covered += low <= 0.75 <= high
        low, high = wilson_interval(float(np.mean(scores)), 64 * 8)
        naive += low <= 0.75 <= high
    assert 0.92 <= covered / 400 <= 0.98
    assert naive / 400 < 0.75


def test_validation_counts_errors_apart(tmp_path: Path) -> None:
    stage = StageDirectory(tmp_path / "rl")
    groups = [
        group(tmp_path, "a", ["correct", "wrong", "grader_error", "correct"]),
        group(tmp_path, "b", ["truncated", "no_answer"], "text"),
        group(tmp_path, "c", ["infra_error", "grader_error"], "text"),
    ]
    result = summarise(30, HELD_OUT, groups)
    assert result.accuracy == pytest.approx((2 / 3 + 0) / 2) and result.n == 2
    assert result.by_source["charts"]["accuracy"] == pytest.approx(2 / 3)
    assert result.by_source["text"]["n"] == 1 and result.by_source["text"]["stderr"] is None
    assert result.statuses == {
        "correct": 2,
        "grader_error": 2,
        "infra_error": 1,
        "no_answer": 1,
        "truncated": 1,
        "wrong": 1,
    }
    assert result.mean_tokens == pytest.approx((3 + 4 + 5 + 6 + 3 + 4 + 3 + 4) / 8)
    blank = summarise(30, "blank_images", groups[:1])
    write_validation(stage, blank, groups[:1])
    write_validation(stage, result, groups)
    assert read_validations(stage) == [result, blank]
    assert read_rollouts(rollouts_path(stage, blank)) == groups[:1]
    assert {path.name for path in stage.validation.iterdir()} == {
        "step_000030.json",
        "step_000030.parquet",
        "step_000030.blank_images.json",
        "step_000030.blank_images.parquet",
    }
    stage.drop_after(30)
    assert len(read_validations(stage)) == 2
    stage.drop_after(29)
    assert not list(stage.validation.iterdir())


def test_validation_without_a_single_verdict_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'held_out' at step 4: no sample could be graded"):
        summarise(4, HELD_OUT, [group(tmp_path, "a", ["infra_error"])])
