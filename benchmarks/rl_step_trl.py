"""TRL's side of `rl_step.py`: its GRPOTrainer as it comes, one turn at a time."""

import contextlib
import time
from multiprocessing.connection import Connection
from typing import Any

from rl_step_task import (
    LEARNING_RATE,
    PROMPTS,
    RESPONSE_TOKENS,
    Step,
    StopWorker,
    Task,
    cpu_seconds,
    enter_worker,
    read_prompts,
    reward,
    wait_for_turn,
)


def work(task: Task, name: str, micro_batch: int, connection: Connection) -> None:
    """Take a step whenever the parent asks for one, and report it."""
    enter_worker(task, task.folder / f"{name}.log")
    from vlrl.compat import install_torchvision_guard

    install_torchvision_guard()
    import torch

    torch.set_num_threads(task.threads)
    trainer = _trainer(task, micro_batch, _Turns(connection))
    with contextlib.suppress(StopWorker):
        trainer.train()


class _Turns:
    """What one step took, filled in by the trainer's own methods."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.generate = self.reward = 0.0
        self.tokens: dict[str, int] = {}
        self._started = self._cpu = 0.0

    def begin(self) -> None:
        self._connection.send("ready")
        wait_for_turn(self._connection)
        self.generate = self.reward = 0.0
        self._cpu, self._started = cpu_seconds(), time.perf_counter()

    def end(self) -> None:
        total = time.perf_counter() - self._started
        seconds = {
            "generate": self.generate,
            "reward": self.reward,
            "train": total - self.generate - self.reward,
        }
        self._connection.send(Step(seconds, cpu_seconds() - self._cpu, self.tokens))


def _trainer(task: Task, micro_batch: int, turns: _Turns) -> Any:
    from datasets import Dataset, Image
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl import GRPOConfig, GRPOTrainer

    class TimedTrainer(GRPOTrainer):
        def _generate(self, prompts: list[Any]) -> Any:
            started = time.perf_counter()
            out = super()._generate(prompts)
            turns.generate += time.perf_counter() - started
            prompt_ids, response_ids = out[0], out[1]
            turns.tokens = {"prompt": sum(map(len, prompt_ids)), "response": sum(map(len, response_ids))}
            return out

        def _calculate_rewards(self, *arguments: Any) -> Any:
            started = time.perf_counter()
            out = super()._calculate_rewards(*arguments)
            turns.reward += time.perf_counter() - started
            return out

    class Turn(TrainerCallback):
        """A step lasts from the end of the one before it, so that loading its data counts."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.end()
            turns.begin()

    def reward_function(completions: list[Any], **_: Any) -> list[float]:
        return [reward(messages[0]["content"]) for messages in completions]

    rows: list[dict[str, Any]] = [
        {"prompt": [{"role": "user", "content": row["question"]}]}
        | {k: row[k] for k in ("image",) if k in row}
        for row in read_prompts(task)
    ]
    dataset = Dataset.from_list(rows)
    if task.shape.image_side:
        processor, auto_model = AutoProcessor.from_pretrained(task.model), AutoModelForImageTextToText
        tokenizer, dataset = processor.tokenizer, dataset.cast_column("image", Image())
    else:
        processor = tokenizer = AutoTokenizer.from_pretrained(task.model)
        auto_model = AutoModelForCausalLM
    model = auto_model.from_pretrained(task.model, dtype="float32", attn_implementation="sdpa")
    banned = [tokenizer.eos_token_id] + ([model.config.image_token_id] if task.shape.image_side else [])
    return TimedTrainer(
        model,
        reward_function,
        args=GRPOConfig(
            output_dir=str(task.folder / f"trl-{micro_batch}"),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=PROMPTS * task.shape.rollouts // micro_batch,
            num_generations=task.shape.rollouts,
            max_completion_length=RESPONSE_TOKENS,
            # Every response must have its full length.
            generation_kwargs={"suppress_tokens": banned},
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_steps=task.steps + 1,
            beta=0.0,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=dataset,
        processing_class=processor,
        callbacks=[Turn()],
    )
