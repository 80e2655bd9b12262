"""What every stage of a run shares: an engine, a place in the run directory, steps that resume exactly."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import psutil
import torch

from vlrl.config.run import RunConfig, Stage
from vlrl.config.training import OptimizerConfig
from vlrl.errors import writing
from vlrl.policy.attention import use_attention
from vlrl.policy.load import freeze, load_model
from vlrl.policy.model import Policy
from vlrl.policy.packing import MicroBatch, TrainDocument, micro_batches
from vlrl.policy.processor import PolicyProcessor
from vlrl.runs.checkpoints import latest_checkpoint, save_checkpoint
from vlrl.runs.directory import StageDirectory
from vlrl.runs.files import disk_errors, write_json
from vlrl.runs.metrics import MetricsLog
from vlrl.runs.progress import StageProgress
from vlrl.seeds import derive_seed
from vlrl.training.engine import DTYPES, TrainEngine
from vlrl.training.ranks import Ranks


class Stateful(Protocol):
    """Something a checkpoint restores."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class StageRun:
    """One stage being trained: its engine, its log and its checkpoints.

    Every rank makes one; only the main rank writes. `stateful` is saved in every checkpoint and restored
    from the latest one here, so that the loop that follows need not know whether it resumes. `started` is
    when `seconds` begin, on `time.monotonic`'s clock.
    """

    def __init__(
        self,
        name: Stage,
        directory: StageDirectory,
        config: RunConfig,
        *,
        policy_path: str,
        processor: PolicyProcessor,
        ranks: Ranks,
        steps: int,
        optimizer: OptimizerConfig,
        optimizer_steps: int,
        stateful: Mapping[str, Stateful],
        started: float,
    ) -> None:
        self.directory, self.config, self.ranks, self.steps = directory, config, ranks, steps
        self._name, self._processor, self._stateful = name, processor, stateful
        self._seconds = 0.0
        self._started = started
        self.step = 0
        self.engine = self._build_engine(policy_path, optimizer, optimizer_steps)
        checkpoint = latest_checkpoint(directory.checkpoints)
        if checkpoint is not None:
            self._restore(checkpoint.path)
        self.resumed = checkpoint is not None
        resume_step = self.step if self.resumed else None
        self._log: MetricsLog | None = None
        self._progress: StageProgress | None = None
        if ranks.is_main:
            directory.drop_after(resume_step)
            self._log = MetricsLog(directory, resume_step)
            self._progress = StageProgress(name, steps, done=self.step)

    def remaining(self) -> Iterator[int]:
        """Step numbers still to do, from 1; torch's generator is seeded for each, so none needs saving.

        Each ends with `commit`.
        """
        while self.step < self.steps:
            step = self.step + 1
            torch.manual_seed(derive_seed(self.config.seed, self._name, "torch", self.step, self.ranks.rank))
            yield step
            assert self.step == step, f"step {step} was not committed"

    def commit(self) -> None:
        """The step is done: save it where a checkpoint is due. What measures the step comes after this."""
        self.step += 1
        if self.is_due(self.step, self.config.checkpoint.every):
            self._save()

    def pack(self, documents: list[TrainDocument]) -> Iterator[MicroBatch]:
        """This rank's micro-batches of a global batch."""
        return micro_batches(
            documents,
            self.engine.policy,
            self._processor,
            max_tokens=self.config.trainer.tokens_per_micro_batch,
            rank=self.ranks.rank,
            world=self.ranks.world,
            device=self.ranks.device,
            use_every_weight=self.engine.must_use_every_weight,
        )

    def log(
        self, step: int, metrics: dict[str, float], timings: dict[str, float], headline: dict[str, float]
    ) -> None:
        """One step's numbers, into the files and onto the screen."""
        if self._log is not None and self._progress is not None:
            self._log.log(step, metrics, timings | {"rss_gb": _resident_gb()})
            self._progress.update(step, headline)

    def note(self, text: str) -> None:
        if self._progress is not None:
            self._progress.note(text)

    @property
    def seconds(self) -> float:
        """Seconds since the stage before ended, or the session began; engine start and validation count.

        Of earlier attempts up to their last checkpoint, of this one until now.
        """
        return self._seconds + (time.monotonic() - self._started)

    def is_due(self, step: int, every: int | None) -> bool:
        """Whether something done every `every` steps, and after the last, is due now."""
        return step == self.steps or (every is not None and step % every == 0)

    def __enter__(self) -> "StageRun":
        if self._progress is not None:
            self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.__exit__(kind, error, trace)
        if self._log is not None:
            self._log.close()
            if error is None:  # the last checkpoint was saved before the last validation
                write_json(self.directory.seconds, {"seconds": self.seconds})
        self.engine.close()

    def _build_engine(self, policy_path: str, optimizer: OptimizerConfig, steps: int) -> TrainEngine:
        config = self.config
        # DeepSpeed casts to bf16 itself and keeps these fp32 weights as its masters.
        with self.ranks.together():
            model = load_model(policy_path, DTYPES["float32"], config.policy.revision)
            freeze(model, config.policy.freeze)
            dtype = DTYPES[config.trainer.dtype]
            use_attention(model, config.trainer.attention, self.ranks.device, dtype)
        policy = Policy(
            model,
            banned_ids=self._processor.banned_ids,
            temperature=config.sampling.temperature if self._name == "rl" else 1.0,
            logprob_chunk=config.trainer.logprob_chunk,
        )
        return TrainEngine(policy, config.trainer, optimizer, steps, self.ranks)

    def _save(self) -> None:
        if self._log is not None:
            self._log.sync()
        if self.ranks.world == 1:
            with save_checkpoint(
                self.directory.checkpoints, self.step, self.config.checkpoint.keep
            ) as scratch:
                self._write(scratch)
            return
        self._save_together()

    def _save_together(self) -> None:
        """Every rank writes its share into the main rank's scratch folder; the main rank commits.

        Nobody goes on before the commit: what comes next may read the checkpoint.
        """
        if self.ranks.is_main:
            with save_checkpoint(
                self.directory.checkpoints, self.step, self.config.checkpoint.keep
            ) as scratch:
                self.ranks.share(str(scratch))
                self._write(scratch)
                torch.distributed.barrier()
        else:
            scratch = Path(self.ranks.share(None))
            # This rank's own disk may be full. It ends here: the main one, missing it, commits nothing.
            with writing(scratch), disk_errors(scratch):
                self._write(scratch)
            torch.distributed.barrier()
        torch.distributed.barrier()

    def _write(self, folder: Path) -> None:
        self.engine.save(folder)
        self.engine.save_policy(folder / "policy")
        if self.ranks.is_main:
            self._processor.save(folder / "policy")
            state = {name: item.state() for name, item in self._stateful.items()}
            content = {"step": self.step, "seconds": self.seconds, "state": state}
            (folder / "state.json").write_text(json.dumps(content))

    def _restore(self, folder: Path) -> None:
        content = json.loads((folder / "state.json").read_text())
        self.step, self._seconds = content["step"], content["seconds"]
        self.engine.restore(folder)
        for name, item in self._stateful.items():
            item.restore(content["state"][name])


def _resident_gb() -> float:
    """Memory that this process holds now, in GB: what a leak would show in."""
    return psutil.Process().memory_info().rss / 1e9
