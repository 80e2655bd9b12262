"""What every section of the config shares: unknown keys are errors, values are fixed once read."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the config. Docstrings below fields are their documentation."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )
