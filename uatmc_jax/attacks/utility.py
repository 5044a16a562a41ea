"""What a promotion attack wants: the target in as many users' top K as possible (Eq. 3).

    Phi = mean_u g(x_u),   x_u = y'_ut - s_u^(K)

with y'_ut the target's score and s_u^(K) the K-th largest score of user u, both
under the perturbed model, the target itself included.
"""

import jax
import jax.numpy as jnp

# Which of these two g is can be data of a compiled function.
SWITCHED = ("elu", "hinge")
_GAINS = {
    "elu": lambda x, margin: jax.nn.elu(x),
    "hinge": lambda x, margin: jax.nn.relu(x + margin),
    "sigmoid": lambda x, margin: jax.nn.sigmoid(x / margin),
}


def promotion_utility(
    excess: jax.Array, weights: jax.Array, utility: str | jax.Array, margin: jax.Array
) -> jax.Array:
    """Phi, the weighted mean of g over the users.

    "elu" (CLeaR's):   g(x) = x for x >= 0, exp(x) - 1 below
    "hinge" (the published code's):   g(x) = max(x + margin, 0)
    "sigmoid", a smooth hit rate:   g(x) = 1 / (1 + exp(-x / margin))

    x_u = 0 while the target is exactly the K-th (s_u^(K) is its own score), so
    the sigmoid counts such a user as half a hit.

    >>> promotion_utility(jnp.array([-5.0, 1.0]), jnp.ones(2), "hinge", 1.0).item()
    1.0

    Args:
      excess: (users,) x_u.
      weights: (users,), 0 for users that do not count.
      utility: "elu", "hinge" or "sigmoid"; or () int32, a place in `SWITCHED`.
      margin: of the hinge; the sigmoid's width, above 0, in units of the scores.
    """
    counted, total = _weighted_gains(excess, weights, utility, margin)
    return jnp.sum(counted) / total


def user_shares(
    excess: jax.Array, weights: jax.Array, utility: str | jax.Array, margin: jax.Array
) -> jax.Array:
    """(users,) each user's share of Phi, same arguments: they add up to `promotion_utility`."""
    counted, total = _weighted_gains(excess, weights, utility, margin)
    return counted / total


def _weighted_gains(
    excess: jax.Array, weights: jax.Array, utility: str | jax.Array, margin: jax.Array
) -> tuple[jax.Array, jax.Array]:
    if isinstance(utility, str):
        gains = _GAINS[utility](excess, margin)
    else:
        # A branch, not a selection: on a CPU the exponential is dear beside a cheap model's score.
        gains = jax.lax.switch(utility, [_GAINS[name] for name in SWITCHED], excess, margin)
    counted = jnp.where(weights > 0, weights * gains, 0.0)
    return counted, jnp.maximum(jnp.sum(weights), 1e-30)
