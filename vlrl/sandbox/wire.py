"""Programs and reports as JSON: what the service reads and the client writes, and the other way round."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vlrl.errors import UserError
from vlrl.sandbox.programs import Execution, Limits, Program, Report, Test, TestResult, check


class Form(BaseModel):
    """JSON of a fixed form: no other keys, no numbers as text."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TestForm(Form):
    """A `Test`."""

    input: str
    output: str = ""
    testtype: Literal["stdin", "functional", "check"] = "stdin"

    def test(self) -> Test:
        return Test(input=self.input, output=self.output, testtype=self.testtype)


class LimitsForm(Form):
    """Limits below the server's own; what is left out is the server's."""

    cpu_s: float | None = Field(default=None, gt=0)
    wall_s: float | None = Field(default=None, gt=0)
    memory_mb: int | None = Field(default=None, gt=0)
    output_mb: int | None = Field(default=None, gt=0)

    def within(self, most: Limits) -> Limits:
        """
        Raises:
            UserError: one is above `most`.
        """
        asked = {name: value for name, value in self.model_dump().items() if value is not None}
        limits = Limits(**{**asdict(most), **asked})
        check_limits(limits, most)
        return limits


class ProgramForm(Form):
    """A `Program`."""

    code: str
    tests: list[TestForm] = Field(default=[], fail_fast=True)
    fn_name: str | None = None
    language: Literal["python", "cpp"] = "python"
    limits: LimitsForm = LimitsForm()

    def program(self, most: Limits) -> Program:
        """
        Raises:
            UserError: limits above `most`, or tests that cannot be run.
        """
        tests = [form.test() for form in self.tests]
        program = Program(
            code=self.code,
            tests=tests,
            fn_name=self.fn_name,
            language=self.language,
            limits=self.limits.within(most),
        )
        check(program)
        return program


class JudgeForm(ProgramForm):
    """The body of `POST /judge`."""

    stop_at_failure: bool = False

    @property
    def programs(self) -> Sequence[ProgramForm]:
        return [self]


class JudgeManyForm(Form):
    """The body of `POST /judge_many`."""

    programs: list[ProgramForm] = Field(fail_fast=True)
    stop_at_failure: bool = False


AnyForm = TypeVar("AnyForm", bound=Form)


def read(form: type[AnyForm], text: bytes | bytearray | str) -> AnyForm:
    """Check JSON text.

    Raises:
        UserError: it is none, or of another form; names the key.
    """
    try:
        return form.model_validate_json(text)
    except ValidationError as error:
        raise UserError(_sentence(error)) from None


def check_limits(limits: Limits, most: Limits) -> None:
    """
    Raises:
        UserError: a limit is above that of `most`.
    """
    for field in fields(Limits):
        asked, allowed = getattr(limits, field.name), getattr(most, field.name)
        if asked > allowed:
            raise UserError(
                f"limits.{field.name}: {asked:g} is above the server's {allowed:g}; ask for at most that, or "
                f"set sandbox.{field.name} on the server"
            )


def program_json(program: Program) -> dict[str, Any]:
    """What `ProgramForm` reads."""
    tree = asdict(program)
    # A model may write half a surrogate pair, which the pool makes a "?" of too.
    tree["code"] = program.code.encode("utf-8", errors="replace").decode()
    return tree


def report_json(report: Report) -> dict[str, Any]:
    """What `report_from` reads."""
    return {"passed": report.passed, "tests": [asdict(test) for test in report.tests]}


def report_from(tree: Any) -> Report:
    """
    Raises:
        KeyError, TypeError: not a report.
    """
    results = []
    for test in tree["tests"]:
        execution = None if test["execution"] is None else Execution(**test["execution"])
        results.append(TestResult(outcome=test["outcome"], execution=execution))
    return Report(tests=results)


def _sentence(error: ValidationError) -> str:
    # A misspelt key often leaves another one missing: the spelling is what there is to mend.
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    if first["type"] == "missing":
        return f"missing key '{key}'"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"key '{key}': {message}" if key else message
