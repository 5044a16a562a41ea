"""Promotion attacks: what they want, how they search, what they reach, what none can.

Reading order: `record` and `utility` -> `victim` -> `scoring` and its three answers
(`direct`, `receptive`, `dense`) -> `perturb` -> `batching` -> `outcome` -> `attacked` and
`reach` -> `transfer` -> `certificates`. Of models whose content acts through lists of
neighbours: `policies` -> `listings` -> `list_bounds` -> `relisting` -> `edited_lists` ->
`own_listing` -> `soft_lists` -> `neighbour_choice` -> `listed` -> `collateral`; `cosine_bounds` ->
`normed_bounds` and `gated_bounds` -> `list_certificates`. Of content that spreads linearly:
`linear_bounds`. No files here: an evaluation on disk is `uatmc_jax.benchmark`.
"""

from uatmc_jax.attacks.attacked import Attacked, attack
from uatmc_jax.attacks.batching import Options, join
from uatmc_jax.attacks.certificates import (
    Certificate,
    certificate_of,
    certificate_said,
    certify,
)
from uatmc_jax.attacks.collateral import Collateral, collateral, collateral_of
from uatmc_jax.attacks.edited_lists import OwnListings, own_listings
from uatmc_jax.attacks.linear_bounds import certify_linear
from uatmc_jax.attacks.list_certificates import bound_listings, certify_lists
from uatmc_jax.attacks.listed import listed_hits, nothing_batches
from uatmc_jax.attacks.listings import Listings, listings
from uatmc_jax.attacks.neighbour_choice import Chosen, choose_neighbours
from uatmc_jax.attacks.outcome import attack_batches
from uatmc_jax.attacks.own_listing import relist_rows
from uatmc_jax.attacks.policies import served
from uatmc_jax.attacks.reach import content_under, user_hits
from uatmc_jax.attacks.record import (
    LISTED,
    Attack,
    Outcome,
    apgd,
    choosing,
    copying,
    fgsm,
    pgd,
    random_search,
)
from uatmc_jax.attacks.relisting import Relisted, relist
from uatmc_jax.attacks.soft_lists import Effort
from uatmc_jax.attacks.transfer import check_shared_z, measure_batches, transfer_batches
from uatmc_jax.attacks.victim import Lists, Victim, make_victim
from uatmc_jax.models import POLICIES, blind

__all__ = [
    "LISTED",
    "POLICIES",
    "Attack",
    "Attacked",
    "Certificate",
    "Chosen",
    "Collateral",
    "Effort",
    "Listings",
    "Lists",
    "Options",
    "Outcome",
    "OwnListings",
    "Relisted",
    "Victim",
    "apgd",
    "attack",
    "attack_batches",
    "blind",
    "bound_listings",
    "certificate_of",
    "certificate_said",
    "certify",
    "certify_linear",
    "certify_lists",
    "check_shared_z",
    "choose_neighbours",
    "choosing",
    "collateral",
    "collateral_of",
    "content_under",
    "copying",
    "fgsm",
    "join",
    "listed_hits",
    "listings",
    "make_victim",
    "measure_batches",
    "nothing_batches",
    "own_listings",
    "pgd",
    "random_search",
    "relist",
    "relist_rows",
    "served",
    "transfer_batches",
    "user_hits",
]
