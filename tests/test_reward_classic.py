"""The classic reward model: what it learns survives its folder, its process and whatever shares its batch."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.conftest import ModelBuilder
from vlrl.config.reward_models import ClassicRmConfig
from vlrl.errors import UserError, WaitTimeout
from vlrl.images import ImageRef
from vlrl.policy.architectures import SIZES
from vlrl.policy.packing import pack
from vlrl.policy.processor import join_media
from vlrl.rewards.models.classic import ClassicRewardModel
from vlrl.rewards.models.classic_settings import RewardInput
from vlrl.rewards.models.classic_verifier import ClassicRmVerifier
from vlrl.rewards.verifier import Submission
from vlrl.trajectory import Prompt

WORDS = ("red", "blue", "tall")
QUESTION = "Which one is it?"
LIMITS = {"batch_tokens": 4096, "max_tokens": 512}


def learn(model: ClassicRewardModel, rows: Sequence[tuple[RewardInput, bool]]) -> None:
    """Train until the rows are told apart."""
    documents = [model.encode(given) for given, _ in rows]
    batch = pack(documents, list(range(len(rows))), model.policy, model.processor)
    right = torch.tensor([float(correct) for _, correct in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(400):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            model(batch.inputs), right, weight=1 + right
        )
        if loss < 0.03:
            return
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    raise AssertionError(f"nothing learned: {loss}")


@pytest.fixture(scope="module")
def trained(build_model: ModelBuilder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that knows when the response names the reference."""
    model = ClassicRewardModel.init(str(build_model("qwen3_vl")), torch.float32)
    rows = [
        (RewardInput(QUESTION, truth, f"It is {word}."), word == truth) for truth in WORDS for word in WORDS
    ]
    learn(model, rows)
    folder = tmp_path_factory.mktemp("reward") / "model"
    model.save(folder)
    return folder


def config(path: Path, **settings: Any) -> ClassicRmConfig:
    return ClassicRmConfig(path=str(path), **({"threads": 1, "device": "cpu", "timeout_s": 60} | settings))


def submission(truth: str, word: str, images: list[ImageRef] | None = None) -> Submission:
    question = "<image>" * len(images or []) + QUESTION
    prompt = Prompt("row-1", [{"role": "user", "content": question}], images or [], "classic_rm", truth)
    return Submission(prompt, f"It is {word}.", f"It is {word}." if word else "")


@pytest.fixture(scope="module")
def verifier(trained: Path) -> Iterator[ClassicRmVerifier]:
    verifier = ClassicRmVerifier(config(trained))
    yield verifier
    verifier.close()


def test_a_trained_model_tells_right_from_wrong_in_its_own_process(verifier: ClassicRmVerifier) -> None:
    pairs = [(truth, word) for truth in WORDS for word in WORDS]
    given = [submission(*pair) for pair in pairs]
    verdicts = verifier.judge([*given, *given, submission("red", "")])
    told = [(v.reward, v.status, v.rule) for v in verdicts]
    right = [(1.0, "correct", "classic_rm") if a == b else (0.0, "wrong", "classic_rm") for a, b in pairs]
    assert told == [*right, *right, (0.0, "wrong", "empty")]
    metrics = verifier.metrics
    assert (metrics.submissions, metrics.scored, metrics.errors, metrics.starts) == (19, 9, 0, 1)
    assert verifier.extract("<think>x</think> It is red.", False) == "It is red."


def test_soft_rewards_are_the_probability_and_thresholds_move(trained: Path) -> None:
    model = ClassicRewardModel.load(str(trained), torch.float32)
    given = [RewardInput(QUESTION, "red", f"It is {word}.") for word in WORDS]
    expected = [score for _, score in model.score(given, **LIMITS)]
    verifier = ClassicRmVerifier(config(trained, soft=True, threshold=0.999999))
    verdicts = verifier.judge([submission("red", word) for word in WORDS])
    verifier.close()
    assert [v.status for v in verdicts] == ["wrong"] * 3
    assert [v.reward for v in verdicts] == pytest.approx(expected, abs=1e-5)
    assert verdicts[0].reward > 0.9 and max(v.reward for v in verdicts[1:]) < 0.1


def test_the_folder_is_a_checkpoint_with_two_files_more(trained: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText, AutoProcessor

    plain = AutoModelForImageTextToText.from_pretrained(trained)
    AutoProcessor.from_pretrained(trained)
    head = load_file(trained / "value_head.safetensors")
    assert {name: (tuple(t.shape), t.dtype) for name, t in head.items()} == {
        "weight": ((1, 64), torch.float32),
        "bias": ((1,), torch.float32),
    }
    settings = {"template": 1, "judged": "response", "threshold": 0.5, "takes_images": True}
    assert json.loads((trained / "reward_model.json").read_text()) == settings
    # By transformers alone: the token that ends the assistant's turn, read by the head.
    model = ClassicRewardModel.load(str(trained), torch.float32)
    document = model.encode(RewardInput(QUESTION, "red", "It is red."))
    text = model.processor.tokenizer.decode(document.ids)
    assert text.endswith("<|im_start|>assistant\nIt is red.<|im_end|>")
    assert f"{QUESTION}\n\nReference answer:\nred\n\n" in text
    with torch.no_grad():
        hidden = plain.model(input_ids=torch.tensor([document.ids])).last_hidden_state[0, -1]
    score = (hidden @ head["weight"][0] + head["bias"][0]).sigmoid().item()
    ((_, own),) = model.score([RewardInput(QUESTION, "red", "It is red.")], **LIMITS)
    assert own == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("architecture", list(SIZES))
def test_a_score_is_its_own_whatever_shares_its_batch(
    build_model: ModelBuilder, draw_image: Callable[..., ImageRef], architecture: str
) -> None:
    model = ClassicRewardModel.init(str(build_model(architecture)), torch.float32)
    generator = random.Random(0)
    given = []
    for index in range(24):
        images: tuple[ImageRef, ...] = ()
        if model.settings.takes_images and index % 3:
            images = tuple(draw_image(index % 4 + i, 40 + 8 * i, 32) for i in range(index % 3))
        question = "<image>" * len(images) + "How many squares? " * (1 + index % 4)
        # Neighbours share prompts now and then, as the rollouts of a group do.
        response = " ".join(generator.choices(WORDS, k=generator.randint(1, 40)))
        given += [RewardInput(question, "7", text, images) for text in (response, response + " 7")]
    alone = [score for one in given for _, score in model.score([one], **LIMITS)]
    assert all(isinstance(score, float) for score in alone)
    spread = torch.tensor(alone).std()
    for limit in (1, 200, 100_000):
        scores = dict(model.score(given, batch_tokens=limit, max_tokens=512))
        assert [scores[i] for i in range(len(given))] == pytest.approx(alone, abs=1e-5)
    order = generator.sample(range(len(given)), len(given))
    shuffled = dict(model.score([given[i] for i in order], **LIMITS))
    assert [shuffled[order.index(i)] for i in range(len(given))] == pytest.approx(alone, abs=1e-5)
    assert spread > 0.01


@pytest.mark.parametrize("architecture", ["qwen3_vl", "qwen2_5_vl", "idefics3"])
def test_images_count_and_are_those_of_transformers(
    build_model: ModelBuilder, draw_image: Callable[..., ImageRef], architecture: str
) -> None:
    from transformers import AutoModelForImageTextToText

    folder = str(build_model(architecture))
    model = ClassicRewardModel.init(folder, torch.float32)
    images = [draw_image(1), draw_image(2)]
    given = [RewardInput(f"<image>{QUESTION}", "red", "It is red.", (image,)) for image in images]
    scores = [score for _, score in model.score(given, **LIMITS)]
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    for one, score in zip(given, scores, strict=True):
        document = model.encode(one)
        media = join_media([model.processor.image_inputs(image) for image in one.images])
        ids = torch.tensor([document.ids])
        positions = model.policy.positions(ids[0], [media])
        with torch.no_grad():
            hidden = plain.model(
                input_ids=ids, position_ids=positions.unsqueeze(-2), **media
            ).last_hidden_state[0, -1]
            expected = model.head(hidden).sigmoid().item()
        assert score == pytest.approx(expected, abs=1e-5)
    assert abs(scores[0] - scores[1]) > 1e-4  # type: ignore[operator]


def test_what_is_too_long_or_gone_is_an_error_and_its_neighbours_are_scored(
    trained: Path, draw_image: Callable[..., ImageRef], tmp_path: Path
) -> None:
    image = draw_image(5)
    path = tmp_path / "gone.png"
    shutil.copy(image.path, path)
    gone = ImageRef(image.sha256, str(path), image.width, image.height)
    path.unlink()
    verifier = ClassicRmVerifier(config(trained, max_tokens=120))
    given = [
        submission("red", "red"),
        submission("red", "red " * 100),
        submission("red", "red", [gone]),
        submission("red", "blue"),
    ]
    verdicts = verifier.judge(given)
    assert [v.status for v in verdicts] == ["correct", "grader_error", "grader_error", "wrong"]
    assert verdicts[1].rule.startswith("too_long: ") and "max_tokens is 120" in verdicts[1].rule
    assert "cannot be read any more" in verdicts[2].rule and verifier.metrics.errors == 2
    verifier.close()


def test_a_process_that_hangs_is_killed_and_one_that_died_is_replaced(trained: Path) -> None:
    before = set(psutil.Process().children())

    def started() -> set[psutil.Process]:
        return set(psutil.Process().children()) - before

    verifier = ClassicRmVerifier(config(trained, timeout_s=1.0))
    given = [submission("red", "red")]
    assert verifier.judge(given)[0].status == "correct"
    (child,) = started()
    child.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    (verdict,) = verifier.judge(given)
    assert (verdict.reward, verdict.status) == (0.0, "infra_error") and verdict.rule.startswith("timeout")
    assert time.monotonic() - began < 5 and not child.is_running()
    assert verifier.judge(given)[0].status == "correct" and verifier.metrics.starts == 2
    # In the middle of a batch, and then between batches.
    (child,) = started()
    child.send_signal(signal.SIGSTOP)
    threading.Timer(0.3, child.kill).start()
    (verdict,) = verifier.judge(given)
    assert verdict.status == "infra_error" and verdict.rule.startswith("died")
    assert verifier.judge(given)[0].status == "correct"
    (child,) = started()
    child.kill()
    time.sleep(0.2)
    assert verifier.judge(given)[0].status == "correct" and verifier.metrics.starts == 4
    verifier.close()
    verifier.close()
    assert not started()


HOLD = """
import sys, time
from vlrl.config.reward_models import ClassicRmConfig
from vlrl.rewards.models.classic_client import ClassicProcess
from vlrl.rewards.models.classic_settings import RewardInput
process = ClassicProcess(ClassicRmConfig(path=sys.argv[1], threads=1, device="cpu"))
print(process.score([RewardInput("a", "b", "c")]), process._process.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_trainer_leaves_no_model_behind(trained: Path) -> None:
    trainer = subprocess.Popen([sys.executable, "-c", HOLD, str(trained)], stdout=subprocess.PIPE)
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline().split()[-1])
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait(10)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_no_reward_model_is_refused(
    trained: Path, build_model: ModelBuilder, draw_image: Callable[..., ImageRef], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no reward model there \(reward_model.json is missing\)"):
        ClassicRmVerifier(config(build_model("qwen3")))
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    (broken / "value_head.safetensors").write_bytes(b"1234")
    verifier = ClassicRmVerifier(config(broken))
    with pytest.raises(UserError, match=r"value_head.safetensors: not this model's value head"):
        verifier.judge([submission("red", "red")])
    verifier.close()
    (broken / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"reward model {broken}: not a loadable checkpoint"):
        ClassicRewardModel.load(str(broken), torch.float32)
    settings = json.loads((trained / "reward_model.json").read_text())
    for other in ({"template": 99}, {"judged": "style"}, {"threshold": 2.0}, {"more": 1}):
        (broken / "reward_model.json").write_text(json.dumps(settings | other))
        with pytest.raises(UserError, match="not the settings of a reward model"):
            ClassicRmVerifier(config(broken))
    text = tmp_path / "text"
    ClassicRewardModel.init(str(build_model("qwen3")), torch.float32).save(text)
    with pytest.raises(UserError, match=r"row 'row-1': the row has images and .* takes text only"):
        ClassicRmVerifier(config(text)).check(submission("red", "red", [draw_image(1)]).prompt)
    slow = ClassicRmVerifier(config(trained, startup_timeout_s=0.01))
    with pytest.raises(WaitTimeout, match=r"the reward model .* to load"):
        slow.judge([submission("red", "red")])
