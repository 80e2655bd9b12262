"""The command line as a person meets it: a mistake is one line and exit code 2, and leaves nothing behind."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from vlrl import launch
from vlrl.cli import main
from vlrl.config import load_config
from vlrl.errors import EngineError, UserError, WaitTimeout
from vlrl.runs.directory import RunDirectory

ROOT = Path(__file__).parents[1]
BuildModel = Callable[..., Path]


@dataclass
class Workplace:
    """A folder with a checkpoint, a picture, three good rows and a config that trains on them."""

    folder: Path
    model: Path
    capture: pytest.CaptureFixture[str]
    rows: list[dict[str, object]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "rows.jsonl"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "work"

    def prepare(self) -> "Workplace":
        Image.new("RGB", (40, 24), "white").save(self.folder / "white.png")
        self.rows = [{"image": "white.png", "question": f"What is {i}?", "answer": str(i)} for i in range(3)]
        self.write_rows()
        self.config.write_text(
            f"""
name: work
runs_dir: {self.folder / "runs"}
policy: {{path: {self.model}}}
data: {{train: [{{path: {self.data}}}]}}
rl: {{steps: 1, prompts_per_step: 2, rollouts_per_prompt: 2, max_prompt_tokens: 64, max_response_tokens: 8}}
sampling: {{engine: transformers}}
trainer: {{dtype: float32, zero_stage: 0, tokens_per_micro_batch: 256, threads: 1}}
"""
        )
        return self

    def write_rows(self) -> None:
        self.data.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def refused(self, *arguments: str) -> str:
        """Train; it must be refused in one line, with exit code 2, and leave no run behind."""
        self.capture.readouterr()
        assert main(["train", str(self.config), *arguments]) == 2
        lines = self.capture.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("vlrl: "), lines
        assert not self.run.exists()
        return lines[0]


@pytest.fixture
def work(tmp_path: Path, build_model: BuildModel, capsys: pytest.CaptureFixture[str]) -> Workplace:
    return Workplace(tmp_path, build_model("qwen3_vl"), capsys).prepare()


def test_unknown_key(work: Workplace) -> None:
    assert "config.yaml: unknown key 'rl.stepz'; did you mean 'steps'?" in work.refused("rl.stepz=3")


def test_batch_that_does_not_divide(work: Workplace) -> None:
    assert "rl.prompts_per_step (2) must be a multiple" in work.refused("rl.updates_per_step=3")


def test_missing_config(work: Workplace) -> None:
    work.config.unlink()
    assert "config.yaml: cannot be read" in work.refused()


def test_missing_checkpoint(work: Workplace) -> None:
    missing = work.folder / "nowhere"
    assert f"policy.path {missing}: no such folder" in work.refused(f"policy.path={missing}")


def test_folder_that_is_no_checkpoint(work: Workplace) -> None:
    (work.folder / "empty").mkdir()
    assert "not a loadable checkpoint" in work.refused(f"policy.path={work.folder / 'empty'}")


def test_checkpoint_without_weights(work: Workplace) -> None:
    copy = Path(shutil.copytree(work.model, work.folder / "copy"))
    for path in copy.glob("*.safetensors"):
        path.unlink()
    assert f"policy.path {copy}: not a loadable checkpoint" in work.refused(f"policy.path={copy}")


def _damage(copy: Path, kind: str) -> None:
    weights = copy / "model.safetensors"
    if kind == "cut short":
        weights.write_bytes(weights.read_bytes()[:20_000])
        return
    tensors = load_file(weights)
    for name in [n for n in tensors if ".layers.0." in n and "visual" not in n]:
        whole = tensors.pop(name)
        if kind == "of another shape":
            tensors[name] = whole[:-1].clone()
    save_file(tensors, weights, {"format": "pt"})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cut short", "a safetensors file is damaged or cut short"),
        ("not there", "are not there: model.language_model.layers.0.input_layernorm.weight, "),
        ("of another shape", "are of another shape: model.language_model.layers.0.input_layernorm.weight, "),
    ],
)
def test_checkpoint_with_damaged_weights(work: Workplace, kind: str, expected: str) -> None:
    copy = Path(shutil.copytree(work.model, work.folder / "copy"))
    _damage(copy, kind)
    line = work.refused(f"policy.path={copy}")
    assert f"policy.path {copy}: " in line and expected in line


def test_checkpoint_in_the_users_home(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is only found once the weights are loaded is the first mistake."""
    monkeypatch.setenv("HOME", str(work.model.parent))
    path = f"policy.path=~/{work.model.name}"
    assert "nothing is left to train" in work.refused(path, "policy.freeze=[vision, projector, language]")
    config, run = load_config(work.config, [path]), RunDirectory(work.run)
    assert launch.prepare_policy(config, run, {}) == str(work.model)


def test_checkpoint_without_chat_template(work: Workplace) -> None:
    copy = Path(shutil.copytree(work.model, work.folder / "copy"))
    (copy / "chat_template.jinja").unlink()
    assert f"policy.path {copy}: the checkpoint has no chat template" in work.refused(f"policy.path={copy}")


def test_missing_data_file(work: Workplace) -> None:
    work.data.unlink()
    assert f"{work.data}: no such file" in work.refused()


def test_data_file_without_rows(work: Workplace) -> None:
    work.data.write_text("\n")
    assert f"{work.data}: no rows" in work.refused()


def test_bad_json_line(work: Workplace) -> None:
    work.data.write_text('{"question": "1?", "answer": "1"}\n{"question": \n')
    assert f"{work.data} line 2: not JSON" in work.refused()


def test_text_that_is_not_utf8(work: Workplace) -> None:
    work.data.write_bytes(b'{"question": "\xff?", "answer": "1"}\n')
    assert f"{work.data} line 1: not UTF-8" in work.refused()


def test_parquet_that_is_none(work: Workplace) -> None:
    path = work.folder / "rows.parquet"
    path.write_bytes(b"not parquet")
    assert f"{path}: not a parquet file" in work.refused(f"data.train=[{{path: {path}}}]")


def test_rows_past_the_cap_are_not_read(work: Workplace) -> None:
    del work.rows[2]["answer"]
    work.write_rows()
    assert f"{work.data} row 3: needs an answer" in work.refused()
    # With the cap, something that is only looked at later is the first mistake.
    line = work.refused(
        f"data.train=[{{path: {work.data}, rows: 2}}]", "policy.freeze=[vision, projector, language]"
    )
    assert "nothing is left to train" in line


def test_row_without_answer(work: Workplace) -> None:
    del work.rows[1]["answer"]
    work.write_rows()
    assert f"{work.data} row 2: needs an answer" in work.refused()


def test_images_and_markers_that_differ(work: Workplace) -> None:
    work.rows[2]["question"] = "<image><image> Which is larger?"
    work.write_rows()
    assert f"{work.data} row 3: 2 <image> markers but 1 images" in work.refused()


def test_missing_image(work: Workplace) -> None:
    work.rows[1]["image"] = "gone.png"
    work.write_rows()
    line = work.refused()
    assert f"{work.data} row 2: cannot read image" in line and "gone.png" in line


@pytest.mark.parametrize("kind", ["truncated", "empty", "huge", "text"])
def test_bad_image(work: Workplace, kind: str) -> None:
    path = work.folder / "bad.png"
    if kind == "huge":
        Image.new("1", (10_000, 10_000)).save(path)
    else:
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(
            {"truncated": path.read_bytes()[:2000], "empty": b"", "text": b"not a picture"}[kind]
        )
    work.rows[1]["image"] = "bad.png"
    work.write_rows()
    line = work.refused()
    assert f"{work.data} row 2: image {path}" in line
    expected = {
        "truncated": "not a whole image",
        "empty": "the file is empty",
        "huge": "10000x10000 is over the limit of 64 megapixels",
        "text": "not a whole image",
    }
    assert expected[kind] in line


def test_prompt_longer_than_allowed(work: Workplace) -> None:
    work.rows[1] |= {"question": "word " * 300}
    work.write_rows()
    line = work.refused()
    assert f"{work.data} row 2: the prompt has" in line and "over rl.max_prompt_tokens = 64" in line


def test_level_that_a_curriculum_cannot_compare(work: Workplace) -> None:
    work.rows[0]["extra_info"] = {"level": "2"}
    work.rows[1]["extra_info"] = {"level": "hard"}
    work.write_rows()
    # Found before the warm-up and before the engine starts.
    warmup = work.folder / "warmup.jsonl"
    messages = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "\\boxed{1}"}]
    warmup.write_text(json.dumps({"messages": messages}))
    line = work.refused(
        "stages=[sft, rl]",
        f"data.warmup=[{{path: {warmup}}}]",
        "sft.steps=1",
        "rl.prompts.curriculum={uniform_steps: 1, hard_level: 2}",
    )
    assert f"{work.data} row 2: extra_info.level 'hard' must be an integer" in line
    assert "rl.prompts.curriculum.hard_level" in line


ALTERNATE = """{%- for message in messages -%}
{%- if (message.role == "user") != (loop.index0 % 2 == 0) -%}
{{ raise_exception("Conversation roles must alternate") }}
{%- endif -%}
{%- endfor -%}
"""


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_messages_that_the_chat_template_refuses(work: Workplace, stage: str) -> None:
    copy = Path(shutil.copytree(work.model, work.folder / "copy"))
    template = copy / "chat_template.jinja"
    template.write_text(ALTERNATE + template.read_text())
    good, more = {"role": "user", "content": "1?"}, {"role": "assistant", "content": "\\boxed{1}"}
    rows: list[dict[str, object]] = []
    for messages in ([good], [good, good]):
        rows.append(
            {"messages": [*messages, more]} if stage == "sft" else {"prompt": messages, "answer": "1"}
        )
    work.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    part = {"sft": "warmup", "rl": "train"}[stage]
    line = work.refused(
        f"policy.path={copy}",
        f"stages=[{stage}]",
        f"data.{part}=[{{path: {work.data}}}]",
        "sft.steps=1",
        "sft.max_tokens=64",
    )
    assert f"{work.data} row 2: the chat template refuses these messages" in line
    assert "(Conversation roles must alternate)" in line


def test_chat_template_that_cannot_be_used(work: Workplace) -> None:
    copy = Path(shutil.copytree(work.model, work.folder / "copy"))
    (copy / "chat_template.jinja").write_text("{% if %}")
    line = work.refused(f"policy.path={copy}")
    assert f"policy.path {copy}: the chat template refuses" in line


def test_config_longer_than_the_checkpoint_can_read(work: Workplace) -> None:
    line = work.refused("rl.max_response_tokens=9000", "trainer.tokens_per_micro_batch=16384")
    assert "8192" in line and "9064" in line


def test_context_length_that_does_not_hold_a_rollout(work: Workplace) -> None:
    assert "policy.context_length (70) must hold" in work.refused("policy.context_length=70")


def test_bad_rl_row_is_found_before_the_warm_up(work: Workplace) -> None:
    warmup = work.folder / "warmup.jsonl"
    messages = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "\\boxed{1}"}]
    warmup.write_text(json.dumps({"messages": messages}))
    del work.rows[1]["answer"]
    work.write_rows()
    line = work.refused("stages=[sft, rl]", f"data.warmup=[{{path: {warmup}}}]", "sft.steps=1")
    assert f"{work.data} row 2: needs an answer" in line


def test_unknown_recipe(work: Workplace) -> None:
    assert "chartz" in work.refused("data.train=[{recipe: chartz, rows: 3}]")


def existing_run(work: Workplace) -> None:
    run = RunDirectory.create(work.run, load_config(work.config), ["vlrl"])
    run.fail("a test")


def test_run_that_exists(work: Workplace) -> None:
    existing_run(work)
    before = sorted(work.run.rglob("*"))
    assert main(["train", str(work.config)]) == 2
    assert "holds a failed run already; resume it" in work.capture.readouterr().err
    assert sorted(work.run.rglob("*")) == before


def test_resume_with_changed_config(work: Workplace) -> None:
    existing_run(work)
    before = (work.run / "config.yaml").read_bytes()
    overrides = ["rl.optimizer.lr=3e-5", "objective.name=grpo", "rl.steps=9"]
    assert main(["train", str(work.config), *overrides, "--resume"]) == 2
    line = work.capture.readouterr().err
    assert (
        "cannot resume with a changed config (rl.optimizer.lr, objective" in line and "rl.steps" not in line
    )
    assert (work.run / "config.yaml").read_bytes() == before


def test_resume_without_a_run(work: Workplace) -> None:
    assert "not a run directory" in work.refused("--resume")


@pytest.mark.parametrize(
    ("error", "step_done", "kept"),
    [
        (ZeroDivisionError("a bug"), False, False),
        (ZeroDivisionError("a bug"), True, True),
        (UserError("a mistake"), True, True),
        (EngineError("the engine failed; see logs/engine.log"), False, True),
        (WaitTimeout("the engine", 1), False, True),
        (KeyboardInterrupt(), False, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_run_that_failed_without_a_result_is_not_in_the_way(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, error: BaseException, step_done: bool, kept: bool
) -> None:
    def train(config: object, run: RunDirectory, *_: object) -> None:
        run.stage("rl").root.mkdir()
        run.stage("rl").metrics.write_text('{"step": 1}\n' if step_done else "")
        raise error

    monkeypatch.setattr("vlrl.training.run.train", train)
    with suppress(ZeroDivisionError):
        assert main(["train", str(work.config)]) != 0
    assert work.run.exists() == kept
    if kept:
        assert RunDirectory.open(work.run).state() == "failed"


@pytest.mark.parametrize("place", [".", "mine"])
def test_a_folder_that_was_there_stays_when_a_run_is_refused(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    work.data.unlink()
    (work.folder / "empty" / "mine").mkdir(parents=True)
    monkeypatch.chdir(work.folder / "empty" / ("mine" if place == "." else "."))
    assert f"{work.data}: no such file" in work.refused("--run-dir", place)
    assert [p.name for p in (work.folder / "empty").rglob("*")] == ["mine"]


@pytest.mark.parametrize("home", ["/proc/nope", "below a file"])
def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    if home == "below a file":
        (tmp_path / "file").write_text("in the way")
        home = str(tmp_path / "file")
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    launch.set_environment(threads=1)
    folder = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    assert folder.parent == tmp_path and os.access(folder, os.W_OK)


def test_show_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path / "none")]) == 2
    assert "not a run directory" in capsys.readouterr().err


def test_init_model_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    for arguments, expected in (
        (["init-model"], "name the folder to write"),
        (["init-model", str(tmp_path)], "exists already"),
        (["init-model", str(tmp_path / "file")], "exists already"),
        (["init-model", str(tmp_path / "new"), "--architecture", "qwen9"], "qwen9"),
        (["init-model", str(tmp_path / "new"), "--size", "vast"], "vast"),
        (["init-model", str(tmp_path / "new"), "--corpus", str(tmp_path / "none")], "cannot be read"),
    ):
        assert main(arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and expected in lines[0]
        assert not (tmp_path / "new").exists()


NANO = ["--size", "nano", "--architecture", "qwen3"]


def test_init_model_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in ("/proc/nope", str(tmp_path / "file" / "below"), str(tmp_path / "file" / "below" / "it")):
        assert main(["init-model", place, *NANO]) == 2
        line = capsys.readouterr().err.strip()
        assert line.startswith(f"vlrl: {place}: cannot be written (") and "\n" not in line
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("place", ["new", "below/new", "empty", "."])
def test_init_model_writes_whole_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "work" / "empty").mkdir(parents=True)
    if place == ".":
        (tmp_path / "work" / "empty").rmdir()
    monkeypatch.chdir(tmp_path / "work")
    assert main(["init-model", place, *NANO]) == 0
    names = {path.name for path in Path(place).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not list((tmp_path / "work").rglob("*.tmp"))


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("limit", [100, 100_000])
def test_init_model_on_a_full_disk(tmp_path: Path, limit: int, exists: bool) -> None:
    """First the config does not fit, then the weights do not; nothing of it is left."""
    out = tmp_path / "model"
    if exists:
        out.mkdir()
    command = [sys.executable, "-c", FULL_DISK, str(limit), "init-model", str(out), *NANO]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"disk full while writing {out}; free space" in done.stderr
    assert list(tmp_path.rglob("*")) == ([out] if exists else [])


def test_dry_run_starts_nothing(work: Workplace) -> None:
    assert main(["train", str(work.config), "rl.steps=3", "--dry-run", "seed=5"]) == 0
    out = work.capture.readouterr().out
    assert "seed: 5\n" in out and "#   optimizer_steps: 3" in out
    assert not (work.folder / "runs").exists()


def test_data_make_writes_rows_that_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shapes.jsonl"
    assert main(["data", "list"]) == 0
    assert "shapes" in capsys.readouterr().out
    assert main(["data", "make", "shapes", str(out), "--rows", "3"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 3 and all(Path(row["images"][0]).is_file() for row in rows)
    assert main(["data", "make", "shapez", str(tmp_path / "none.jsonl")]) == 2
    assert not (tmp_path / "none.jsonl").exists()
    assert main(["data", "make", "shapes", str(out), "--rows", "0"]) == 2


def test_readme_shows_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "README.md").read_text()
    example = (ROOT / "configs/examples/own_data.yaml").read_text()
    shown = readme.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load(example)
    rows = (ROOT / "configs/examples/own_data/rows.jsonl").read_text().splitlines()
    shown_rows = [line for line in readme.splitlines() if line.startswith('{"image"')]
    assert len(shown_rows) == 3 and set(shown_rows) < set(rows) and len(rows) == 20
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (ROOT / target).exists(), target
    for line in readme.splitlines():
        if line.startswith("vlrl train "):
            command = shlex.split(line, comments=True)[1:]
            assert main([*command, *([] if "--dry-run" in command else ["--dry-run"])]) == 0


def test_own_rows_train_end_to_end(tmp_path: Path) -> None:
    """The README's example: twenty rows, a config under 40 lines, one command, from the repository root."""
    config = ROOT / "configs/examples/own_data.yaml"
    assert len(config.read_text().splitlines()) < 40
    run = tmp_path / "run"
    command = [sys.executable, "-m", "vlrl.cli", "train", "configs/examples/own_data.yaml"]
    # Tests before this one may have joined a process group, whose address is in the environment.
    group = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in group}
    done = subprocess.run(
        [*command, "--run-dir", str(run), "trainer.threads=1"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    metrics = [json.loads(line) for line in (run / "rl/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5]
    assert (run / "report.html").is_file()

    import pyarrow.parquet as parquet
    from transformers import AutoModelForImageTextToText

    seen = set()
    for step in range(1, 6):
        table = parquet.read_table(run / f"rl/rollouts/step_{step:06d}.parquet")
        seen |= set(table.column("prompt_id").to_pylist())
    assert len(seen) == 20
    AutoModelForImageTextToText.from_pretrained(run / "rl/checkpoints/step_000005/policy")


def test_a_run_directory_that_cannot_be_written(work: Workplace) -> None:
    (work.folder / "file").write_text("in the way")
    capture = work.capture
    for place in (work.folder / "file", work.folder / "file" / "below"):
        capture.readouterr()
        assert main(["train", str(work.config), "--run-dir", str(place)]) == 2
        line = capture.readouterr().err.strip()
        assert line.startswith(f"vlrl: {place}: ") and "\n" not in line
    assert (work.folder / "file").read_text() == "in the way"


MAKE = ["data", "make", "charts"]


def test_data_make_replaces_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    assert main([*MAKE, str(out), "--rows", "2"]) == 0
    before = out.read_text()
    assert main([*MAKE, str(out), "--rows", "3"]) == 2
    assert "exists already; choose another name or add --force" in capsys.readouterr().err
    assert out.read_text() == before
    assert main([*MAKE, str(out), "--rows", "3", "--force"]) == 0
    assert len(out.read_text().splitlines()) == 3


def test_data_make_writes_jsonl_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MAKE, str(tmp_path / "rows.parquet"), "--rows", "2"]) == 2
    assert "must end in .jsonl" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_data_make_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main([*MAKE, str(tmp_path / "file" / "rows.jsonl"), "--rows", "2"]) == 2
    assert "cannot be written (Not a directory)" in capsys.readouterr().err


FULL_DISK = """
import resource, signal, sys
from vlrl.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("limit", "named"), [(100, "_images"), (20_000, "rows.jsonl")])
def test_data_make_on_a_full_disk(tmp_path: Path, limit: int, named: str) -> None:
    """A limit on the size of files stands for the disk: first no image fits, then the rows do not."""
    command = [sys.executable, "-c", FULL_DISK, str(limit), *MAKE, str(tmp_path / "rows.jsonl")]
    done = subprocess.run([*command, "--rows", "40"], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "disk full while writing" in done.stderr and named in done.stderr
    assert not (tmp_path / "rows.jsonl").exists() and not (tmp_path / "rows.tmp").exists()
