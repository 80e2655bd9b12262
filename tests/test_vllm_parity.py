"""vLLM against a plain transformers forward, on the four architectures: one engine each."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.conftest import ModelBuilder
from tests.plain import Case, Plain, make_request, nucleus
from vlrl.config.sampling import SamplingConfig
from vlrl.errors import EngineError, UserError, WaitTimeout
from vlrl.images import ImageRef
from vlrl.policy.processor import PolicyProcessor
from vlrl.sampling.base import Interruption, SampleRequest
from vlrl.sampling.repetition import RepetitionRule
from vlrl.sampling.vllm_sampler import VllmSampler
from vlrl.sampling.vllm_start import EngineStart
from vlrl.trajectory import Segment

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm

ARCHITECTURES = ["qwen3_vl", "qwen2_5_vl", "idefics3", "qwen3"]
TOLERANCE = 1e-4
CONTEXT = 1024


@dataclass
class Engine:
    """A sampler on the weights of seed 0, and the plain models of both sets of weights."""

    architecture: str
    sampler: VllmSampler
    processor: PolicyProcessor
    plain: dict[int, Plain]
    cases: list[Case]
    log_dir: Path

    def worst_gap(self, seed: int, case: Case, segments: list[Segment]) -> float:
        ids = [t for s in segments for t in s.token_ids]
        logprobs = [p for s in segments for p in s.logprobs]
        return self.plain[seed].worst_gap(case, ids, logprobs, self.processor.banned_ids)

    def requests(self, seed: int, samples: int, max_tokens: int = 24) -> list[SampleRequest]:
        return [
            make_request(self.processor, case, seed + i, max_tokens)
            for i, case in enumerate(c for c in self.cases for _ in range(samples))
        ]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def engine(
    request: pytest.FixtureRequest,
    build_model: ModelBuilder,
    draw_image: Callable[..., ImageRef],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    folders = {seed: build_model(request.param, seed=seed) for seed in (0, 1)}
    processor = PolicyProcessor.load(str(folders[0]))
    log_dir = tmp_path_factory.mktemp("vllm")
    config = SamplingConfig(threads=1, kv_cache_gb=0.25, max_sequences=32, startup_timeout_s=240)
    start = EngineStart(str(folders[0]), config, trainer_dtype="float32", max_model_len=CONTEXT, seed=0)
    sampler = VllmSampler(start, processor, log_dir)
    cases: list[Case] = [("How many?", []), ("What is 12 plus 30? Think first.", [])]
    if processor.takes_images:
        cases += [
            ("Count the squares.", [draw_image(1)]),
            ("Which is larger?", [draw_image(2, 64, 32), draw_image(3, 32, 48)]),
            ("And now?", [draw_image(4, 40, 40), draw_image(1), draw_image(4, 40, 40)]),
        ]
    plain = {seed: Plain(folder) for seed, folder in folders.items()}
    yield Engine(request.param, sampler, processor, plain, cases, log_dir)
    sampler.close()


def test_environment_and_output_stay_ours(engine: Engine) -> None:
    assert "LD_PRELOAD" not in os.environ or "libgomp" not in os.environ["LD_PRELOAD"]
    assert "VLLM_LOGGING_CONFIG_PATH" not in os.environ
    assert "Initializing a V1 LLM engine" in (engine.log_dir / "engine.log").read_text()


def test_parity_and_seeds(engine: Engine) -> None:
    requests = engine.requests(seed=0, samples=4)
    responses = engine.sampler.sample(requests, timeout=120)
    cases = [case for case in engine.cases for _ in range(4)]
    for case, segments in zip(cases, responses, strict=True):
        assert [s.policy_version for s in segments] == [0]
        assert segments[0].finish_reason in ("stop", "length")
        assert engine.worst_gap(0, case, segments) < TOLERANCE
    again = engine.sampler.sample(requests, timeout=120)
    assert [s[0].token_ids for s in again] == [s[0].token_ids for s in responses]
    other = engine.sampler.sample(engine.requests(seed=1000, samples=4), timeout=120)
    assert all(a[0].token_ids != b[0].token_ids for a, b in zip(other, responses, strict=True))


def test_temperature_and_top_p(engine: Engine) -> None:
    case, banned = engine.cases[-1], engine.processor.banned_ids
    request = make_request(engine.processor, case, 5, 40, temperature=0.7, top_p=0.5)
    cold, cut = (engine.sampler.sample([r], timeout=60)[0][0] for r in (replace(request, top_p=1.0), request))
    assert engine.plain[0].worst_gap(case, cold.token_ids, cold.logprobs, banned, 0.7) < TOLERANCE
    full = engine.plain[0].logprobs(case, cut.token_ids, banned, 0.7)
    kept = nucleus(full, 0.5)
    # Without the cut a response of this length would not stay among so few tokens.
    assert (kept == -torch.inf).sum() > kept.numel() / 2
    own = kept.gather(1, torch.tensor(cut.token_ids)[:, None]).squeeze(1)
    torch.testing.assert_close(torch.tensor(cut.logprobs), own, rtol=0, atol=TOLERANCE)
    assert (own > full.gather(1, torch.tensor(cut.token_ids)[:, None]).squeeze(1) + 0.1).any()


def test_media_ids_are_never_sampled(engine: Engine) -> None:
    if not engine.processor.takes_images:
        pytest.skip("a text model has no media ids")
    responses = engine.sampler.sample(engine.requests(seed=2000, samples=8, max_tokens=64), timeout=120)
    tokens = [t for segments in responses for s in segments for t in s.token_ids]
    banned = engine.processor.banned_ids
    assert not set(tokens) & set(banned)
    free = engine.plain[0].logprobs(engine.cases[0], tokens[:40], banned=[])[:, banned].exp()
    assert free.sum(-1).mean() * len(tokens) > 10  # without the ban some would have been


def test_wrong_placeholders_and_lengths_are_named(engine: Engine) -> None:
    good = make_request(engine.processor, engine.cases[0], 1)
    wrong = SampleRequest("bad-one", good.prompt_ids, [*good.expanded_ids, 5], [], 1, 4)
    with pytest.raises(RuntimeError, match="request bad-one: vLLM expanded its prompt"):
        engine.sampler.sample([good, wrong], timeout=60)
    with pytest.raises(UserError, match=r"request request-1: .* exceed the context of 1024"):
        engine.sampler.sample([make_request(engine.processor, engine.cases[0], 1, CONTEXT)], timeout=60)
    with pytest.raises(WaitTimeout, match="1 rollouts of vLLM"):
        engine.sampler.sample([make_request(engine.processor, engine.cases[0], 1, 900)], timeout=0.001)


def test_update_while_sixteen_sequences_run(engine: Engine) -> None:
    """Versions are stamped; old tokens fit the old weights, new requests the new ones, images included."""
    engine.sampler.sample(engine.requests(seed=2900, samples=1), timeout=120)  # a first request is slow
    media, stop = list(engine.processor.banned_ids), list(engine.processor.stop_ids)
    engine.processor.banned_ids = media + stop  # so that none of them ends before the update
    case = engine.cases[-1]
    length = CONTEXT - 200
    requests = [make_request(engine.processor, case, 3000 + i, length) for i in range(16)]
    running: list[list[Segment]] = []
    thread = threading.Thread(target=lambda: running.extend(engine.sampler.sample(requests, timeout=300)))
    thread.start()
    try:
        threading.Event().wait(0.5)
        assert thread.is_alive()
        weights = engine.plain[1].model.named_parameters()
        engine.sampler.update_weights(weights, version=3)
        assert thread.is_alive(), "the update was meant to come while they run"
        new = engine.sampler.sample(engine.requests(seed=4000, samples=2), timeout=120)
    finally:
        thread.join(timeout=300)
    assert len(running) == 16
    versions = {tuple(s.policy_version for s in segments) for segments in running}
    assert versions == {(0, 3)}
    for segments in running:
        assert [s.finish_reason for s in segments] == ["paused", "length"]
        assert sum(len(s.token_ids) for s in segments) == length
        assert engine.worst_gap(0, case, segments[:1]) < TOLERANCE
    # What the running ones draw after the update, by new weights on the old cache, fits neither model.
    twice = [case for case in engine.cases for _ in range(2)]
    for c, segments in zip(twice, new, strict=True):
        assert [s.policy_version for s in segments] == [3]
        assert engine.worst_gap(1, c, segments) < TOLERANCE
        assert engine.worst_gap(0, c, segments) > 100 * TOLERANCE
    engine.processor.banned_ids = media
    # The same prompt and images that the old weights have cached, asked again.
    again = engine.sampler.sample([make_request(engine.processor, case, 5000)], timeout=60)[0]
    assert engine.worst_gap(1, case, again) < TOLERANCE
    engine.sampler.update_weights(engine.plain[0].model.named_parameters(), version=4)
    back = engine.sampler.sample(engine.requests(seed=0, samples=1), timeout=60)
    for c, segments in zip(engine.cases, back, strict=True):
        assert [s.policy_version for s in segments] == [4]
        assert engine.worst_gap(0, c, segments) < TOLERANCE


@pytest.mark.parametrize("stale_kv", ["keep", "recompute"])
def test_running_requests_go_on_with_old_or_new_keys_and_values(
    engine: Engine, stale_kv: Literal["keep", "recompute"]
) -> None:
    """What they draw after an update, against one pass of the new weights over the whole response."""
    sampler, media = engine.sampler, list(engine.processor.banned_ids)
    assert sampler.stale_kv == "keep"  # the default
    sampler.sample(engine.requests(seed=8900, samples=1), timeout=120)  # a first request is slow
    sampler.stale_kv = stale_kv
    engine.processor.banned_ids = media + list(engine.processor.stop_ids)
    length, start = CONTEXT - 200, sampler.policy_version
    cases = [case for case in engine.cases for _ in range(3)]
    sampler.submit([make_request(engine.processor, c, 9000 + i, length) for i, c in enumerate(cases)])
    try:
        time.sleep(0.5)
        sampler.update_weights(engine.plain[1].model.named_parameters(), version=start + 1)
        running = dict(sampler.take(timeout=120) for _ in cases)
    finally:
        sampler.stale_kv, engine.processor.banned_ids = "keep", media
    banned = media + list(engine.processor.stop_ids)
    for index, case in enumerate(cases):
        old, new = running[f"request-{9000 + index}"]
        assert [old.policy_version, new.policy_version] == [start, start + 1]
        assert len(old.token_ids) > 1 and len(old.token_ids) + len(new.token_ids) == length
        assert engine.plain[0].worst_gap(case, old.token_ids, old.logprobs, banned) < TOLERANCE
        full = engine.plain[1].logprobs(case, old.token_ids + new.token_ids, banned)[len(old.token_ids) :]
        own = full.gather(1, torch.tensor(new.token_ids)[:, None]).squeeze(1)
        gap = float((own - torch.tensor(new.logprobs)).abs().max())
        assert gap < TOLERANCE if stale_kv == "recompute" else gap > 100 * TOLERANCE
    sampler.update_weights(engine.plain[0].model.named_parameters(), version=start + 2)
    after = sampler.sample(engine.requests(seed=9500, samples=1), timeout=60)
    for c, segments in zip(engine.cases, after, strict=True):
        assert engine.worst_gap(0, c, segments) < TOLERANCE


def test_parts_of_a_response_are_exact(engine: Engine) -> None:
    """Interrupted thinkings, and responses sampled over phases of five tokens."""
    phrase = engine.processor.encode_injected("Time is up. </think>")
    plan = Interruption(6, phrase, 7)
    total = 13 + len(phrase)
    for number, case in enumerate(engine.cases):
        request = make_request(engine.processor, case, 6000 + number, total)
        (whole,) = engine.sampler.sample([replace(request, interruption=plan)], timeout=60)
        held: list[Segment] = []
        while not held or held[-1].finish_reason == "paused":
            going_on = replace(
                request, request_id=f"{number}-{len(held)}", segments=list(held), pause_after=5
            )
            held += engine.sampler.sample([going_on], timeout=60)[0]
        for segments in (whole, held):
            ids = [t for s in segments for t in s.token_ids]
            mask = [m for s in segments for m in s.loss_mask]
            logprobs = torch.tensor([p for s in segments for p in s.logprobs])
            expected = engine.plain[0].logprobs(case, ids, engine.processor.banned_ids, 1.0)
            own = expected.gather(1, torch.tensor(ids)[:, None]).squeeze(1)
            sampled = torch.tensor(mask, dtype=torch.bool)
            assert (own - logprobs)[sampled].abs().max() < TOLERANCE
        if whole[0].finish_reason == "interrupted":
            assert [s.is_injected for s in whole] == [False, True, False]
            assert whole[1].token_ids == phrase and len(whole[0].token_ids) == 6
            assert len(whole[2].token_ids) <= 7
        assert len(held) >= 2 or held[-1].finish_reason == "stop"
        assert sum(len(s.token_ids) for s in held) <= total


def test_a_response_that_repeats_itself_is_ended(engine: Engine) -> None:
    """A rule that takes any eight tokens for certain, so that a random policy breaks it."""
    rule = RepetitionRule(certain_tokens=8, certain_probability=1e-12, check_every=4)
    media = engine.processor.banned_ids
    engine.processor.banned_ids = sorted(media + engine.processor.stop_ids)
    request = make_request(engine.processor, engine.cases[-1], 8000, 400)
    plain, ended = engine.sampler.sample([request, replace(request, request_id="x", repetition=rule)], 60)
    held: list[Segment] = []
    while not held or held[-1].finish_reason == "paused":
        going_on = replace(request, request_id=f"y{len(held)}", repetition=rule, segments=list(held))
        held += engine.sampler.sample([replace(going_on, pause_after=3)], 60)[0]
    banned, engine.processor.banned_ids = engine.processor.banned_ids, media
    assert [s.finish_reason for s in plain] == ["length"] and len(plain[0].token_ids) == 400
    assert [s.finish_reason for s in ended] == ["repetition"]
    # The engine is a few tokens ahead of who looks; they are none of the response's.
    assert ended[0].token_ids == plain[0].token_ids[:8]
    assert [(len(s.token_ids), s.finish_reason) for s in held] == [
        (3, "paused"),
        (3, "paused"),
        (2, "repetition"),
    ]
    gap = engine.plain[0].worst_gap(engine.cases[-1], ended[0].token_ids, ended[0].logprobs, banned)
    assert gap < TOLERANCE
    assert len(engine.sampler.sample(engine.requests(seed=8100, samples=1), timeout=60)) == len(engine.cases)


def test_submitted_requests_are_handed_out_as_they_finish(engine: Engine) -> None:
    lengths = {"long": 300, "a": 4, "b": 6}
    media = engine.processor.banned_ids
    engine.processor.banned_ids = sorted(media + engine.processor.stop_ids)
    requests = [
        replace(make_request(engine.processor, engine.cases[0], 7000 + i, tokens), request_id=name)
        for i, (name, tokens) in enumerate(lengths.items())
    ]
    engine.sampler.submit(requests[:1])
    engine.sampler.submit(requests[1:])
    taken = [engine.sampler.take(timeout=60) for _ in requests]
    engine.processor.banned_ids = media
    assert taken[-1][0] == "long" and {name for name, _ in taken} == set(lengths)
    assert all(sum(len(s.token_ids) for s in segments) == lengths[name] for name, segments in taken)
    with pytest.raises(WaitTimeout, match="a rollout of vLLM"):
        engine.sampler.take(timeout=0.1)


def test_last_a_broken_engine_refuses(engine: Engine) -> None:
    """Half a fused weight, a lost weight, a dead engine: each ends sampling with its reason."""
    request = make_request(engine.processor, engine.cases[0], 1)
    if engine.architecture == "qwen3":
        for child in multiprocessing.active_children():
            if child.name == "EngineCore":
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"^the vLLM engine died \(see .*engine\.log\)$"):
            engine.sampler.sample([request], timeout=60)
        return
    version = engine.sampler.policy_version
    weights = dict(engine.plain[1].model.named_parameters())
    lost = "k_proj.weight" if engine.architecture == "qwen3_vl" else "mlp.down_proj.weight"
    name = next(n for n in weights if n.endswith(lost))
    del weights[name]
    with pytest.raises(EngineError, match="weight update to version 9 failed"):
        engine.sampler.update_weights(weights.items(), version=9)
    assert "the weight update lacks" in (engine.log_dir / "engine.log").read_text()
    with pytest.raises(EngineError, match="refuses to sample: the weight update to version 9 failed"):
        engine.sampler.sample([request], timeout=60)
    assert engine.sampler.policy_version == version


def test_startup_deadline_and_failure(build_model: ModelBuilder, tmp_path: Path) -> None:
    folder = build_model("qwen3")
    processor = PolicyProcessor.load(str(folder))

    def start(path: Path, timeout: float) -> None:
        config = SamplingConfig(threads=1, kv_cache_gb=0.25, startup_timeout_s=timeout)
        VllmSampler(EngineStart(str(path), config, "float32", 64, seed=0), processor, tmp_path)

    with pytest.raises(EngineError, match=r"vLLM did not start: .*engine\.log"):
        start(tmp_path / "nothing", 60)
    with pytest.raises(WaitTimeout, match="vLLM to start"):
        start(folder, 0.5)
    assert torch.get_num_threads() > 0
