"""The trainings that the paper's tables and figures are of."""

import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.paper import epochs
from experiments.study import CONTROL, Plan, Study, make_study
from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import AdversarialSettings, Settings


def paper_study(
    name: str,
    settings: Settings,
    plan: Plan,
    out: pathlib.Path,
    dataset: Dataset,
    overrides: Sequence[str] = (),
) -> Study:
    """The study of the paper's trainings under one config; arguments as of `Study`.

    Raises:
      InputError: the data have not the paper's two modalities.
    """
    if dataset.modalities != ("visual", "textual"):
        raise InputError(
            f"data set '{dataset.name}' has the modalities {dataset.modalities}; the paper's "
            "analysis is of visual and textual ones, in this order. Set config.data.modalities."
        )
    variants = paper_variants(plan, settings.adversarial)
    return make_study(name, settings, plan, out, dataset, variants, overrides)


def paper_variants(plan: Plan, own: AdversarialSettings) -> dict[str, dict[str, Any]]:
    """Every training that some artefact of the paper asks for, by name.

    Args:
      plan: the grids.
      own: the training config's own values.
    """
    named: dict[str, dict[str, Any]] = {
        CONTROL: {"defense": "none"},
        "uat": {"defense": "uat"},
        "uat_mc": {"defense": "uat_mc"},
        # The inner step in the attack's own ball: linf, and half of it at lambda = 1.
        "matched_strong": {"defense": "uat", "norm": "linf", "lam": 5.0, "eps": 0.1},
        "matched_mild": {"defense": "uat", "norm": "linf", "lam": 1.0, "eps": 0.05},
    }
    for field, values in (("eps", plan.eps), ("lam", plan.lams), ("beta", plan.betas)):
        for value in values:
            if value != getattr(own, field):
                named[f"uat_mc_{field}_{value:g}"] = {"defense": "uat_mc", field: value}
    return named | epochs.variants(own.beta)


def sweep(study: Study, field: str) -> dict[float, str]:
    """{value: variant} of the UAT-MC trainings along eps, lam or beta."""
    values = {"eps": study.plan.eps, "lam": study.plan.lams, "beta": study.plan.betas}[field]
    own = getattr(study.settings.adversarial, field)
    return {v: "uat_mc" if v == own else f"uat_mc_{field}_{v:g}" for v in values}
