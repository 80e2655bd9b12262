"""The process that a classic reward model scores in. Run as `python -m`.

It reads requests (a list of inputs) from a socket and answers with scores as they come, batch by batch, and
an empty list at the end. It ends when the socket closes.
"""

import json
import os
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from vlrl.config.reward_models import ClassicRmConfig
from vlrl.errors import UserError
from vlrl.launch import set_environment

CONFIG_VARIABLE = "VLRL_CLASSIC_RM"


def main(fd: int, config: ClassicRmConfig) -> None:
    """Serve until the socket closes."""
    connection = Connection(fd)
    set_environment(config.threads)
    try:
        model = _load(config)
    except UserError as error:
        connection.send_bytes(json.dumps({"refused": str(error)}).encode())
        return
    connection.send_bytes(json.dumps({"settings": asdict(model.settings)}).encode())
    while True:
        try:
            given = json.loads(connection.recv_bytes())
            _answer(connection, model, given, config)
        except (EOFError, OSError):
            return


def _load(config: ClassicRmConfig) -> Any:
    import torch
    from transformers.utils import logging

    from vlrl.rewards.models.classic import ClassicRewardModel, place

    logging.disable_progress_bar()
    torch.set_num_threads(config.threads)
    gpu = torch.cuda.is_available()
    device = torch.device(("cuda" if gpu else "cpu") if config.device == "auto" else config.device)
    if device.type == "cuda" and not gpu:
        raise UserError(f"the reward model's device '{config.device}' is not there; use cpu or auto")
    name = config.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    dtype = getattr(torch, name)
    return place(ClassicRewardModel.load(config.path, dtype, config.max_pixels), device, dtype)


def _answer(connection: Connection, model: Any, given: list[dict[str, Any]], config: ClassicRmConfig) -> None:
    from vlrl.images import ImageRef
    from vlrl.rewards.models.classic import RewardInput

    inputs = [
        RewardInput(**(one | {"images": tuple(ImageRef(**image) for image in one["images"])}))
        for one in given
    ]
    limits = {"batch_tokens": config.batch_tokens, "max_tokens": config.max_tokens}
    for score in model.score(inputs, **limits):
        connection.send_bytes(json.dumps([score]).encode())
    connection.send_bytes(b"[]")


if __name__ == "__main__":
    main(int(sys.argv[1]), ClassicRmConfig(**json.loads(os.environ[CONFIG_VARIABLE])))
