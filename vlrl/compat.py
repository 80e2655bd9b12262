"""One guard for one mismatch: PyPI's CUDA torchvision beside the CPU build of torch.

There `import torchvision` dies with `operator torchvision::nms does not exist`, and every image
processor of transformers with it. Declaring the two operator schemas first cures it. The guard is an
import hook, so it costs nothing until torchvision is imported, and it acts only where torch has no CUDA
and torchvision is a `+cu` build: elsewhere a second declaration would abort the process.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# The library object owns the declarations: dropping it would undeclare them.
_library: Any = None


class _TorchvisionGuard:
    """A meta path finder that never finds: it runs once, just before torchvision is first imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare_operators_if_mismatched()
        return None


def install_torchvision_guard() -> None:
    """Put the hook in place; call it before anything imports torchvision."""
    if "torchvision" in sys.modules or any(isinstance(f, _TorchvisionGuard) for f in sys.meta_path):
        return
    sys.meta_path.insert(0, _TorchvisionGuard())


def _declare_operators_if_mismatched() -> None:
    global _library
    spec = importlib.util.find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None:
        return
    version_file = Path(spec.origin).with_name("version.py")
    if not version_file.is_file() or "+cu" not in version_file.read_text():
        return
    import torch

    if torch.version.cuda is None:
        _library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            _library.define(schema)
