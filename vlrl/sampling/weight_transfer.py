"""How new weights reach vLLM's workers.

On CPU our own engine, registered with vLLM under the name `vlrl_shared_memory`: the trainer writes one
safetensors file into shared memory and the workers map it. On GPUs vLLM's own NCCL and CUDA IPC engines
do the work. All of them load through vLLM's layerwise reload, since backends repack weights after loading.
"""

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from vllm.config import VllmConfig
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer import (
    ParamMeta,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferTrainerFactory,
)
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from vlrl.sampling.vllm_plugin import SHARED_MEMORY_BACKEND

NamedWeights = Iterable[tuple[str, torch.Tensor]]


class WeightSender(Protocol):
    """The trainer's end of a transfer: `prepare` while the sampler samples, `send` while it is paused."""

    backend: str

    def prepare(self, weights: NamedWeights) -> None: ...

    def send(self, client: VLLMWeightSyncClient) -> None: ...


def make_sender(backend: str, dtype: torch.dtype, workers: int) -> WeightSender:
    """The sender of a resolved backend: `shared_memory`, `ipc` or `nccl`."""
    if backend == "shared_memory":
        return SharedMemorySender(dtype)
    return VllmSender(backend, workers)


class SharedMemorySender:
    """Writes the weights, rounded to the sampler's dtype, to a file that workers of this machine map."""

    backend = SHARED_MEMORY_BACKEND

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._path: Path | None = None
        self._introduced = False

    def prepare(self, weights: NamedWeights) -> None:
        tensors: dict[str, torch.Tensor] = {}
        for name, weight in weights:
            dtype = self._dtype if weight.is_floating_point() else weight.dtype
            # Clones, where `to` was no copy: safetensors refuses tensors that share storage (tied heads).
            copy = weight.detach().to("cpu", dtype).contiguous()
            tensors[name] = copy.clone() if copy.data_ptr() == weight.data_ptr() else copy
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        self._path = _folder_with_room(size) / f"vlrl-weights-{os.getpid()}-{uuid.uuid4().hex}.safetensors"
        try:
            save_file(tensors, self._path)
        except BaseException:
            self._path.unlink(missing_ok=True)
            raise

    def send(self, client: VLLMWeightSyncClient) -> None:
        assert self._path is not None, "prepare comes first"
        try:
            if not self._introduced:
                client.init_weight_transfer_engine({})
                self._introduced = True
            client.start_weight_update()
            client.update_weights({"path": str(self._path)})
            client.finish_weight_update()
        finally:
            self._path.unlink(missing_ok=True)
            self._path = None


def _folder_with_room(size: int) -> Path:
    """Shared memory, or where a container gave us too little of it, the temporary folder."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > size + 2**20:
        return shared
    return Path(tempfile.gettempdir())


class VllmSender:
    """vLLM's own trainer side, for GPUs: CUDA IPC on a shared GPU, NCCL between GPUs."""

    def __init__(self, backend: str, workers: int) -> None:
        self.backend = backend
        self._workers = workers
        self._source = _Weights()
        self._engine: Any = None

    def prepare(self, weights: NamedWeights) -> None:
        self._source.weights = [(name, weight.detach()) for name, weight in weights]

    def send(self, client: VLLMWeightSyncClient) -> None:
        if self._engine is None:
            self._engine = WeightTransferTrainerFactory.trainer_init(
                self._init_info(), client=client, source=self._source
            )
        self._engine.send_weights()
        self._source.weights = []

    def _init_info(self) -> Any:
        if self.backend == "ipc":
            from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

            return IPCTrainerInitInfo(rank=0)
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return NCCLTrainerInitInfo(
            rank=0, master_address="127.0.0.1", master_port=port, world_size=1 + self._workers
        )


class _Weights(WeightSource):
    """What vLLM's trainer engines read, refilled before each update."""

    def __init__(self) -> None:
        self.weights: list[tuple[str, torch.Tensor]] = []

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, w.dtype, tuple(w.shape)) for name, w in self.weights]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(self.weights)


@dataclass
class SharedMemoryInit(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class SharedMemoryUpdate(WeightTransferUpdateInfo):
    """The safetensors file that holds every weight under its checkpoint name."""

    path: str


class SharedMemoryEngine(WeightTransferEngine[SharedMemoryInit, SharedMemoryUpdate]):
    """The worker's end: maps the file, loads it whole, refuses anything less."""

    init_info_cls = SharedMemoryInit
    update_info_cls = SharedMemoryUpdate
    supports_draft_weight_update = False

    def __init__(
        self,
        config: WeightTransferConfig,
        vllm_config: VllmConfig,
        device: torch.device,
        model: torch.nn.Module,
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        # Tied heads are one parameter and so one name here.
        self._parameters = {name for name, _ in model.named_parameters()}

    def init_transfer_engine(self, init_info: SharedMemoryInit) -> None:
        pass

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        # The base class synchronises an accelerator afterwards, and there may be none.
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: SharedMemoryUpdate) -> None:
        with safe_open(update_info.path, framework="pt", device="cpu") as file:
            names = set(file.keys())
            self._refuse_partial_fusions(names)
            loaded = self.model.load_weights((name, file.get_tensor(name)) for name in sorted(names))
        missing = sorted(self._parameters - loaded)
        if missing:
            raise RuntimeError(f"the weight update lacks {_some(missing)}")

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        # A tied head loads nothing itself, so the reload leaves the CPU's packed copy of its weight stale.
        for module in self.model.modules():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        pass

    def _refuse_partial_fusions(self, names: set[str]) -> None:
        """vLLM fuses q, k and v (gate and up) and counts the fused weight as loaded by any one of them."""
        fusions: dict[str, list[str]] = getattr(self.model, "packed_modules_mapping", {})
        missing = set()
        for name in names:
            parts = name.split(".")
            for pieces in fusions.values():
                for piece in set(pieces) & set(parts):
                    siblings = {".".join(other if p == piece else p for p in parts) for other in pieces}
                    missing |= siblings - names
        if missing:
            raise RuntimeError(f"the weight update lacks {_some(sorted(missing))}")


def _some(names: list[str]) -> str:
    listed = ", ".join(names[:5])
    return listed if len(names) <= 5 else f"{listed} and {len(names) - 5} more"


class SyncClient:
    """vLLM's control plane as its trainer engines call it: blocking calls into the engine's event loop."""

    def __init__(self, engine: Any, call: Callable[[Any, str], Any]) -> None:
        self._engine, self._call = engine, call

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        request = WeightTransferInitRequest(init_info)
        self._call(self._engine.init_weight_transfer_engine(request), "the weight transfer to be set up")

    def start_weight_update(self) -> None:
        self._call(self._engine.start_weight_update(), "the workers to take a weight update")

    def update_weights(self, update_info: Any) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        request = WeightTransferUpdateRequest(update_info)
        self._call(self._engine.update_weights(request), "the workers to load new weights")

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call(self._engine.finish_weight_update(weight_version), "the workers to finish a weight update")
