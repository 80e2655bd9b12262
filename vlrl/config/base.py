"""What every section of the config shares: unknown keys are errors, values are fixed once read."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Temperature = Annotated[float, Field(ge=0.01, le=2)]
"""Of a distribution that is sampled from.

Media ids are banned by -100 on their logits before the division (vLLM's most), so each is at most exp(-50)
times as likely as the likeliest token at 2, and would be sampled at 50. vLLM raises what is below 0.01 to it.
"""

_EXPONENT_FORM = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


class Section(BaseModel):
    """A section of the config. Docstrings below fields are their documentation."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers_in_exponent_form(cls, values: Any) -> Any:
        """YAML 1.1 reads 1e3 as a string, of which pydantic makes a float where one belongs, but no int."""
        if not isinstance(values, dict):
            return values
        ints = {name for name, field in cls.model_fields.items() if field.annotation in (int, int | None)}
        return {key: _number(value) if key in ints else value for key, value in values.items()}


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _EXPONENT_FORM.fullmatch(value) else value
