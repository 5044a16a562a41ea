"""Random small models to attack, and a dense float64 reference of what an attack sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from uatmc_jax.attacks import Attack, Lists, Options, attack_batches, join, make_victim
from uatmc_jax.attacks.victim import SPARE_ITEMS
from uatmc_jax.data import make_synthetic
from uatmc_jax.models import lightgcn, mmgcn, vbpr

KS = (1, 5, 10)
K = 5
DATASET = make_synthetic(3, n_users=60, n_items=50, n_interactions=500)
DIM = 4
SPREAD = {"vbpr": 2.0, "mmgcn": 1.4, "lightgcn": 2.0}


@functools.cache
def model_of(name):
    """The model, one for all cases: what is compiled for one serves the others."""
    shared = {"dim": DIM, "hidden": {}, "default_hidden": (6,)}
    if name == "vbpr":
        return vbpr(DATASET.sizes, **shared)
    if name == "lightgcn":
        return lightgcn(DATASET.sizes, dim=DIM, content=True)
    return mmgcn(DATASET.sizes, **shared, latent_dims={"visual": 6})


class Case:
    """A model with random weights on the small data set, and some of its users."""

    def __init__(self, name, seed=0, masked=False, share=0.5, spare=None):
        self.model = model_of(name)
        rng = np.random.default_rng(seed)
        params = self.model.init(jax.random.key(seed))
        noise = jax.tree.map(
            lambda x: jnp.asarray(rng.normal(scale=0.3, size=x.shape), jnp.float32), params
        )
        params = jax.tree.map(jnp.add, params, noise)
        # Large weights, so that scores lie apart and perturbations move ranks: a best score is
        # about 8 here, or 5 where propagation multiplies them three times over.
        spread = SPREAD[name]
        self.params = params.replace(encoder=jax.tree.map(lambda x: spread * x, params.encoder))
        self.data = DATASET.on_device
        size = int(share * DATASET.n_users)
        self.users = np.sort(rng.choice(DATASET.n_users, size, replace=False)).astype(np.int32)
        self.name, self.masked = name, masked
        self.victim = make_victim(
            self.model,
            self.params,
            DATASET,
            self.users,
            masked=masked,
            lists=Lists(max(KS), SPARE_ITEMS if spare is None else spare, 16, 32),
        )
        self.adjacency = DATASET.adjacency
        self.mean = oracles.mean_matrix(DATASET.train, DATASET.n_users, DATASET.n_items)

    def scores(self, target, z_t):
        """(n, |I|) float64 scores with the target's content replaced; -inf where masked."""
        z = [np.array(x, np.float64) for x in self.victim.z]
        for table, row in zip(z, z_t, strict=True):
            table[target] = np.asarray(row, np.float64).reshape(-1)
        encoder = oracles.to_float64(self.params.encoder)
        if self.name == "vbpr":
            user, item = oracles.vbpr(encoder, z)
        elif self.name == "lightgcn":
            user, item = oracles.lightgcn(encoder.user, encoder.item + sum(z), DATASET.train, 2)
        else:
            user, item = oracles.mmgcn(encoder, z, self.mean, DATASET.n_users, "concat")
        scores = user[self.users] @ item.T
        if self.masked:
            for row, owner in enumerate(self.users):
                scores[row, DATASET.train.items[DATASET.train.users == owner]] = -np.inf
        return scores

    def recommendable(self, target):
        """(n,) bool."""
        owners = DATASET.train.users[DATASET.train.items == target]
        return ~np.isin(self.users, owners) if self.masked else np.ones(len(self.users), bool)

    def hits(self, target, z_t):
        """(n, Ks) bool: fewer than K other items score at least as much."""
        scores = self.scores(target, z_t)
        ahead = (scores >= scores[:, [target]]).sum(axis=1) - 1
        hit = ahead[:, None] < np.array(KS)
        return hit & self.recommendable(target)[:, None]

    def ranks(self, target, z_t):
        """(n,) from 1."""
        scores = self.scores(target, z_t)
        return (scores >= scores[:, [target]]).sum(axis=1)

    def utility(self, target, z_t, kind, margin, weights=None):
        """Phi, by sorting everything."""
        scores = self.scores(target, z_t)
        threshold = -np.sort(-scores, axis=1)[:, K - 1]
        x = scores[:, target] - threshold
        seen_by = self.recommendable(target)
        w = seen_by * (1.0 if weights is None else weights)
        x = np.where(seen_by, x, 0.0)
        gains = np.maximum(x + margin, 0) if kind == "hinge" else np.where(x > 0, x, np.expm1(x))
        return (w * gains).sum() / w.sum()


@functools.cache
def case(name, seed=0, masked=False, share=0.5, spare=None):
    """The same case for all tests that ask for it."""
    return Case(name, seed, masked, share, spare)


MODALITIES = ("visual", "textual")


def attack(**changes):
    """An `Attack` on z of the small data set; by default the published PGD."""
    return Attack(**({"k": K} | changes))


def strength(eps=0.1, step_size=0.125, margin=1.0, beta=0.0):
    """The data fields of an attack, for `Attack.replace`."""
    return {"eps": eps, "step_size": step_size, "margin": margin, "beta": beta}


ITEMS = np.array([3, 17, 8, 40, 25], np.int32)
MODELS = ("vbpr", "mmgcn")
# The same on MMGCN compiles for half a minute each.
MMGCN_SLOW = ("vbpr", pytest.param("mmgcn", marks=pytest.mark.slow))
# Compiling takes most of the time: as far as they can, tests on MMGCN share these two.
PLAIN = attack(steps=2)
RESTARTED = attack(steps=1, restarts=3, utility="elu")


def run(c, chosen, power, items=ITEMS, seed=0, weights=None, **options):
    """The joined outcome of attacking `items`."""
    given = (chosen.replace(**power), c.victim, items, jax.random.key(seed), weights)
    return join(list(attack_batches(*given, Options(KS, **options))))
