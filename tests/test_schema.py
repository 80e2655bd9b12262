"""Rows and images as they are read: what common writers leave behind, and what is refused by its row."""

import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from vlrl.errors import UserError
from vlrl.images import ImageStore, describe_file, load
from vlrl.schema import read_rows
from vlrl.trajectory import Prompt

DEEP = 100_000


def read(path: Path, row: dict[str, Any] | str) -> Prompt:
    """The prompt of a file that holds this row, or this line, and an image `a.png` (or `b.png`) beside it."""
    Image.new("RGB", (4, 4), "red").save(path / "a.png")
    Image.new("RGB", (4, 4), "blue").save(path / "b.png")
    if isinstance(row, dict):
        row = json.dumps({"question": "1?", "answer": "1"} | row)
    (path / "rows.jsonl").write_text(row)
    return next(read_rows(path / "rows.jsonl", "prompt", ImageStore(path / "store")))


def read_parquet(path: Path, row: dict[str, Any]) -> Prompt:
    parquet.write_table(pyarrow.Table.from_pylist([row]), path / "rows.parquet")
    return next(read_rows(path / "rows.parquet", "prompt", ImageStore(path / "store")))


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", ["grey.png", "grey.tiff", "grey.pgm"])
def test_grey_of_16_bits_is_scaled(tmp_path: Path, name: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = load(describe_file(save(tmp_path / name, ramp), "row"))
    expected = np.round(ramp / 257).astype(np.uint8)
    assert image.mode == "RGB" and (np.asarray(image) == expected[..., None]).all()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_grey_of_no_known_range_is_refused(tmp_path: Path, kind: type) -> None:
    save(tmp_path / "grey.tiff", np.full((4, 4), 9, kind))
    with pytest.raises(UserError, match=r"row 1: image .*grey\.tiff: its pixels are .* 16-bit PNG"):
        read(tmp_path, {"image": "grey.tiff"})


@pytest.mark.parametrize(
    ("row", "images"),
    [
        ({"images": None, "image": "a.png"}, ["a.png"]),
        ({"images": [], "image": "a.png"}, ["a.png"]),
        ({"images": ["a.png", "b.png"], "image": None}, ["a.png", "b.png"]),
        ({"images": ["a.png"], "image": "a.png"}, ["a.png"]),
        ({"images": None, "image": None}, []),
        ({"images": []}, []),
    ],
)
def test_an_empty_image_column_hides_no_other(tmp_path: Path, row: dict, images: list[str]) -> None:
    assert [Path(image.path).name for image in read(tmp_path, row).images] == images


def test_image_columns_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 1: 'images' and 'image' differ; keep one"):
        read(tmp_path, {"images": ["a.png"], "image": "b.png"})


@pytest.mark.parametrize(
    ("row", "truth"),
    [
        ({"reward_model": {"ground_truth": 7}}, "7"),
        ({"reward_model": {"ground_truth": 0.5}}, "0.5"),
        ({"reward_model": {"ground_truth": None}}, "1"),
        ({"reward_model": {"ground_truth": None}, "answer": None, "solution": "3"}, "3"),
    ],
)
def test_ground_truth_is_text_or_a_number(tmp_path: Path, row: dict, truth: str) -> None:
    assert read(tmp_path, row).ground_truth == truth


@pytest.mark.parametrize(
    ("row", "verifier"),
    [
        ({"verifier": "chart"}, "chart"),
        ({"verifier": "chart", "reward_model": {"style": "rule"}}, "math"),
        ({"verifier": "chart", "extra_info": {"verifier": "numeric"}}, "numeric"),
    ],
)
def test_who_judges(tmp_path: Path, row: dict, verifier: str) -> None:
    assert read(tmp_path, row).verifier == verifier


@pytest.mark.parametrize("value", [["1", "2"], {"target": "1"}, True])
def test_other_ground_truth_is_refused(tmp_path: Path, value: Any) -> None:
    expected = (
        f"row 1: 'reward_model.ground_truth' must be a string or a number, found {type(value).__name__}"
    )
    with pytest.raises(UserError, match=expected):
        read(tmp_path, {"reward_model": {"ground_truth": value}})


def test_times_of_a_parquet_row_are_kept_in_iso_8601(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    extra = {"made": {"at": [moment]}, "day": date(2026, 1, 2), "hour": time(3, 4), "level": 3, "none": None}
    prompt = read_parquet(tmp_path, {"question": "1?", "answer": "1", "extra_info": extra})
    assert prompt.extra == {
        "made": {"at": ["2026-01-02T03:04:05.678901+00:00"]},
        "day": "2026-01-02",
        "hour": "03:04:00",
        "level": 3,
        "none": None,
    }
    assert json.loads(json.dumps(prompt.extra)) == prompt.extra


@pytest.mark.parametrize("value", [b"\x00", timedelta(1)])
def test_extra_info_that_json_cannot_hold_is_refused(tmp_path: Path, value: Any) -> None:
    expected = rf"row 1: 'extra_info\.a\.b' is {type(value).__name__}, which JSON cannot hold"
    with pytest.raises(UserError, match=expected):
        read_parquet(tmp_path, {"question": "1?", "answer": "1", "extra_info": {"a": {"b": value}}})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'{{"id": {"1" * 5000}}}', "line 1: an integer of over 4300 digits"),
        (f'{{"id": {"[" * DEEP}{"]" * DEEP}}}', "line 1: nested too deep"),
        # Deep enough for the copies that are made of a row, though not for the JSON reader.
        (
            f'{{"question": "1?", "answer": "1", "extra_info": {{"a": {"[" * 500}{"]" * 500}}}}}',
            "row 1: 'extra_info.a' is nested over 64 deep",
        ),
    ],
)
def test_json_beyond_its_readers_limits(tmp_path: Path, line: str, expected: str) -> None:
    with pytest.raises(UserError, match=rf"rows\.jsonl {expected}"):
        read(tmp_path, line)


def test_a_folder_of_rows_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder; name a \.jsonl or \.parquet file"):
        next(read_rows(tmp_path, "prompt", ImageStore(tmp_path)))


@pytest.mark.parametrize(
    ("source", "style", "verifier"),
    [
        ("openai/gsm8k", "rule", "math"),
        ("taco", "rule", "code"),
        ("codecontests", "model", "code"),
        ("taco", "math", "math"),
        ("other", "numeric", "numeric"),
    ],
)
def test_verls_rows_name_a_verifier_by_their_source(
    tmp_path: Path, source: str, style: str, verifier: str
) -> None:
    row = {
        "prompt": [{"role": "user", "content": "?"}],
        "data_source": source,
        "reward_model": {"style": style, "ground_truth": "5"},
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (prompt,) = read_rows(tmp_path / "rows.jsonl", "prompt", ImageStore(tmp_path / "images"))
    assert prompt.verifier == verifier
