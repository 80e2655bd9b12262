"""Training on groups of rollouts: prompts shared in the packed row, packed without sharing, and padded.

    python benchmarks/packing.py

The model, prompts and images of `rl_step.py`; responses of 8 to 64 tokens. A step is one forward and backward
pass over all rollouts of a batch with the same loss on the same response tokens. Every cell is a fresh
process; "tokens/s" counts response tokens and, once a rollout, prompt tokens, whatever was computed.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rl_step_task import make_task

ROLLOUTS = 64
KINDS = ("padded", "packed", "shared")


def main() -> None:
    arguments = _arguments()
    if arguments.measure:
        folder, kind, group = arguments.measure.split(":")
        print(json.dumps(_measure(Path(folder), kind, int(group), arguments)))
        return
    speeds = [f"{kind}, tokens/s" for kind in KINDS]
    table = Table("group", *speeds, "times padded", "times packed", "peak MB")
    with tempfile.TemporaryDirectory() as scratch:
        make_task(Path(scratch), arguments.threads, steps=ROLLOUTS // 8)
        for group in arguments.groups:
            found = {kind: _child(scratch, kind, group, arguments) for kind in KINDS}
            speed = {kind: cell["tokens"] / cell["seconds"] for kind, cell in found.items()}
            losses = [cell["loss"] for cell in found.values()]
            assert max(losses) - min(losses) < 1e-4 * abs(losses[0]), f"not the same loss: {losses}"
            cells = [f"{speed[kind]:,.0f}" for kind in KINDS]
            cells += [f"{speed['shared'] / speed['padded']:.2f}", f"{speed['shared'] / speed['packed']:.2f}"]
            table.add_row(str(group), *cells, " / ".join(f"{found[k]['peak'] / 1e6:.0f}" for k in KINDS))
    Console().print(table)
    note = f"{ROLLOUTS} rollouts, {arguments.threads} threads, median of {arguments.repeats}"
    print(f"{note}; peaks in the same order")


def _child(folder: str, kind: str, group: int, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", f"{folder}:{kind}:{group}"]
    command += ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _measure(folder: Path, kind: str, group: int, arguments: argparse.Namespace) -> dict[str, float]:
    import torch

    from vlrl.policy.load import load_model
    from vlrl.policy.model import Policy
    from vlrl.policy.processor import PolicyProcessor

    torch.set_num_threads(arguments.threads)
    processor = PolicyProcessor.load(str(folder / "model"))
    policy = Policy(load_model(str(folder / "model"), torch.float32), banned_ids=processor.banned_ids)
    documents = _documents(folder, processor, group)
    run = _padded if kind == "padded" else _packed
    if kind == "packed":
        documents = [replace(d, prompt_tokens=0) for d in documents]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(arguments.repeats + 2):
        policy.zero_grad()
        started = time.perf_counter()
        loss = run(policy, processor, documents)
        loss.backward()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": statistics.median(seconds[2:]),
        "tokens": sum(len(d.ids) for d in documents),
        "loss": float(loss.detach()),
        "peak": (peak - before) * 1024,
    }


def _documents(folder: Path, processor: Any, group: int) -> list[Any]:
    from vlrl.images import describe_file
    from vlrl.policy.packing import TrainDocument

    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    generator = random.Random(0)
    allowed = [i for i in range(300) if i not in processor.banned_ids + processor.stop_ids]
    documents = []
    for index in range(ROLLOUTS):
        row = rows[index // group]
        image = describe_file(Path(row["image"]), "benchmark")
        prompt = processor.encode([{"role": "user", "content": f"<image>{row['question']}"}], [image])
        response = [generator.choice(allowed) for _ in range(generator.randint(8, 64))]
        mask = [0] * len(prompt.expanded_ids) + [1] * len(response)
        ids = prompt.expanded_ids + response
        documents.append(TrainDocument(ids, [image], mask, len(prompt.expanded_ids)))
    return documents


def _packed(policy: Any, processor: Any, documents: list[Any]) -> Any:
    from vlrl.policy.packing import pack

    logprobs, _ = policy(pack(documents, list(range(len(documents))), policy, processor).inputs)
    return -logprobs.mean()


def _padded(policy: Any, processor: Any, documents: list[Any]) -> Any:
    """One padded row a rollout, the head on response tokens alone: transformers as it comes."""
    import torch

    from vlrl.policy.logprobs import token_logprobs
    from vlrl.policy.processor import join_media

    longest = max(len(d.ids) for d in documents)
    ids = torch.zeros(len(documents), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    positions = torch.zeros(3, len(documents), longest, dtype=torch.int64)
    pixels = {i.sha256: processor.image_inputs(i) for d in documents for i in d.images}
    for row, document in enumerate(documents):
        own = torch.tensor(document.ids)
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
        images = [pixels[i.sha256] for i in document.images]
        positions[:, row, : len(own)] = policy.positions(own, images)
    model = policy.model.model
    model.language_model.config._attn_implementation = "sdpa"
    hidden = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
        **join_media([pixels[i.sha256] for d in documents for i in d.images]),
    ).last_hidden_state
    scored = [(row, place) for row, d in enumerate(documents) for place, m in enumerate(d.loss_mask) if m]
    rows, places = (torch.tensor(part) for part in zip(*scored, strict=True))
    logprobs, _ = token_logprobs(
        hidden[rows, places - 1],
        policy.model.get_output_embeddings().weight,
        ids[rows, places],
        banned_ids=policy.banned_ids,
    )
    return -logprobs.mean()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
