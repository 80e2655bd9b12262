from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from vlrl.config.base import Section

Aggregation = Literal["token", "sample", "prompt", "constant", "sequence", "balanced"]
Baseline = Literal["mean", "leave_one_out", "log_mean_exp", "none"]
Normalisation = Literal["none", "group", "batch", "ema", "tokens"]


_WEIGHTS = ("truncated", "masked", "sequence_truncated", "sequence_masked")
# Of corrections, as published: (smallest ratio that passes, largest one, cap or nats); None is no bound.
_BOUNDS: dict[str, tuple[float | None, float]] = {
    "truncated": (None, 2.0),
    "masked": (0.5, 2.0),
    "sequence_truncated": (None, 2.0),
    "sequence_masked": (0.5, 2.0),
    "geometric": (0.999, 1.001),
    "k3": (None, 0.01),
}
# Ratios are cut at e^20 (vlrl.objectives.metrics.LOG_RATIO_MAX), so a cap beyond it would be none.
_RATIO_MAX = 4.8e8


class CorrectionConfig(Section):
    """What is done about tokens whose sampler and trainer disagree under the same weights; see docs."""

    kind: Literal[
        "none", "truncated", "masked", "sequence_truncated", "sequence_masked", "geometric", "k3"
    ] = "none"
    """`truncated` is TIS, `masked` IcePop; the last two drop whole rollouts."""
    low: float | None = Field(default=None, ge=0)
    """Smallest ratio that passes, in ratio units. Unset: 0.5; `geometric` 0.999. The two truncated kinds and
    `k3` have none."""
    high: float | None = Field(default=None, gt=0, le=_RATIO_MAX)
    """Largest ratio that passes, or the cap, in ratio units. Unset: 2; `geometric` 1.001. Of `k3` nats a
    token; unset: 0.01."""

    @property
    def bounds(self) -> tuple[float, float]:
        """`low` (0 for kinds without one) and `high`, the published ones where they are unset."""
        low, high = _BOUNDS[self.kind]
        if low is not None and self.low is not None:
            low = self.low
        return low or 0.0, high if self.high is None else self.high

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.kind != "none" and self.bounds[0] > self.bounds[1]:
            raise ValueError("low ({:g}) is above high ({:g})".format(*self.bounds))
        return self


class KlConfig(Section):
    """Distance to the frozen policy that the stage started from."""

    coefficient: float = Field(default=0.0, ge=0)
    """Weight; 0 is off and loads no reference policy."""
    where: Literal["loss", "reward"] = "loss"
    """A term of the loss, or taken off each rollout's reward before advantages: its sum over all tokens that
    were sampled, those too that `truncated` or `rl.partial` leave out of the loss."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """Of the loss term; the reward always takes k1. k3 is GRPO's."""

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.coefficient > 0 and self.where == "loss" and self.estimator == "k1":
            raise ValueError("estimator 'k1' has no gradient on average as a loss; take 'k2' or 'k3'")
        return self


class Objective(Section):
    """What every objective has."""

    drop_zero_variance: bool = True
    """Drop groups whose rewards are all equal; dropped groups are not refilled (ScaleRL section 3.2).

    Of the verdicts alone: neither a punishment for length nor the KL makes such a group worth keeping. k1.5's
    length reward does, since it compares the group's responses: under `rewards.length.kind: k15` it counts.
    """
    truncated: Literal["keep", "mask", "penalise"] = "keep"
    """Of rollouts cut by length. `keep`: what they held when they were cut is graded like any other, and one
    without an answer earns `rewards.wrong`. `mask`: graded so, counted in the baseline, out of the loss.
    `penalise`: each earns `rewards.wrong`, an answer boxed before the cut or not, and is never correct, so
    that rewards for length can only take more off. Validation grades what is there under all three.
    """
    correction: CorrectionConfig = CorrectionConfig()
    """Weights for the gap between sampler and trainer; off unless chosen."""
    kl: KlConfig = KlConfig()
    """Penalty for leaving the start policy; off unless chosen."""
    ema_decay: float = Field(default=0.9, ge=0, lt=1)
    """Of the running scale under `normalisation: ema`."""

    @property
    def corrects_by_ratio(self) -> bool:
        """Whether the loss itself already weighs tokens by trainer over sampler."""
        return False

    @property
    def terms_of_rollouts(self) -> bool:
        """Whether the loss has a term a rollout, not a term a token."""
        return False

    @property
    def means_of_tokens(self) -> bool:
        """Whether a rollout's term is on the scale of one token, not of their sum: so is its KL then."""
        return False

    @property
    def reads_start(self) -> bool:
        """Whether the loss reads the trainer's own log-probs at the start of the iteration."""
        return self.correction.kind != "none"

    @model_validator(mode="after")
    def _correction_fits(self) -> Self:
        kind = self.correction.kind
        if kind in _WEIGHTS and self.corrects_by_ratio:
            raise ValueError(
                f"correction '{kind}' would count the ratio of trainer to sampler twice, since this loss has "
                "it already; use 'geometric' or 'k3', or old: trainer where the objective has it"
            )
        if kind in ("truncated", "masked") and self.terms_of_rollouts:
            raise ValueError(f"correction '{kind}' weighs tokens, but this loss has one term a rollout")
        return self


class OmdConfig(Objective):
    """k1.5's online mirror descent, eq. 3: sequence level, no clipping, no std."""

    name: Literal["omd"] = "omd"
    tau: float = Field(default=0.1, gt=0)
    """Weight of the squared log-ratio to the iteration's start policy. Unpublished; see docs."""
    reset_optimizer: bool = True
    """Reset Adam's state at the start of each iteration (k1.5 section 2.3.2)."""
    baseline: Literal["mean", "log_mean_exp", "leave_one_out"] = "mean"
    """Stands for tau log Z: the group's mean (k1.5's algorithm), its estimate, or the others' mean."""
    form: Literal["sequence", "per_length", "token"] = "sequence"
    """Eq. 3; the same over the rollout's length (OpenKimi); or squares of tokens, not of sums (ROLL)."""

    @property
    def normalisation(self) -> Normalisation:
        return "none"

    @property
    def aggregation(self) -> Aggregation:
        return "sequence"

    @property
    def terms_of_rollouts(self) -> bool:
        return True

    @property
    def means_of_tokens(self) -> bool:
        return self.form == "per_length"

    @property
    def reads_start(self) -> bool:
        return True


class TokenObjective(Objective):
    """Objectives whose terms belong to tokens."""

    baseline: Literal["mean", "leave_one_out", "none"] = "mean"
    """What is taken off each reward."""
    normalisation: Normalisation = "group"
    """What divides the advantages."""
    aggregation: Aggregation = "sample"
    """How token terms are averaged."""
    constant_length: int | None = Field(default=None, gt=0)
    """Tokens a rollout is divided by under `aggregation: constant`."""

    @model_validator(mode="after")
    def _constant(self) -> Self:
        if self.aggregation == "constant" and self.constant_length is None:
            raise ValueError("aggregation 'constant' needs 'constant_length'")
        return self

    @model_validator(mode="after")
    def _centred(self) -> Self:
        if self.baseline == "none" and self.normalisation in ("group", "ema"):
            raise ValueError(
                f"normalisation '{self.normalisation}' divides by a spread within groups, which blows up "
                "rewards without a baseline: set 'baseline', or normalisation none, batch or tokens"
            )
        return self


class CispoConfig(TokenObjective):
    """MiniMax-M1's and ScaleRL's loss: a detached, capped ratio times the log-prob."""

    name: Literal["cispo"] = "cispo"
    is_cap_max: float = Field(default=5.0, gt=1, le=_RATIO_MAX)
    """Cap of the importance ratio, in ratio units (5.0 is a ratio of 5)."""
    is_cap_min: float = Field(default=0.0, ge=0, lt=1)
    """Lower cap; 0 is none."""
    normalisation: Normalisation = "batch"
    """ScaleRL's; MiniMax-M1's is `group`."""
    aggregation: Aggregation = "prompt"
    """ScaleRL's; MiniMax-M1's is `token`."""

    @property
    def corrects_by_ratio(self) -> bool:
        return True


class ClippedRatio(TokenObjective):
    """PPO's clipped ratio, without a value net."""

    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """The ratio is clipped below 1 - clip_low."""
    clip_high: float = Field(default=0.2, gt=0, lt=_RATIO_MAX)
    """The ratio is clipped above 1 + clip_high."""
    dual_clip: float | None = Field(default=None, gt=1, le=_RATIO_MAX)
    """Absolute ratio beyond which negative advantages stop pushing; verl's is 3."""
    old: Literal["behaviour", "trainer"] = "behaviour"
    """The ratio's denominator: what the sampler recorded, or the trainer's own at the iteration's start."""

    @property
    def corrects_by_ratio(self) -> bool:
        return self.old == "behaviour"

    @property
    def reads_start(self) -> bool:
        return self.old == "trainer" or super().reads_start


class GrpoConfig(ClippedRatio):
    """GRPO: group std, mean of rollouts' means."""

    name: Literal["grpo"] = "grpo"


class DapoConfig(ClippedRatio):
    """DAPO: GRPO with clip-higher and the token mean. Its dynamic sampling is `drop_zero_variance`."""

    name: Literal["dapo"] = "dapo"
    clip_high: float = Field(default=0.28, gt=0, lt=_RATIO_MAX)
    """The ratio is clipped above 1 + clip_high."""
    aggregation: Aggregation = "token"
    """Every token of the batch alike."""


class DrGrpoConfig(ClippedRatio):
    """Dr.GRPO: GRPO without the std and without lengths; give `constant_length`."""

    name: Literal["dr_grpo"] = "dr_grpo"
    normalisation: Normalisation = "none"
    """No std."""
    aggregation: Aggregation = "constant"
    """Over a length that is fixed for the run."""


class GspoConfig(Objective):
    """GSPO: the clipped ratio is a rollout's geometric mean."""

    name: Literal["gspo"] = "gspo"
    level: Literal["sequence", "token"] = "sequence"
    """`token` is GSPO-token, whose terms could carry an advantage each."""
    clip_low: float = Field(default=3e-4, gt=0, lt=1)
    """Below 1; GSPO's. ScaleRL needed some 4e-3."""
    clip_high: float = Field(default=4e-4, gt=0, lt=_RATIO_MAX)
    """Above 1; GSPO's."""
    normalisation: Normalisation = "group"
    """What divides the advantages."""
    old: Literal["behaviour", "trainer"] = "behaviour"
    """The ratio's denominator."""

    @property
    def baseline(self) -> Baseline:
        return "mean"

    @property
    def aggregation(self) -> Aggregation:
        return "sequence" if self.level == "sequence" else "sample"

    @property
    def corrects_by_ratio(self) -> bool:
        return self.old == "behaviour"

    @property
    def reads_start(self) -> bool:
        return self.old == "trainer" or super().reads_start

    @property
    def terms_of_rollouts(self) -> bool:
        return self.level == "sequence"

    @property
    def means_of_tokens(self) -> bool:
        return self.level == "sequence"


class RlooConfig(TokenObjective):
    """RLOO: REINFORCE, each rollout against the mean of the others, log-probs summed."""

    name: Literal["rloo"] = "rloo"
    baseline: Literal["mean", "leave_one_out", "none"] = "leave_one_out"
    """The mean of the other rollouts of the group."""
    normalisation: Normalisation = "none"
    """No std."""
    aggregation: Aggregation = "sequence"
    """Tokens summed, rollouts averaged."""


class ReinforcePlusPlusConfig(ClippedRatio):
    """REINFORCE++: PPO's clip on advantages whitened over all tokens; `baseline: mean` is -baseline."""

    name: Literal["reinforce_pp"] = "reinforce_pp"
    drop_zero_variance: bool = False
    """Without a group baseline such groups teach too."""
    baseline: Literal["mean", "leave_one_out", "none"] = "none"
    """`mean` is REINFORCE++-baseline."""
    normalisation: Normalisation = "tokens"
    """Mean and std over all tokens of the batch."""
    aggregation: Aggregation = "token"
    """Every token of the batch alike."""


class TpoConfig(Objective):
    """Target Policy Optimization: a cross-entropy to a reweighted distribution over each group."""

    name: Literal["tpo"] = "tpo"
    eta: float = Field(default=1.0, gt=0)
    """Temperature of the target."""
    length_normalised: bool = False
    """A rollout's log-prob is a mean over its tokens; with sums (the paper) the softmax over long rollouts is
    all but one-hot."""

    @property
    def normalisation(self) -> Normalisation:
        return "none"


class MiniRlConfig(TokenObjective):
    """MiniRL: capped importance weight, masked where the step went far enough, tokens summed."""

    name: Literal["minirl"] = "minirl"
    is_cap_max: float = Field(default=5.0, gt=1, le=_RATIO_MAX)
    """Cap of trainer over sampler, in ratio units."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Masked below 1 - clip_low of the iteration's start policy, where the advantage is negative."""
    clip_high: float = Field(default=0.27, gt=0, lt=_RATIO_MAX)
    """Masked above 1 + clip_high, where it is positive."""
    normalisation: Normalisation = "none"
    """No std."""
    aggregation: Aggregation = "sequence"
    """Tokens summed: MiniRL finds that dividing by lengths biases the gradient."""

    @property
    def corrects_by_ratio(self) -> bool:
        return True

    @property
    def reads_start(self) -> bool:
        return True


AnyObjective = (
    OmdConfig
    | CispoConfig
    | GrpoConfig
    | DapoConfig
    | DrGrpoConfig
    | GspoConfig
    | RlooConfig
    | ReinforcePlusPlusConfig
    | TpoConfig
    | MiniRlConfig
)
ObjectiveConfig = Annotated[AnyObjective, Field(discriminator="name")]
OBJECTIVE_NAMES: tuple[str, ...] = tuple(kind.model_fields["name"].default for kind in get_args(AnyObjective))
