"""What both sides of `rl_step.py` are given: the model, the prompts, the reward, and how they report.

A worker is a fresh process that takes one training step whenever it is told to, so that the two sides
can alternate and the machine's noise hits both.
"""

import json
import os
import random
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

PROMPTS, RESPONSE_TOKENS = 8, 32
QUESTION = "Read the number in this picture. Think first, then give your answer in \\boxed{}."
TEXT_QUESTION = "What comes after {number}? Think first, then give your answer in \\boxed{{}}."
LEARNING_RATE = 1e-6


@dataclass(slots=True, frozen=True)
class Shape:
    """Rollouts a prompt, and the side of its image in pixels; 0 is a text model without images."""

    rollouts: int
    image_side: int


SHAPES = {"8x8-112": Shape(8, 112), "8x16-224": Shape(16, 224), "8x8-text": Shape(8, 0)}

# 2.15 M parameters, 0.84 M of them vision; 16 image tokens for 112 pixels. As text, Qwen3's.
SIZE: dict[str, Any] = {
    "dtype": "float32",
    "tie": True,
    "vocab": 448,
    "init": 0.05,
    "patch": 14,
    "image_tokens": (1, 1024),
    "text": {
        "hidden_size": 192,
        "num_hidden_layers": 3,
        "intermediate_size": 512,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 32,
        "max_position_embeddings": 8192,
    },
    "vision": {
        "hidden_size": 128,
        "depth": 2,
        "intermediate_size": 256,
        "num_heads": 4,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    },
}


@dataclass(slots=True)
class Task:
    """Where the shared files lie and what a worker may use."""

    folder: Path
    threads: int
    steps: int  # at most, warm-up included
    shape: Shape

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.jsonl"


@dataclass(slots=True)
class Step:
    """One step as its worker saw it: wall seconds by phase, CPU seconds of its whole process tree."""

    seconds: dict[str, float]
    cpu: float
    tokens: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def make_task(folder: Path, threads: int, steps: int, shape: Shape = SHAPES["8x8-112"]) -> Task:
    """Write the model and as many prompts as `steps` consume, each with an image of its own."""
    from vlrl.policy.architectures import SIZES, init_model

    task = Task(folder, threads, steps, shape)
    rng = random.Random(0)
    make_row = _image_row if shape.image_side else _text_row
    rows = [make_row(task, index, rng) for index in range(PROMPTS * steps)]
    task.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    architecture = "qwen2_5_vl" if shape.image_side else "qwen3"
    SIZES[architecture]["rl_step"] = SIZE
    init_model(task.model, architecture, "rl_step", [QUESTION, TEXT_QUESTION], seed=0)
    return task


def _image_row(task: Task, index: int, rng: random.Random) -> dict[str, str]:
    from PIL import Image, ImageDraw

    number, side = rng.randrange(10, 100), task.shape.image_side
    image = Image.new("RGB", (side, side), tuple(rng.randrange(160, 256) for _ in range(3)))
    corner = (rng.randrange(8, 40), rng.randrange(8, 40))
    ImageDraw.Draw(image).text(corner, str(number), fill="black", font_size=48)
    path = task.folder / f"{index}.png"
    image.save(path)
    return {"image": str(path), "question": QUESTION, "answer": str(number)}


def _text_row(task: Task, index: int, rng: random.Random) -> dict[str, str]:
    number = 1000 * index + rng.randrange(1000)  # every prompt is another one
    return {"question": TEXT_QUESTION.format(number=f"{number:07d}"), "answer": str(number + 1)}


def read_prompts(task: Task) -> list[dict[str, str]]:
    return [json.loads(line) for line in task.prompts.read_text(encoding="utf-8").splitlines()]


def reward(text: str) -> float:
    """Share of distinct characters: costs nothing and differs within a group of random responses."""
    return len(set(text)) / len(text) if text else 0.0


def cpu_seconds() -> float:
    """CPU time of this process and all that it started, ended ones included."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def enter_worker(task: Task, log: Path) -> None:
    """Give this process its cores and send what libraries print to a file."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


class StopWorker(Exception):
    """The parent wants no more steps."""


def wait_for_turn(connection: Connection) -> None:
    """Block until the parent wants a step.

    Raises:
        StopWorker: it wants none.
    """
    try:
        if connection.recv() != "step":
            raise StopWorker
    except EOFError:
        raise StopWorker from None
