"""What the page that improves the policy says of methods and settings, and which settings belong to which method."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from annotate.services.methods import POLICY_GRADIENT, WAYS, Method
from annotate.views.number_fields import NumberField, Text

METHODS: dict[Method, Text] = {
    Method.PPO: _(
        "Draws answers, has the reward model score them, and makes good ones more likely, update by update. A penalty "
        "on KL keeps the policy near its parent; values forecast what each token will earn."
    ),
    Method.RLOO: _("PPO without values: an answer counts by how much better it scores than the others to its prompt."),
    Method.GRPO: _("As RLOO, with the difference divided by how far the scores to a prompt lie apart."),
    Method.BEST_OF_N: _(
        "Draws n answers to each prompt, keeps the one with the highest score, and imitates what was kept: the "
        "cheapest improvement, which the others must beat."
    ),
    Method.SFT: _("Imitates raters' edits, the answers that they preferred, and demonstrations. No reward model."),
    Method.DPO: _(
        "Learns from comparisons directly: preferred answers become more likely than the others, measured against the "
        "parent. No reward model."
    ),
}
"""What each method does; its name is the literature's."""

SOURCES: dict[str, Text] = {
    "edit": _("raters' edits"),
    "completion": _("answers that raters preferred"),
    "demonstration": _("imported demonstrations"),
}

FINE_TUNING = (Method.BEST_OF_N, Method.SFT, Method.DPO)


@dataclass(frozen=True)
class Setting(NumberField):
    """A number of some methods; left empty, it is the method's default."""

    methods: tuple[Method, ...]
    """Of which it is a setting."""

    @property
    def belongs_to(self) -> str:
        """The methods in one word each, for the style sheet that shows what belongs to the chosen one."""
        return " ".join(self.methods)

    @property
    def default(self) -> str:
        """What it is when nothing is entered; empty where that depends on the method."""
        return next(iter(self._defaults)) if len(self._defaults) == 1 else ""

    @property
    def usual(self) -> str:
        """The defaults of the methods where they differ."""
        groups = self._defaults if len(self._defaults) > 1 else {}
        return "; ".join(f"{', '.join(names)} {value}" for value, names in groups.items())

    @property
    def _defaults(self) -> dict[str, list[str]]:
        """Names of methods by what the number is in their jobs."""
        found: dict[str, list[str]] = {}
        for method in self.methods:
            value = getattr(WAYS[method].job, self.name, None)
            if value:
                found.setdefault(f"{value:g}", []).append(method.label)
        return found


BUDGET = (
    Setting(
        "samples",
        _("Answers to draw"),
        _("In all; each update draws a batch of them and learns from it. One more batch measures the result."),
        1,
        10_000_000,
        True,
        POLICY_GRADIENT,
    ),
    Setting(
        "n",
        _("Answers a prompt (n)"),
        _("One is kept. The best of n is at most log n − (n − 1)/n nats away from the policy: 0.6 for 4, 1.8 for 16."),
        2,
        256,
        True,
        (Method.BEST_OF_N,),
    ),
    Setting(
        "epochs",
        _("Epochs"),
        _("Passes over the rows, at most: training stops when the loss on dev no longer falls."),
        1,
        100,
        True,
        FINE_TUNING,
    ),
    Setting(
        "minutes",
        _("Most minutes"),
        _(
            "Of training, without loading; empty sets no limit. Best-of-n draws for at most two thirds of it. PPO, "
            "RLOO and GRPO begin no update that would end after it, and measure the result then."
        ),
        0.1,
        100_000,
        False,
        tuple(Method),
    ),
)
MORE = (
    Setting(
        "learning_rate", _("Learning rate"), _("How far a step goes; lower it when the loss jumps."), 1e-9, 1, False,
        tuple(Method),
    ),
    Setting(
        "lora_rank",
        _("Rank of the adapters"),
        _("Low-rank adapters on the upper layers are trained; 0 trains all weights, at a much lower learning rate."),
        0,
        1024,
        True,
        tuple(Method),
    ),
    Setting(
        "kl_target",
        _("KL aimed at"),
        _("Nats an answer: how far the policy may move from its parent. The weight of the penalty adapts to it."),
        0.01,
        1000,
        False,
        POLICY_GRADIENT,
    ),
    Setting(
        "kl_limit",
        _("KL at which it stops"),
        _("Nats an answer: beyond it no further update is made, and the last policy below it is the result."),
        0.01,
        10_000,
        False,
        POLICY_GRADIENT,
    ),
    Setting(
        "beta",
        _("β of DPO"),
        _("How dear it is to move away from the parent; a smaller one lets the policy move further."),
        0.001,
        100,
        False,
        (Method.DPO,),
    ),
)  # fmt: skip
ORIGINAL_SHARE = Setting("original_share", _("Share of demonstrations"), "", 0, 99, False, (Method.SFT,))
"""In per cent."""
COMPARED = Setting(
    "planned",
    _("Test prompts to compare"),
    _("Drawn at random for raters, who compare the new generation with its parent blind. Stated before it is made."),
    1,
    1_000_000,
    True,
    tuple(Method),
)
"""Of what comes after the run."""
