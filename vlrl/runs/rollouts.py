"""Rollouts in parquet, one row a rollout: what was asked, sampled and said of it, images by reference.

Log-probs are stored as float32, which is what the samplers compute them in, so reading gives back the
very numbers. Token ids are the trajectory's own; `text` is for people.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlrl.errors import UserError
from vlrl.images import ImageRef
from vlrl.runs.files import replacing
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

if TYPE_CHECKING:
    import pyarrow


def write_rollouts(path: Path, step: int, groups: Sequence[Group]) -> None:
    """Write the groups of one step, atomically; equal groups give equal bytes.

    Raises:
        UserError: the disk is full.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    assert all(group.rollouts for group in groups), "a group without rollouts has no row to be kept in"
    assert all(r.images == group.prompt.images for group in groups for r in group.rollouts)
    rows = [_to_row(step, i, group.prompt, r) for i, group in enumerate(groups) for r in group.rollouts]
    table = pyarrow.Table.from_pylist(rows, schema=_schema())
    with replacing(path) as scratch:
        parquet.write_table(table, scratch, compression="zstd")


def read_rollouts(path: Path, prompt_ids: Collection[str] | None = None) -> list[Group]:
    """The groups as they were written; only those of `prompt_ids` where given.

    Raises:
        UserError: missing or damaged file.
    """
    import pyarrow.parquet as parquet

    filters = None if prompt_ids is None else [("prompt_id", "in", list(prompt_ids))]
    groups: dict[int, Group] = {}
    try:
        rows = parquet.read_table(path, filters=filters).to_pylist()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as rollouts ({error}); remove or restore it") from None
    for row in rows:
        if row["group"] not in groups:
            groups[row["group"]] = Group(_to_prompt(row), [])
        group = groups[row["group"]]
        group.rollouts.append(_to_rollout(row, group.prompt.images))
    return [groups[index] for index in sorted(groups)]


def read_sources(path: Path) -> dict[str, str]:
    """The source of every prompt by its id, without reading the rollouts themselves.

    Raises:
        UserError: missing or damaged file.
    """
    import pyarrow.parquet as parquet

    try:
        columns = parquet.read_table(path, columns=["prompt_id", "source"]).to_pydict()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as rollouts ({error}); remove or restore it") from None
    return dict(zip(columns["prompt_id"], columns["source"], strict=True))


def _schema() -> "pyarrow.Schema":
    import pyarrow as pa

    text, ids = pa.string(), pa.list_(pa.int32())
    message = pa.struct([("role", text), ("content", text)])
    image = pa.struct([("sha256", text), ("path", text), ("width", pa.int32()), ("height", pa.int32())])
    segment = pa.struct(
        [("tokens", pa.int32()), ("policy_version", pa.int64()), ("finish_reason", text)],
    )
    return pa.schema(
        [
            ("step", pa.int64()),
            ("group", pa.int32()),
            ("prompt_id", text),
            ("sample_index", pa.int32()),
            ("source", text),
            ("messages", pa.list_(message)),
            ("images", pa.list_(image)),
            ("verifier", text),
            ("ground_truth", text),
            ("extra", text),  # JSON
            ("prompt_ids", ids),
            ("token_ids", ids),
            ("logprobs", pa.list_(pa.float32())),
            ("loss_mask", pa.list_(pa.int8())),
            ("segments", pa.list_(segment)),
            ("text", text),
            ("graded", pa.bool_()),
            ("reward", pa.float64()),
            ("status", text),
            ("answer", text),
            ("rule", text),
            ("parts", text),  # JSON
        ]
    )


def _to_row(step: int, index: int, prompt: Prompt, rollout: Rollout) -> dict[str, Any]:
    verdict = rollout.verdict
    return {
        "step": step,
        "group": index,
        "prompt_id": prompt.id,
        "sample_index": rollout.sample_index,
        "source": prompt.source,
        "messages": [{k: _storable(v) for k, v in message.items()} for message in prompt.messages],
        "images": [
            {"sha256": i.sha256, "path": i.path, "width": i.width, "height": i.height} for i in prompt.images
        ],
        "verifier": prompt.verifier,
        "ground_truth": _storable(prompt.ground_truth),
        "extra": json.dumps(prompt.extra, sort_keys=True),
        "prompt_ids": rollout.prompt_ids,
        "token_ids": rollout.response_ids,
        "logprobs": rollout.logprobs,
        "loss_mask": rollout.loss_mask,
        "segments": [
            {
                "tokens": len(segment.token_ids),
                "policy_version": segment.policy_version,
                "finish_reason": segment.finish_reason,
            }
            for segment in rollout.segments
        ],
        "text": _storable(rollout.text),
        "graded": verdict is not None,
        "reward": verdict.reward if verdict else None,
        "status": verdict.status if verdict else None,
        "answer": _storable(verdict.answer) if verdict and verdict.answer is not None else None,
        "rule": verdict.rule if verdict else None,
        "parts": json.dumps(verdict.parts) if verdict and verdict.parts else None,
    }


def _storable(text: str) -> str:
    """Arrow holds UTF-8 only; a lone surrogate in a model's text becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _to_prompt(row: dict[str, Any]) -> Prompt:
    return Prompt(
        id=row["prompt_id"],
        messages=row["messages"],
        images=[ImageRef(**image) for image in row["images"]],
        verifier=row["verifier"],
        ground_truth=row["ground_truth"],
        source=row["source"],
        extra=json.loads(row["extra"]),
    )


def _to_rollout(row: dict[str, Any], images: list[ImageRef]) -> Rollout:
    segments, start = [], 0
    for part in row["segments"]:
        span = slice(start, start + part["tokens"])
        start = span.stop
        segments.append(
            Segment(
                token_ids=row["token_ids"][span],
                logprobs=row["logprobs"][span],
                policy_version=part["policy_version"],
                loss_mask=row["loss_mask"][span],
                finish_reason=part["finish_reason"],
            )
        )
    verdict = None
    if row["graded"]:
        parts = json.loads(row.get("parts") or "{}")
        verdict = Verdict(row["reward"], row["status"], row["answer"], row["rule"], parts)
    return Rollout(
        prompt_id=row["prompt_id"],
        sample_index=row["sample_index"],
        prompt_ids=row["prompt_ids"],
        segments=segments,
        images=images,
        text=row["text"],
        verdict=verdict,
    )
