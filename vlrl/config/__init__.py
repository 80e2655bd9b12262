"""The config: one pydantic tree, read from YAML. Imports nothing heavy."""

from vlrl.config.load import (
    build_config,
    differing_keys,
    dump_config,
    load_config,
    load_grading,
    load_sandbox,
)
from vlrl.config.run import RunConfig

__all__ = [
    "RunConfig",
    "build_config",
    "differing_keys",
    "dump_config",
    "load_config",
    "load_grading",
    "load_sandbox",
]
