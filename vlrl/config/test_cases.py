from pydantic import Field, model_validator

from vlrl.config.base import Section


class TestCaseConfig(Section):
    """How test cases are made and checked; the numbers are Kimi k1.5's (section 2.3.2)."""

    __test__ = False

    cases: int = Field(default=50, gt=0)
    """Inputs asked of a generator."""
    submissions: int = Field(default=10, gt=0)
    """Reference submissions that answer each; a problem with fewer is left out."""
    agreeing: int = Field(default=7, gt=0)
    """Submissions that must agree for a case to be valid."""
    passing: int = Field(default=9, gt=0)
    """Submissions that must pass every valid case for the problem to be kept."""
    valid_cases: int = Field(default=40, gt=0)
    """Valid cases that a problem must have to be kept."""
    attempts: int = Field(default=2, gt=0)
    """Times that the model is asked where its generator fails."""
    generator_cpu_s: float = Field(default=10.0, gt=0)
    """CPU seconds of a generator for one input."""
    cpu_s: float = Field(default=6.0, gt=0)
    """CPU seconds of a submission for one input."""
    memory_mb: int = Field(default=1024, gt=0)
    """MiB of either."""
    input_mb: int = Field(default=4, gt=0)
    """MiB of one input."""

    @model_validator(mode="after")
    def _thresholds_can_be_met(self) -> "TestCaseConfig":
        if self.agreeing <= self.submissions / 2:
            raise ValueError("'agreeing' must be more than half of 'submissions', or two outputs could win")
        if max(self.agreeing, self.passing) > self.submissions:
            raise ValueError("'agreeing' and 'passing' cannot be more than 'submissions'")
        if self.valid_cases > self.cases:
            raise ValueError("'valid_cases' cannot be more than 'cases'")
        return self
