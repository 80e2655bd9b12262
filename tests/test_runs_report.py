"""The report and `show`, over a run directory made by the real writers."""

import io
import json
import math
import random
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from vlrl.config import RunConfig, build_config
from vlrl.errors import UserError
from vlrl.images import ImageRef, ImageStore
from vlrl.runs.checkpoints import save_checkpoint
from vlrl.runs.directory import RunDirectory
from vlrl.runs.metrics import MetricsLog
from vlrl.runs.report import write_report
from vlrl.runs.report_rollouts import choose_prompts, split_thinking
from vlrl.runs.rollouts import read_sources, write_rollouts
from vlrl.runs.show import show
from vlrl.runs.svg import MAX_POINTS, Series, line_chart, nice_ticks, thin
from vlrl.runs.validation_files import HELD_OUT, rollouts_path, summarise, write_validation
from vlrl.trajectory import Group, Prompt, Rollout, Segment, Verdict

HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>"
SUMMARY = {
    "sft_accuracy": 0.41,
    "rl_accuracy": 0.86,
    "rl_accuracy_ci": [0.83, 0.885],
    "blank_image_accuracy": 0.07,
    "text_accuracy": 0.91,
    "rl_steps": 60,
    "seconds": {"data": 12.0, "sft": 320.0, "rl": 545.0, "validation": 41.0},
}


def synthetic_config(tmp_path: Path) -> RunConfig:
    source = {"recipe": "charts", "rows": 8}
    tree = {
        "name": "synthetic",
        "runs_dir": str(tmp_path),
        "stages": ["sft", "rl"],
        "policy": {"init": {"architecture": "qwen3_vl"}},
        "data": {"warmup": [source], "train": [source], "validation": [source]},
        "sft": {"steps": 400},
        "rl": {"steps": 60, "max_prompt_tokens": 128, "max_response_tokens": 64},
    }
    return build_config(tree, "synthetic")


def drawing(store: ImageStore, seed: int) -> ImageRef:
    draw_from = random.Random(seed)
    image = Image.new("RGB", (160, 112), "white")
    pen = ImageDraw.Draw(image)
    for bar in range(5):
        height = draw_from.randint(15, 90)
        shade = (60 + 30 * bar, 110, 220 - 30 * bar)
        pen.rectangle([12 + 29 * bar, 104 - height, 32 + 29 * bar, 104], fill=shade)
    data = io.BytesIO()
    image.save(data, format="PNG")
    return store.put(data.getvalue(), "drawing")


def held_out_groups(store: ImageStore, skill: float, prompts: int = 24, samples: int = 4) -> list[Group]:
    """Prompts that depend on their index only; verdicts by `skill`."""
    groups = []
    for index in range(prompts):
        source = ("charts", "arithmetic", "counting")[index % 3]
        images = [drawing(store, index)] if source != "counting" else [drawing(store, index)] * 2
        question = "<image>" * len(images) + f"What is the sum of the bars in drawing {index}?"
        prompt = Prompt(
            f"p{index:03d}", [{"role": "user", "content": question}], images, "math", "42", source
        )
        draws = random.Random(f"{skill}-{index}")
        rollouts = []
        for sample in range(samples):
            right = draws.random() < skill
            status = "correct" if right else draws.choice(["wrong", "wrong", "truncated", "no_answer"])
            given = "42" if right else "17"
            text = (
                f"<think>\nRead the bars one by one: {HOSTILE}\n</think>\nThe answer is \\boxed{{{given}}}."
            )
            ids = list(range(20 + 10 * sample))
            segment = Segment(ids, [-0.5] * len(ids), 3, [1] * len(ids), "stop")
            verdict = Verdict(float(right), status, given if status != "no_answer" else None, "exact")
            rollouts.append(Rollout(prompt.id, sample, [1, 2, 3], [segment], images, text, verdict))
        groups.append(Group(prompt, rollouts))
    return groups


def synthetic_run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.create(tmp_path / "synthetic", synthetic_config(tmp_path), ["vlrl", "train", HOSTILE])
    store = ImageStore(run.images)
    noise = random.Random(0)
    for name, steps in (("sft", 400), ("rl", 60)):
        stage = run.stage(name)
        with MetricsLog(stage, None, tensorboard=False) as log:
            for step in range(1, steps + 1):
                share = step / steps
                metrics = {
                    "loss": 3 * math.exp(-4 * share) + 0.1 * noise.random(),
                    "lr": 1e-3 * (1 - share),
                    "grad_norm": float("nan") if step == 3 else 1 + noise.random(),
                }
                if name == "rl":
                    rewards = {s: 0.3 + 0.5 * share + 0.1 * noise.random() for s in ("charts", "counting")}
                    metrics |= {"reward/mean": sum(rewards.values()) / 2, "entropy": 1.2 - share}
                    metrics |= {f"reward/source/{s}": r for s, r in rewards.items()}
                    metrics |= {"response_tokens": 40 + 10 * share, "kl": share / 50}
                log.log(step, metrics, {"seconds": 0.5 + noise.random() / 5, "tokens_per_s": 4000.0})
        skills = {"sft": {400: 0.4}, "rl": {0: 0.4, 20: 0.6, 40: 0.75, 60: 0.9}}[name]
        for step, skill in skills.items():
            groups = held_out_groups(store, skill)
            write_validation(stage, summarise(step, HELD_OUT, groups), groups)
        with save_checkpoint(stage.checkpoints, steps, keep=2) as scratch:
            (scratch / "model.safetensors").write_bytes(b"weights")
    blank = held_out_groups(store, 0.05)
    write_validation(run.stage("rl"), summarise(60, "blank_images", blank), blank)
    write_rollouts(run.stage("rl").rollouts(60), 60, held_out_groups(store, 0.9)[:4])
    return run


class Page(HTMLParser):
    """Collects the tags and attributes that a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_report_holds_everything_and_asks_for_nothing(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path)
    write_report(run, SUMMARY)
    run.finish()
    text = run.report_html.read_text()
    page = Page(text)
    assert json.loads(run.report_json.read_text()) == SUMMARY
    assert not page.all("script") and not page.all("link")
    images = page.all("img")
    # Twelve prompts, the four of `counting` with two images each; the shortest and the longest winner.
    assert len(images) == 12 + 4 + 2
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in images)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not any("href" in attributes for _, attributes in page.tags)
    responses = [a for a in page.all("section") if a.get("class") == "response"]
    assert len(responses) == 24 + 2
    assert "the shortest that is correct: 20 tokens, reward 1" in text
    assert "alert(&#x27;x&#x27;)" in text
    assert "86.0 %" in text and "15:18 min" in text and "blank images" in text

    # One of RL's accuracy; loss, lr, gradient and two timings of SFT; the same and six metrics of RL.
    assert len(page.all("svg")) == 1 + 5 + 11


def test_the_curves_that_matter_stand_before_the_fold(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "synthetic", synthetic_config(tmp_path), ["vlrl"])
    names = ["lr", "reward", "accuracy", "accuracy/charts", "segments", "collapse", "truncation_rate"]
    with MetricsLog(run.stage("rl"), None, tensorboard=False) as log:
        for step in (1, 2):
            log.log(step, dict.fromkeys(names, float(step)))
    write_report(run, {})
    curves = run.report_html.read_text().split("training curves")[1]
    places = {name: curves.index(f"<header><span>{name}</span>") for name in names}
    assert sorted(places, key=places.__getitem__) == [
        *("reward", "accuracy", "truncation_rate", "collapse", "lr"),
        *("accuracy/charts", "segments"),
    ]
    fold = curves.index("<details")
    assert places["lr"] < fold < places["accuracy/charts"]


def test_report_of_a_run_that_was_killed_early(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "synthetic", synthetic_config(tmp_path), ["vlrl"])
    write_report(run, {"sft_accuracy": None, "seconds": {}})
    assert "<h1>synthetic" in run.report_html.read_text()
    groups = held_out_groups(ImageStore(run.images), 0.4)
    write_validation(run.stage("sft"), summarise(0, HELD_OUT, groups), groups)
    write_report(run, {})
    page = Page(run.report_html.read_text())
    assert len([a for a in page.all("section") if a.get("class") == "response"]) == 12


def test_report_finds_images_of_a_moved_run(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path)
    run.finish()
    moved = run.root.rename(tmp_path / "elsewhere")
    write_report(RunDirectory.open(moved), SUMMARY)
    assert len(Page((moved / "report.html").read_text()).all("img")) == 18


def test_report_says_which_image_is_gone(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path)
    for path in run.images.rglob("*.png"):
        path.unlink()
    write_report(run, SUMMARY)
    text = run.report_html.read_text()
    assert not Page(text).all("img") and text.count("cannot be read any more") == 18


def test_prompts_are_chosen_evenly_and_blindly(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    chosen = []
    for name, skill in (("good", 1.0), ("bad", 0.0)):
        groups = held_out_groups(store, skill)
        write_rollouts(tmp_path / name, 0, groups if name == "good" else groups[::-1])
        chosen.append(choose_prompts(read_sources(tmp_path / name)))
    assert chosen[0] == chosen[1]
    sources = [read_sources(tmp_path / "good")[prompt_id] for prompt_id in chosen[0]]
    assert sources == ["arithmetic", "charts", "counting"] * 4
    assert len(set(chosen[0])) == 12 and chosen[0] != sorted(chosen[0])
    assert choose_prompts({"a": "x", "b": "y", "c": "y"}) in (["a", "b", "c"], ["a", "c", "b"])


def test_thinking_is_split_off() -> None:
    assert split_thinking("<think>\na\n</think>\n\nb") == ("a", "b", True)
    assert split_thinking("a</think>b") == ("a", "b", True)
    assert split_thinking("<think>a") == ("a", "", False)
    assert split_thinking("b") == (None, "b", True)


def test_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0, 1) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert nice_ticks(3, 3) == [3]
    for low, high in ((-1e-7, 3e-7), (0.13, 812), (-5, 5)):
        ticks = nice_ticks(low, high)
        assert 2 <= len(ticks) <= 6 and low <= ticks[0] and ticks[-1] <= high * 1.0001


def test_chart_leaves_a_gap_for_missing_values_and_thins_long_series() -> None:
    gap = line_chart([Series("x", [(0, 1.0), (1, None), (2, 3.0), (3, 2.0)])])
    (path,) = [a["d"] for a in Page(gap).all("path")]
    assert path is not None and path.count("M") == 2 and path.count("L") == 1
    long = thin([(x, float(x % 2)) for x in range(10_000)])
    assert len(long) <= MAX_POINTS and all(y == pytest.approx(0.5) for _, y in long)
    assert "no values" in line_chart([Series("x", [(0, None)])])


def printed(run_dir: Path) -> str:
    out = io.StringIO()
    show(run_dir, Console(file=out, width=140))
    return out.getvalue()


def test_show_of_running_finished_and_broken_runs(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path)
    text = printed(run.root)
    assert "running" in text and "rl  step 60 of 60" in text and "checkpoints: 60" in text
    assert "after RL, blank_images" in text and "<script>alert" in text and "reward/mean" in text
    assert "at step 60 (kept, the newest)" in text
    run.finish()
    assert "finished" in printed(run.root)
    for path in run.stage("rl").validation.glob("*.json"):
        path.write_text("{")
    text = printed(run.root)
    assert "not JSON" in text and "after SFT" in text
    with pytest.raises(UserError, match="not a run directory"):
        show(tmp_path)


def test_show_of_a_failed_run_says_why(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "synthetic", synthetic_config(tmp_path), ["vlrl"])
    run.fail("disk [full] at step 3")
    text = printed(run.root)
    assert "failed" in text and "disk [full] at step 3" in text and "no stage has begun" in text


def test_show_survives_missing_rollouts(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path)
    stage = run.stage("rl")
    result = summarise(60, HELD_OUT, held_out_groups(ImageStore(run.images), 0.9))
    rollouts_path(stage, result).unlink()
    assert "cannot be read as rollouts" in printed(run.root)
