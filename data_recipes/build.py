"""Rows from recipes: prompts for RL, conversations for the warm-up, and a run's own file of either."""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from data_recipes.arithmetic import RenderedArithmetic, TextArithmetic
from data_recipes.base import Example, Recipe, Split, content_hash, unknown
from data_recipes.charts import Charts
from data_recipes.glyphs import png_bytes
from data_recipes.shapes import Shapes
from data_recipes.warmup import compose_brief, find_fault
from vlrl.config.data import SourceConfig
from vlrl.errors import UserError
from vlrl.images import ImageRef, ImageStore
from vlrl.schema import IMAGE_MARKER, Conversation, Row, write_rows
from vlrl.trajectory import Prompt

RECIPES: dict[str, Recipe] = {r.name: r for r in (Charts(), RenderedArithmetic(), Shapes(), TextArithmetic())}

# Two runs' seeds lie this many rows apart, so their rows differ.
_SEED_STRIDE = 10_000_000


def list_recipes() -> list[str]:
    """The names that a config may give."""
    return sorted(RECIPES)


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in RECIPES:
        raise UserError(unknown("recipe", name, list_recipes()))
    return RECIPES[name]


def examples(
    recipe: str,
    rows: int,
    level: int,
    split: Split,
    seed: int,
    args: Mapping[str, Any] | None = None,
) -> Iterator[Example]:
    """`rows` examples, a function of the arguments alone.

    Beside the recipe's own arguments `args` may hold `mixed_levels: true`: each row's level is then drawn
    uniformly from 0 to `level`. Held-out problems are all different; train rows may repeat a problem.

    Raises:
        UserError: unknown recipe, level, split or argument, or fewer held-out problems than `rows`.
    """
    source = get_recipe(recipe)
    own = dict(args or {})
    mixed = own.pop("mixed_levels", False)
    if not isinstance(mixed, bool):
        raise UserError(f"recipe '{recipe}': 'mixed_levels' must be true or false, found {mixed!r}")
    if split not in ("train", "validation"):
        raise UserError(f"recipe '{recipe}': {unknown('split', split, ('train', 'validation'))}")
    if rows < 1 or seed < 0:
        raise UserError(f"recipe '{recipe}': rows must be at least 1 and the seed at least 0")
    for used in range(level + 1) if mixed else (level,):
        source.checked(used, own)
    return _examples(source, rows, level, split, seed, own, mixed)


def _examples(
    source: Recipe, rows: int, level: int, split: Split, seed: int, args: dict[str, Any], mixed: bool
) -> Iterator[Example]:
    held_out = split == "validation"
    seen: set[str] = set()
    made = 0
    for index in range(5 * rows + 1_000):
        row_seed = 2 * (seed * _SEED_STRIDE + index) + held_out
        row_level = random.Random(f"level/{row_seed}").randint(0, level) if mixed else level
        example = source.generate(row_seed, row_level, **args)
        if held_out:
            problem = content_hash(example.spec)
            if problem in seen:
                continue
            seen.add(problem)
        yield example
        made += 1
        if made == rows:
            return
    raise UserError(
        f"recipe '{source.name}' has too few different held-out problems at level {level} for {rows} rows "
        f"({made} found); ask for fewer rows or a higher level"
    )


def build_prompts(
    recipe: str,
    rows: int,
    level: int,
    split: Split,
    seed: int,
    store: ImageStore,
    args: Mapping[str, Any] | None = None,
) -> list[Prompt]:
    """RL prompts; `extra` holds recipe, level, seed, spec and split, from which the row can be recomputed.

    Raises:
        UserError: as `examples`.
    """
    return [
        Prompt(
            id=_row_id(example),
            messages=[_user_message(example)],
            images=_stored(example, store),
            verifier=example.verifier,
            ground_truth=example.ground_truth,
            source=recipe,
            extra={
                "recipe": recipe,
                "level": example.level,
                "seed": example.seed,
                "spec": example.spec,
                "split": split,
            },
        )
        for example in examples(recipe, rows, level, split, seed, args)
    ]


def build_conversations(
    recipe: str,
    rows: int,
    level: int,
    split: Split,
    seed: int,
    store: ImageStore,
    args: Mapping[str, Any] | None = None,
) -> list[Conversation]:
    """Warm-up conversations: the question, and a trace that was checked before use.

    Beside what `examples` takes, `args` may hold `brief: 0.5`: that share of the traces answers at once,
    without reasoning. A policy warmed up on both can do either, and RL finds out which one pays.

    Raises:
        UserError: as `examples`.
    """
    own = dict(args or {})
    brief = own.pop("brief", 0.0)
    if isinstance(brief, bool) or not isinstance(brief, (int, float)) or not 0 <= brief <= 1:
        raise UserError(f"recipe '{recipe}': 'brief' must be a share from 0 to 1, found {brief!r}")
    return [
        Conversation(
            id=_row_id(example),
            messages=[
                _user_message(example),
                {"role": "assistant", "content": checked_trace(example, brief=_is_brief(example, brief))},
            ],
            images=_stored(example, store),
            source=recipe,
        )
        for example in examples(recipe, rows, level, split, seed, own)
    ]


def checked_trace(example: Example, *, brief: bool = False) -> str:
    """The example's warm-up trace, the same every time, verified."""
    recipe = get_recipe(example.recipe)
    answer = recipe.solve(example.spec)
    if brief:
        trace = compose_brief(example.ground_truth)
        assert trace == compose_brief(answer), f"{_row_id(example)}: the answer is {answer}, not in {trace}"
        return trace
    trace = recipe.trace(example, random.Random(f"trace/{recipe.family}/{example.level}/{example.seed}"))
    fault = find_fault(trace, answer, recipe.facts(example.spec))
    assert fault is None, f"{_row_id(example)}: {fault} in {trace}"
    return trace


def _is_brief(example: Example, share: float) -> bool:
    return random.Random(f"brief/{_row_id(example)}").random() < share


def sample_texts(rows: int = 500) -> list[str]:
    """Questions and traces of every recipe at level 0: what a tokenizer needs to have seen."""
    return [
        text
        for name in list_recipes()
        for example in examples(name, rows, 0, "train", 0)
        for text in (example.question, checked_trace(example))
    ]


def materialise(
    source: SourceConfig,
    kind: Literal["prompt", "conversation"],
    split: Split,
    seed: int,
    store: ImageStore,
    out_path: str | Path,
) -> list[Row]:
    """Generate a config's recipe rows and write them as JSONL, so that a run's data lies in its directory.

    Raises:
        UserError: as `examples`.
    """
    assert source.recipe is not None and source.rows is not None, "the source names a file, not a recipe"
    build = build_prompts if kind == "prompt" else build_conversations
    rows: list[Row] = [*build(source.recipe, source.rows, source.level, split, seed, store, source.args)]
    write_rows(out_path, rows)
    return rows


def _row_id(example: Example) -> str:
    return f"{example.recipe}-{example.level}-{example.seed}"


def _user_message(example: Example) -> dict[str, str]:
    marker = "" if example.image is None else IMAGE_MARKER
    return {"role": "user", "content": marker + example.question}


def _stored(example: Example, store: ImageStore) -> list[ImageRef]:
    if example.image is None:
        return []
    return [store.put(png_bytes(example.image), _row_id(example))]
