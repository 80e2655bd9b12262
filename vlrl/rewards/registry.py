"""Verifiers by the name that prompts carry."""

from collections.abc import Callable
from difflib import get_close_matches

from vlrl.errors import UserError
from vlrl.rewards.verifier import Verifier
from vlrl.rewards.verifiers import ExactVerifier, MathVerifier, NumericVerifier
from vlrl.rewards.workers import GradingPool
from vlrl.trajectory import Prompt

VERIFIERS: dict[str, Callable[[GradingPool], Verifier]] = {
    "math": MathVerifier,
    "exact": lambda pool: ExactVerifier(),
    "numeric": lambda pool: NumericVerifier(),
}


class Registry:
    """Builds each verifier once, when a prompt first names it."""

    def __init__(self, pool: GradingPool) -> None:
        self._pool = pool
        self._built: dict[str, Verifier] = {}

    def verifier_of(self, prompt: Prompt) -> Verifier:
        """The verifier that `prompt` names.

        Raises:
            UserError: there is none of that name.
        """
        name = prompt.verifier
        if name not in self._built:
            if name not in VERIFIERS:
                near = get_close_matches(name, VERIFIERS, 1)
                hint = f"did you mean '{near[0]}'? There are" if near else "use one of"
                raise UserError(f"{prompt.name}: no verifier '{name}'; {hint} {', '.join(VERIFIERS)}")
            self._built[name] = VERIFIERS[name](self._pool)
        return self._built[name]
