import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from data_recipes import glyphs
from data_recipes.arithmetic import expression
from data_recipes.base import Example, content_hash, is_held_out
from data_recipes.build import (
    RECIPES,
    build_conversations,
    build_prompts,
    examples,
    get_recipe,
    list_recipes,
    materialise,
)
from vlrl import images
from vlrl.config.data import SourceConfig
from vlrl.errors import UserError
from vlrl.images import ImageStore
from vlrl.schema import content_id, read_rows

CASES = [(name, level) for name in list_recipes() for level in range(RECIPES[name].levels)]
VISION = [case for case in CASES if case[0] != "text_arithmetic"]
# Content hash of the problem, and of the picture's pixels, of seed 0 at level 0.
PINNED = {
    "charts": ("9db4fc1b8d15555e", "bd9210e84fdab9ce"),
    "rendered_arithmetic": ("991e852da08a7fd4", "fd4cabdc8db5eb1c"),
    "shapes": ("6cee5dee486f1165", "9ea94386751bfaf6"),
    "text_arithmetic": ("991e852da08a7fd4", "e3b0c44298fc1c14"),
}
NAMES = r"\b([A-H]|red|green|blue|yellow|purple|orange|circle|square|triangle|diamond)s?\b"


def pixels_digest(example: Example) -> str:
    data = b"" if example.image is None else glyphs.png_bytes(example.image)
    return hashlib.sha256(data + json.dumps(example.spec, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(("name", "level"), CASES)
def test_the_answer_is_recomputed_from_the_stored_specification(name: str, level: int) -> None:
    recipe = get_recipe(name)
    for seed in range(300):
        example = recipe.generate(seed, level)
        stored = json.loads(json.dumps(example.spec))
        assert stored == example.spec
        assert recipe.solve(stored) == example.ground_truth
        assert recipe.question(stored) == example.question
        assert example.verifier == ("exact" if not example.ground_truth.isdigit() else "math")
        if name.endswith("arithmetic"):
            assert int(example.ground_truth) == eval(expression(stored)) >= 0


def test_rows_are_the_same_in_another_process() -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_recipes import CASES, RECIPES, pixels_digest\n"
        "print(*[pixels_digest(RECIPES[n].generate(s, l)) for n, l in CASES for s in (4, 5)])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and len(set(runs[0])) == 2 * len(CASES)


def test_level_0_is_pinned() -> None:
    """Same seed, same problem and same pixels, across versions: a change here changes every stored run."""
    pinned = {}
    for name in list_recipes():
        example = get_recipe(name).generate(0, 0)
        picture = b"" if example.image is None else example.image.tobytes()
        pinned[name] = (content_hash(example.spec), hashlib.sha256(picture).hexdigest()[:16])
    assert pinned == PINNED


@pytest.mark.parametrize(("name", "level"), CASES)
def test_train_and_held_out_problems_never_meet(name: str, level: int) -> None:
    rows = 2_000 if level == 0 else 300
    train = [e.spec for e in examples(name, rows, level, "train", seed=3)]
    held_out = [e.spec for e in examples(name, rows, level, "validation", seed=3)]
    assert not any(is_held_out(spec) for spec in train)
    problems = {content_hash(spec) for spec in held_out}
    assert len(problems) == len(held_out) == len(train) == rows
    assert problems.isdisjoint(content_hash(spec) for spec in train)


def test_a_problem_keeps_its_split_at_every_level_and_in_text() -> None:
    """A held-out sum drawn at level 0 can't be a train row at level 1, nor as text, whatever its looks."""
    train = {
        expression(e.spec)
        for name in ("rendered_arithmetic", "text_arithmetic")
        for level in (0, 1)
        for e in examples(name, 3_000, level, "train", seed=0)
    }
    held_out = {expression(e.spec) for e in examples("text_arithmetic", 1_000, 0, "validation", seed=0)}
    assert len(train) > 5_000 and train.isdisjoint(held_out)


def test_seeds_of_two_runs_give_different_rows() -> None:
    first, second = ({pixels_digest(e) for e in examples("shapes", 200, 0, "train", seed)} for seed in (0, 1))
    assert first.isdisjoint(second)


@pytest.mark.parametrize(("name", "level"), VISION)
def test_without_the_image_there_is_little_to_guess(name: str, level: int) -> None:
    """Guessers that know the question's text, its form or only the answers' frequencies."""
    guessers: list[Callable[[str], str]] = [
        lambda question: question,
        lambda question: re.sub(NAMES, "_", question),
        lambda question: "",
    ]
    recipe = get_recipe(name)
    drawn = (recipe.draw(random.Random(index), level, recipe.choices(level)) for index in range(9_000))
    rows = [(recipe.question(spec), recipe.solve(spec)) for spec in drawn if spec is not None]
    assert len(rows) > 4_000
    half = len(rows) // 2
    for group in guessers:
        answers: dict[str, Counter[str]] = defaultdict(Counter)
        for question, answer in rows[:half]:
            answers[group(question)][answer] += 1
        best = {key: counts.most_common(1)[0][0] for key, counts in answers.items()}
        right = sum(best.get(group(question)) == answer for question, answer in rows[half:])
        assert right / (len(rows) - half) < 0.12
    majority = Counter(answer for _, answer in rows).most_common(1)[0][1]
    assert majority / len(rows) < 0.07


def test_level_0_arithmetic_holds_one_glyph_a_cell() -> None:
    for example in examples("rendered_arithmetic", 200, 0, "train", seed=0):
        assert example.image.size == (64, 64)
        rows = ["".join(read_cell(example.image, r, c) for c in range(4)) for r in (1, 2)]
        assert "".join(rows).replace(" ", "") == expression(example.spec)


def test_level_0_charts_hold_one_glyph_a_cell() -> None:
    for example in examples("charts", 200, 0, "train", seed=0):
        assert example.image.size == (64, 64)
        for row, (name, value) in enumerate(zip(example.spec["names"], example.spec["values"], strict=True)):
            assert "".join(read_cell(example.image, row, c) for c in (0, 2, 3)) == f"{name}{value}"


def test_level_0_shapes_stand_in_their_cells() -> None:
    names = {colour: name for name, colour in glyphs.COLOURS.items()}
    for example in examples("shapes", 200, 0, "train", seed=0):
        image, items = example.image, []
        assert image.size == (48, 48)
        for row in range(3):
            for column in range(3):
                x, y = 16 * column + 8, 16 * row + 8
                colour = names.get(image.getpixel((x, y)))
                if colour is not None:
                    corners = [image.getpixel((x - 6, y + dy)) != glyphs.WHITE for dy in (-6, 6)]
                    shape = {(True, True): "square", (False, True): "triangle"}.get(tuple(corners), "circle")
                    items.append([row + 1, column + 1, colour, shape])
        assert items == example.spec["items"]


def read_cell(image: object, row: int, column: int) -> str:
    """The glyph whose dark pixels are exactly those of a 16-pixel cell; a blank for any other cell."""
    box = (16 * column, 16 * row, 16 * column + 16, 16 * row + 16)
    dark = image.crop(box).point(lambda v: 255 * (v == 0)).convert("L").point(lambda v: 255 * (v == 255))
    for character in "0123456789+-ABCD":
        drawn, _ = glyphs.blank(16, glyphs.WHITE)
        glyphs.put_in_cell(drawn, 0, 0, character)
        if drawn.convert("L").point(lambda v: 255 * (v == 0)).tobytes() == dark.tobytes():
            return character
    return " "


@pytest.mark.parametrize("level", [1, 2])
def test_no_glyph_is_cut_off_at_higher_levels(level: int) -> None:
    for example in examples("rendered_arithmetic", 300, level, "train", seed=0):
        style = example.spec["style"]
        ink = sum(n for n, c in example.image.getcolors() if c == tuple(style["ink"]))
        dots = sum(glyphs.glyph(c, style["scale"]).histogram()[255] for c in expression(example.spec))
        assert ink == dots


def test_every_value_and_answer_of_a_chart_is_legible() -> None:
    for level in range(4):
        for example in examples("charts", 300, level, "train", seed=1):
            spec = example.spec
            assert len(set(spec["values"])) == len(spec["values"]) == len(spec["names"])
            assert spec["kind"] != "share" or sum(spec["values"]) == 100
            if level == 3 and spec["kind"] != "share":
                assert all(value % 2 == 0 for value in spec["values"])


@pytest.mark.parametrize("name", list_recipes())
def test_built_rows_read_back(name: str, tmp_path) -> None:
    store = ImageStore(tmp_path / "images")
    source = SourceConfig(recipe=name, rows=40, level=2, args={"mixed_levels": True})
    prompts = materialise(source, "prompt", "validation", 7, store, tmp_path / "prompts.jsonl")
    assert list(read_rows(tmp_path / "prompts.jsonl", "prompt", store)) == prompts
    assert len({p.id for p in prompts}) == 40
    assert {p.extra["level"] for p in prompts} == {0, 1, 2}
    for prompt in prompts:
        extra = prompt.extra
        again = get_recipe(extra["recipe"]).generate(extra["seed"], extra["level"])
        assert (again.spec, again.ground_truth) == (extra["spec"], prompt.ground_truth)
        assert extra["split"] == "validation" and extra["seed"] % 2 == 1
        if again.image is not None:
            assert images.load(prompt.images[0]).tobytes() == again.image.tobytes()

    conversations = materialise(source, "conversation", "train", 7, store, tmp_path / "warmup.jsonl")
    assert list(read_rows(tmp_path / "warmup.jsonl", "conversation", store)) == conversations
    assert conversations == build_conversations(name, 40, 2, "train", 7, store, {"mixed_levels": True})


def test_building_twice_gives_the_same_rows(tmp_path) -> None:
    first, second = (
        build_prompts("charts", 20, 1, "train", 0, ImageStore(tmp_path / folder), {"kinds": ["share"]})
        for folder in ("a", "b")
    )
    assert [content_id(p.extra, p.images[0].sha256) for p in first] == [
        content_id(p.extra, p.images[0].sha256) for p in second
    ]
    assert {p.extra["spec"]["kind"] for p in first} == {"share"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "shape"}, "unknown recipe 'shape'; did you mean 'shapes'?"),
        ({"recipe": "zebra"}, "valid: charts, rendered_arithmetic, shapes, text_arithmetic"),
        ({"level": 4}, "level 4 does not exist; use 0 to 3"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"seed": -1}, "the seed at least 0"),
        ({"split": "test"}, "unknown split 'test'; valid: train, validation"),
        ({"args": {"task": ["place"]}}, "unknown argument 'task'; did you mean 'tasks'?"),
        ({"args": {"tasks": []}}, "'tasks' must be a non-empty list out of place, count, neighbour"),
        ({"args": {"tasks": "place"}}, "'tasks' must be a non-empty list"),
        ({"args": {"tasks": ["cuont"]}}, "'cuont'; did you mean 'count'?"),
        ({"args": {"tasks": ["distance"]}}, "unknown value in 'tasks' at level 0"),
        ({"args": {"tasks": [["place"]]}}, "unknown value in 'tasks'"),
        ({"args": {"mixed_levels": "yes"}}, "'mixed_levels' must be true or false"),
        ({"args": {"brief": 0.5}}, "unknown argument 'brief'"),
        ({"recipe": "text_arithmetic", "split": "validation", "rows": 4_000}, "too few different held-out"),
    ],
)
def test_wrong_requests_get_one_sentence(change: dict, message: str, tmp_path) -> None:
    request = {"recipe": "shapes", "rows": 3, "level": 0, "split": "train", "seed": 0}
    with pytest.raises(UserError) as caught:
        build_prompts(**(request | {"store": ImageStore(tmp_path)} | change))
    assert message in str(caught.value) and "\n" not in str(caught.value)
