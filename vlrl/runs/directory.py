"""The run directory: what lies where, who owns it, and what may not be overwritten.

    config.yaml        resolved config            environment.json   one entry a start
    status.json        running, finished, failed  inputs.json        digests of rows and weights
    data/  images/  logs/
    report.html        report.json
    <stage>/           metrics.jsonl  timings.jsonl  seconds.json  tensorboard/  rollouts/  validation/
                       checkpoints/

The process that trains holds a lock on `.lock`, which the operating system drops when it dies, so a
killed run is told from a running one.
"""

import fcntl
import re
import shutil
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import FileIO
from pathlib import Path
from typing import Literal, get_args

from vlrl.config import RunConfig, differing_keys, dump_config, load_config
from vlrl.config.run import Stage
from vlrl.errors import UserError, writing
from vlrl.runs.checkpoints import list_checkpoints, remove_leftovers
from vlrl.runs.environment import describe_environment
from vlrl.runs.files import read_json, write_json, write_text

MAY_CHANGE = (
    *("checkpoint.*", "sampling.*timeout_s", "runs_dir", "*.threads", "trainer.attention"),
    *("rewards.*workers", "rewards.sandbox_url", "rewards.cot_rm.concurrency", "sandbox.workers"),
)
"""Config keys (patterns) that a resumed run may change: none alters what a step computes, but for rounding.

The `steps` of a stage may change too while they have no part in its learning rates and no later stage began.
"""

State = Literal["running", "finished", "failed", "stopped"]
_STEP_FILE = re.compile(r"step_(\d{6,})\b.*")


@dataclass(slots=True, frozen=True)
class StageDirectory:
    """One stage's part of a run directory; nothing in it exists until it is written."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        return self.root / "timings.jsonl"

    @property
    def seconds(self) -> Path:
        """How long the stage took, once it is through."""
        return self.root / "seconds.json"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def validation(self) -> Path:
        return self.root / "validation"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def rollouts(self, step: int) -> Path:
        return self.root / "rollouts" / f"step_{step:06d}.parquet"

    def drop_after(self, step: int | None) -> None:
        """Remove rollouts and validation results of later steps, which a resumed run does again.

        None removes them all. `seconds` goes too, and `MetricsLog` drops metrics in the same way.
        """
        for folder in (self.root / "rollouts", self.validation):
            for path in folder.glob("step_*"):
                match = _STEP_FILE.fullmatch(path.name)
                if match and (step is None or int(match[1]) > step):
                    path.unlink()
        self.seconds.unlink(missing_ok=True)


class RunDirectory:
    """A run on disk. `create` and `resume` make this process its owner; `open` only reads."""

    def __init__(self, root: Path, lock: FileIO | None = None, *, made: bool = False) -> None:
        self.root = root
        self._lock = lock
        self._made = made  # by this object: an empty folder of the user's is not removed with the run

    @classmethod
    def create(cls, root: str | Path, config: RunConfig, command: Sequence[str]) -> "RunDirectory":
        """Begin a run in a new or empty folder; `command` is the command line, for the record.

        Raises:
            UserError: the folder holds a run already, or something else, or cannot be written; nothing is.
        """
        root = Path(root)
        _refuse_occupied(root)
        with writing(root):
            made = not root.exists()
            root.mkdir(parents=True, exist_ok=True)
            lock = _acquire(root)
        run = cls(root, lock, made=made)
        _refuse_occupied(root)
        write_text(run.config_path, dump_config(config))
        run._record_start(command)
        return run

    @classmethod
    def open(cls, root: str | Path) -> "RunDirectory":
        """An existing run to read.

        Raises:
            UserError: not a run directory.
        """
        root = Path(root)
        if not (root / "config.yaml").is_file():
            raise UserError(f"{root}: not a run directory (no config.yaml in it); correct the path")
        return cls(root)

    @classmethod
    def resume(cls, root: str | Path, config: RunConfig, command: Sequence[str]) -> "RunDirectory":
        """Go on with an existing run and remove what killed saves left in it.

        Raises:
            UserError: not a run directory, another process is training in it, or the config changed in
                a key outside `MAY_CHANGE`.
        """
        run = cls.open(root)
        run.check_config(config)
        with writing(run.root):
            run._lock = _acquire(run.root)
        for stage in run.stages():
            remove_leftovers(stage.checkpoints)
        write_text(run.config_path, dump_config(config))
        run._record_start(command)
        return run

    @property
    def config_path(self) -> Path:
        return self.root / "config.yaml"

    @property
    def environment_path(self) -> Path:
        return self.root / "environment.json"

    @property
    def status_path(self) -> Path:
        return self.root / "status.json"

    @property
    def inputs_path(self) -> Path:
        return self.root / "inputs.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def report_html(self) -> Path:
        return self.root / "report.html"

    @property
    def report_json(self) -> Path:
        return self.root / "report.json"

    @property
    def config(self) -> RunConfig:
        """The resolved config that the run was last started with."""
        return load_config(self.config_path)

    def stage(self, name: Stage) -> StageDirectory:
        return StageDirectory(self.root / name)

    def stages(self) -> list[StageDirectory]:
        """The stages begun so far, in training order."""
        return [self.stage(name) for name in get_args(Stage) if (self.root / name).is_dir()]

    def has_results(self) -> bool:
        """Whether any stage has a checkpoint, a step's metrics or a measurement."""
        return any(
            list_checkpoints(stage.checkpoints)
            or (stage.metrics.is_file() and stage.metrics.stat().st_size > 0)
            or stage.validation.is_dir()
            for stage in self.stages()
        )

    def check_config(self, new: RunConfig) -> None:
        """
        Raises:
            UserError: `new` differs from the run's config in a key outside `MAY_CHANGE`; all are named.
        """
        old_tree, new_tree = self.config.model_dump(mode="json"), new.model_dump(mode="json")
        changed = [
            key
            for key in differing_keys(old_tree, new_tree)
            if not any(fnmatchcase(key, pattern) for pattern in MAY_CHANGE)
        ]
        for name in get_args(Stage):
            if f"{name}.steps" in changed:
                self._check_steps(name, new)
                changed.remove(f"{name}.steps")
        if changed:
            raise UserError(
                f"{self.root}: cannot resume with a changed config ({', '.join(changed)}); "
                "restore these keys or start a run of another name"
            )

    def _check_steps(self, name: Stage, new: RunConfig) -> None:
        schedule = (new.sft if name == "sft" else new.rl).optimizer.schedule
        if schedule != "constant":
            raise UserError(
                f"{self.root}: cannot resume with a changed {name}.steps, since the {schedule} learning rate "
                "runs over all of them; restore it or start a run of another name"
            )
        later = new.stages[new.stages.index(name) + 1 :] if name in new.stages else []
        begun = [stage for stage in later if self.stage(stage).root.is_dir()]
        if begun:
            raise UserError(
                f"{self.root}: cannot resume with a changed {name}.steps, since stage {begun[0]} started "
                "from its end; restore it or start a run of another name"
            )

    def remember(self, name: str, digest: str, what: str) -> None:
        """Note the digest of an input, or compare it with the one noted when the run first read it.

        Raises:
            UserError: it changed; `what` names it.
        """
        known = read_json(self.inputs_path) if self.inputs_path.exists() else {}
        if known.setdefault(name, digest) != digest:
            raise UserError(
                f"{what}: changed since {self.root} began; restore it or start a run of another name"
            )
        write_json(self.inputs_path, known)

    def state(self) -> State:
        """Whether the run is running, finished, failed by an error, or stopped by a kill."""
        status = read_json(self.status_path) if self.status_path.exists() else {}
        if status.get("state") in ("finished", "failed"):
            return status["state"]
        return "running" if _is_locked(self.root) else "stopped"

    def failure(self) -> str | None:
        """Why the run failed, if it did."""
        return read_json(self.status_path).get("reason") if self.state() == "failed" else None

    def finish(self) -> None:
        """Mark the run finished and let go of it."""
        self._release("finished")

    def fail(self, reason: str) -> None:
        """Mark the run failed and let go of it; it can be resumed."""
        self._release("failed", reason)

    def discard(self) -> None:
        """Remove what the run wrote, its folder too if it made it, and let go of it: as if it never began."""
        if self._made:
            shutil.rmtree(self.root)
        else:
            for path in self.root.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._unlock()

    def _release(self, state: State, reason: str | None = None) -> None:
        write_json(self.status_path, {"state": state, "reason": reason, "time": _now()})
        self._unlock()

    def _unlock(self) -> None:
        assert self._lock is not None, "only the owner of a run ends it"
        self._lock.close()
        self._lock = None
        _owned.discard(self.root.resolve())

    def _record_start(self, command: Sequence[str]) -> None:
        starts = read_json(self.environment_path)["starts"] if self.environment_path.exists() else []
        starts.append({"time": _now()} | describe_environment(command))
        write_json(self.environment_path, {"starts": starts})
        write_json(self.status_path, {"state": "running", "reason": None, "time": _now()})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _refuse_occupied(root: Path) -> None:
    with writing(root):  # a file in the place of a folder above it
        exists = root.exists()
    if not exists:
        return
    if not root.is_dir():
        raise UserError(f"{root}: is a file, not a folder; choose another name or runs_dir")
    if (root / "config.yaml").is_file():
        state = RunDirectory(root).state()
        remedy = {
            "running": "wait for it or choose another name",
            "finished": "choose another name or remove the folder",
        }.get(state, "resume it, choose another name or remove the folder")
        raise UserError(f"{root}: holds a {state} run already; {remedy}")
    # Hidden files count too: a run that is discarded takes its whole folder with it.
    if any(path.name != ".lock" for path in root.iterdir()):
        raise UserError(
            f"{root}: holds files that are no run of vlrl; choose another name or an empty folder"
        )


# Closing any handle of a file drops this process's record locks on it, so an owned one is never reopened.
_owned: set[Path] = set()


def _acquire(root: Path) -> FileIO:
    # A POSIX record lock: unlike flock's, it is not inherited by forked workers that outlive a kill.
    assert root.resolve() not in _owned, f"{root} is open in this process already"
    file = FileIO(root / ".lock", "a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError(f"{root}: another process is training in it; wait for it or end it") from None
    _owned.add(root.resolve())
    return file


def _is_locked(root: Path) -> bool:
    """Whether a process holds the run's lock; asks the kernel without taking it."""
    if root.resolve() in _owned:
        return True
    if not (root / ".lock").exists():
        return False
    with FileIO(root / ".lock", "r") as file:
        question = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
        answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)
