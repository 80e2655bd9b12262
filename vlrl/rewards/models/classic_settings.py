"""What is known of a classic reward model without loading it, and what it is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vlrl.config.reward_models import Judged
from vlrl.errors import UserError
from vlrl.images import ImageRef
from vlrl.runs.files import read_json

TEMPLATE = 1
SETTINGS_FILE = "reward_model.json"


@dataclass(slots=True, frozen=True)
class HeadSettings:
    """How a reward model is used: the version of its input, what was judged when it was trained, the
    probability from which that is correct, and whether it takes images.
    """

    template: int = TEMPLATE
    judged: Judged = "response"
    threshold: float = 0.5
    takes_images: bool = False

    @classmethod
    def load(cls, folder: str | Path) -> "HeadSettings":
        """
        Raises:
            UserError: `folder` is no reward model, or one of another version.
        """
        path = Path(folder) / SETTINGS_FILE
        if not path.is_file():
            raise UserError(f"{folder}: no reward model there ({SETTINGS_FILE} is missing); correct the path")
        try:
            found = cls(**read_json(path))
        except TypeError:
            found = cls(template=-1)
        if (
            found.template != TEMPLATE
            or found.judged not in get_args(Judged)
            or not (isinstance(found.threshold, float) and 0 < found.threshold < 1)
        ):
            raise UserError(
                f"{path}: not the settings of a reward model of template {TEMPLATE}; train it with this vlrl"
            )
        return found


@dataclass(slots=True, frozen=True)
class RewardInput:
    """What is scored. `question` holds one `<image>` marker for each of `images`."""

    question: str
    reference: str
    response: str
    images: tuple[ImageRef, ...] = ()
