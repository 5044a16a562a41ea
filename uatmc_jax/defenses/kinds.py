"""Every defence by its name, as the settings of a hardening.

    >>> exact(lam=0.1, eps=0.2).norm
    'linf'

Each takes fields of `AdversarialSettings` by keyword; what is not named is its default, or
where it is given below, the defence's own: what defences that reckon with the attack's
ball are measured with (docs/defenses.md), instead of the published training's.

Raises, all of them: InputError for a value that cannot be used.
"""

from typing import Any

from uatmc_jax.defenses.settings import AdversarialSettings

_ATTACKS_BALL: dict[str, Any] = {"norm": "linf", "lam": 0.2, "eps": 0.1}


def none(**fields: Any) -> AdversarialSettings:
    """No defence: trained on, as long as the hardened models."""
    return AdversarialSettings(defense="none", **fields)


def uat(**fields: Any) -> AdversarialSettings:
    """Untargeted adversarial training (Eqs. 8 to 10) as published: one l2 step, lambda 5."""
    return AdversarialSettings(defense="uat", **fields)


def uat_mc(**fields: Any) -> AdversarialSettings:
    """The same with multimodal coordination (Eqs. 11 and 12), beta 4."""
    return AdversarialSettings(defense="uat_mc", **fields)


def noise(**fields: Any) -> AdversarialSettings:
    """Random perturbations in place of the worst."""
    return AdversarialSettings(defense="noise", **_ATTACKS_BALL | {"lam": 1.0} | fields)


def dropout(**fields: Any) -> AdversarialSettings:
    """Coordinates of the content dropped; eps is their share."""
    return AdversarialSettings(defense="dropout", **{"lam": 1.0, "eps": 0.3, **fields})


def exact(**fields: Any) -> AdversarialSettings:
    """The worst case in closed form, for models affine in the content (`worst_case`)."""
    return AdversarialSettings(defense="exact", **_ATTACKS_BALL | fields)


def shaped(harmless: str, **fields: Any) -> AdversarialSettings:
    """The worst case in a ball shaped by harmless edits (`shapes`); eps counts these."""
    chosen = {"lam": 0.2, "eps": 3.0} | fields
    return AdversarialSettings(defense="shaped", harmless=harmless, **chosen)


def linearized(**fields: Any) -> AdversarialSettings:
    """Its first-order surrogate, for any model (`worst_case`)."""
    return AdversarialSettings(defense="linearized", **_ATTACKS_BALL | fields)


def balancing(modality: str, **fields: Any) -> AdversarialSettings:
    """Modality Balancing (`balance`): the others hold what this modality can lose."""
    chosen: dict[str, Any] = {"lam": 0.01, "norm": "linf", "steps": 10, "step_size": 0.1}
    return AdversarialSettings(defense="balancing", modalities=(modality,), **chosen | fields)


def spectral(**fields: Any) -> AdversarialSettings:
    """A penalty on the matrices that content passes through (`penalties`)."""
    return AdversarialSettings(defense="spectral", **{"lam": 0.01, **fields})


def mirror(**fields: Any) -> AdversarialSettings:
    """Mirror Gradient (`penalties`); eps is the length of the mirrored step."""
    return AdversarialSettings(defense="mirror", **{"lam": 0.5, "eps": 0.1, **fields})
