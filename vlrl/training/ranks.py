"""This process among the training processes: one, or as many as the launcher started."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from vlrl.errors import EngineError, UserError

FAREWELL = timedelta(seconds=10)
# The other ranks wait in a collective while the main one samples, grades, validates and saves. Those have
# deadlines of their own, by progress, so that an iteration may take hours; a rank that fails says farewell or
# closes its connections. This is for what nothing else would end.
COLLECTIVE_TIMEOUT = timedelta(days=1)


class MainRankFailed(Exception):
    """The main rank ended with an error, which it prints itself."""


class _Failure:
    """What the main rank shares in place of a value when it failed."""


def _is_lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank is gone; torch has no class of its own for it."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    return any(sign in str(error) for sign in signs)


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
        """The main rank's `value`, on every rank.

        Raises:
            MainRankFailed: it came upon an error before it had one.
        """
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        if isinstance(box[0], _Failure):
            raise MainRankFailed
        return box[0]

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Around the main rank's work: the others, which wait in `share`, learn that it failed."""
        try:
            yield
        except Exception as error:
            if self.world > 1:
                self._bid_farewell()
            if isinstance(error, RuntimeError) and _is_lost_peer(error):
                raise EngineError("another training process ended early; what it printed says why") from error
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what every rank does alike: a mistake that any of them meets ends all, and is said once.

        The block must hold no collective: a rank that fails in it would be missing there.

        Raises:
            UserError: on the main rank: its own mistake, or else another's.
            MainRankFailed: on the others.
        """
        mistake: UserError | None = None
        try:
            yield
        except UserError as error:
            mistake = error
        met = [str(mistake) if mistake else None] * self.world
        if self.world > 1:
            dist.all_gather_object(met, met[0])
        found = [text for text in met if text is not None]
        if found and self.is_main:
            raise mistake or UserError(found[0])
        if found:
            self.share(None)  # the main rank, which says it, is on its way out
            raise MainRankFailed

    @contextmanager
    def following(self) -> Iterator[None]:
        """Around another rank's work: where the main one failed it ends quietly, for that one says why."""
        try:
            yield
        except (MainRankFailed, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _is_lost_peer(error):
                raise
            with suppress(Exception):
                dist.monitored_barrier(timeout=FAREWELL)
            sys.stdout.flush()
            os._exit(2)

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

    def _bid_farewell(self) -> None:
        """Tell the ranks that wait in `share`; those that wait elsewhere learn it when this process ends."""

        def tell() -> None:
            with suppress(Exception):
                dist.broadcast_object_list([_Failure()], src=0, device=self.device)
                dist.monitored_barrier(timeout=FAREWELL)

        # In a thread, since nothing bounds a broadcast but the timeout of all collectives.
        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        thread.join(FAREWELL.total_seconds())

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
