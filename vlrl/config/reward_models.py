from typing import Any, Literal

from pydantic import Field, model_validator

from vlrl.config.base import Section
from vlrl.config.sampling import SamplingConfig

Judged = Literal["answer", "response"]


class ClassicRmConfig(Section):
    """A reward model with a value head: (question, reference answer, response) in, a probability out."""

    path: str
    """Folder of the reward model: a checkpoint with `value_head.safetensors` and `reward_model.json`."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability from which a response counts as correct; the folder's own when unset."""
    soft: bool = False
    """The reward is the probability itself, for correct and wrong alike."""
    batch_tokens: int = Field(default=16384, gt=0)
    """Tokens of one forward pass; a longer single input has one of its own."""
    max_tokens: int = Field(default=8192, gt=0)
    """Tokens of one input. A longer one is an error, never cut."""
    device: str = "auto"
    """`auto` (the current GPU, else the CPU), `cpu`, `cuda` or `cuda:1`."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the checkpoint, bfloat16 on a GPU and float32 on a CPU when unset; the head is always float32."""
    threads: int = Field(default=2, gt=0)
    """CPU threads of its process."""
    max_pixels: int | None = Field(default=None, gt=0)
    """Images larger than this are scaled down first."""
    startup_timeout_s: float = Field(default=600, gt=0)
    """Deadline for the model to be loaded."""
    timeout_s: float = Field(default=120, gt=0)
    """The longest that scoring may go without a forward pass coming to its end."""


_OF_SAMPLING = ("engine", "temperature", "top_p", "weight_transfer", "stale_kv", "timeout_s")


class JudgeEngineConfig(SamplingConfig):
    """vLLM as the sampler has it, but for settings of sampling and of weight transfer."""

    gpu_memory_utilization: float = Field(default=0.3, gt=0, le=1)
    """Share of a GPU's memory, beside the sampler's and what the trainer needs."""

    @model_validator(mode="after")
    def _of_an_engine(self) -> "JudgeEngineConfig":
        for name in _OF_SAMPLING:
            if name in self.model_fields_set:
                raise ValueError(f"'{name}' has no effect on a judge's engine; take it out")
        return self


class CotRmConfig(Section):
    """A generative judge that reasons step by step and ends in a verdict in JSON."""

    url: str | None = None
    """OpenAI-compatible endpoint, such as `http://judge:8000/v1`."""
    model: str | None = None
    """The model's name at `url`."""
    path: str | None = None
    """Instead of `url`: a checkpoint, folder or hub id, that vLLM serves beside the run."""
    revision: str | None = None
    """Hub revision of `path`; with `url` a label that tells one version of its model from another."""
    engine: JudgeEngineConfig = JudgeEngineConfig()
    """How vLLM runs `path`: memory, threads, sequences, start-up deadline. Sampling settings are below."""
    context_length: int = Field(default=16384, gt=0)
    """Prompt + reply tokens that the engine of `path` takes."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of `url`."""
    judged: Judged = "answer"
    """`answer`: the box or answer span, as the other verifiers. `response`: all that follows the thinking."""
    images: bool = False
    """Show the prompt's images to the judge."""
    max_pixels: int | None = Field(default=None, gt=0)
    """Images larger than this are scaled down first."""
    max_chars: int = Field(default=8000, gt=0)
    """Characters of a response that are shown: a longer one is cut in its middle, with a notice, and a longer
    answer is wrong (but for references half as long).
    """
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Of the first asking."""
    retry_temperature: float = Field(default=0.7, ge=0, le=2)
    """Of the second, where the first reply had no verdict."""
    max_tokens: int = Field(default=2048, gt=0)
    """Tokens of a reply. One that is cut has no verdict."""
    guided: bool = False
    """Have the endpoint force the reply into JSON: the reasoning, then the verdict (structured outputs)."""
    request: dict[str, Any] = {}
    """Further fields of each request, such as `chat_template_kwargs`."""
    concurrency: int = Field(default=32, gt=0)
    """Requests under way at a time."""
    timeout_s: float = Field(default=300, gt=0)
    """Deadline of one judgement, retries and a second asking included."""
    cache: bool = True
    """Keep verdicts, also on disk where there is a folder for it."""
    identity: str | None = None
    """What kept verdicts are filed under: the same judge at another address finds them again. Unset: `url`,
    `model` and `revision`, or `path`, `revision` and its files' names, sizes and times.
    """

    @model_validator(mode="after")
    def _one_judge(self) -> "CotRmConfig":
        if (self.url is None) == (self.path is None):
            raise ValueError("give exactly one of 'url' (an endpoint) and 'path' (a checkpoint)")
        if self.url is not None and self.model is None:
            raise ValueError("give 'model', the model's name at 'url'")
        if self.path is not None and self.model is not None:
            raise ValueError("'model' goes with 'url'; a checkpoint at 'path' needs none")
        if self.path is not None and self.context_length <= self.max_tokens:
            raise ValueError("'context_length' must be more than 'max_tokens': the prompt needs room as well")
        taken = sorted({"messages", "model", "seed", "temperature", "max_tokens"} & set(self.request))
        if taken:
            raise ValueError(f"'request' cannot set {', '.join(taken)}; use the settings beside it")
        return self
