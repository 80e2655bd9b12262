"""This process among the training processes: one, or as many as the launcher started."""

import os
import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

COLLECTIVE_TIMEOUT = timedelta(hours=2)  # a rank may wait for a whole batch of rollouts


@dataclass(slots=True, frozen=True)
class Ranks:
    """Rank and world size, and the two things that ranks say to each other."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """The main rank's `value`, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Sums over ranks of named numbers; names that end in `_max` take the maximum."""
        if self.world == 1:
            return values
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, values)
        names = dict.fromkeys(name for part in gathered for name in part)
        return {
            name: (max if name.endswith("_max") else sum)(part.get(name, 0.0) for part in gathered)
            for name in names
        }

    def leave(self) -> None:
        """End this rank's process, all ranks together: gloo's threads abort interpreters that exit by
        themselves while others are still at work."""
        dist.barrier()
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def start_ranks(threads: int) -> Ranks:
    """Join the launcher's process group, or make a group of one. Idempotent.

    Set the accelerator before DeepSpeed is first imported, which fixes it then.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        torch.set_num_threads(threads)
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        import deepspeed

        backend = "nccl" if device.type == "cuda" else "gloo"
        deepspeed.init_distributed(backend, timeout=COLLECTIVE_TIMEOUT, verbose=False)
    return Ranks(rank, world, device)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
