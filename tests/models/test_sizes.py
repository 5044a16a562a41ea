"""How many numbers each model of Baby's size trains: a check of whole checkpoints."""

import math

import jax
import pytest

from uatmc_jax.models import (
    Sizes,
    bm3,
    dragon,
    freedom,
    lattice,
    lgmrec,
    lightgcn,
    mgcn,
    mmgcf,
)

N_USERS, N_ITEMS, WIDTHS = 19_445, 7_050, {"visual": 4096, "textual": 384}
RAW = N_ITEMS * sum(WIDTHS.values())  # tables of raw features, which are the data's here
# Of MMRec's checkpoints; DRAGON's has layers that nothing reads: weight_i, MLP_v, MLP_t,
# MLP_user, image_trs and text_trs.
UNREAD = 2 * N_ITEMS + 2 * 64 * 64 + 64 * 128 + 64 + 64 * (4096 + 1) + 64 * (384 + 1)
PUBLISHED = {
    lightgcn: 1_695_680,
    freedom: 33_566_528 - RAW,
    bm3: 33_570_688 - RAW,
    lattice: 33_566_530 - RAW,
    mgcn: 33_587_392 - RAW,
    lgmrec: 33_584_320 - RAW,
    dragon: 35_609_534 - RAW - UNREAD,
    mmgcf: 33_566_528 - RAW + 1,  # a scalar that weighting "equal" does not read
}


@pytest.mark.parametrize("make", PUBLISHED, ids=lambda make: make.__name__)
def test_as_many_numbers_as_the_published_checkpoint(make):
    params = jax.eval_shape(make(Sizes(N_USERS, N_ITEMS, WIDTHS)).init, jax.random.key(0))
    leaves = jax.tree.leaves((params.projectors, params.encoder))
    assert sum(math.prod(x.shape) for x in leaves) == PUBLISHED[make]
