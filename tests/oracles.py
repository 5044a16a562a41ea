"""Independent references: dense float64 NumPy, written from the formulas, not from the library."""

import itertools

import numpy as np


def to_float64(tree):
    """The same containers with float64 NumPy leaves."""
    import jax

    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def numeric_gradient(function, tree, step=1e-5):
    """Central differences of a scalar function with respect to every number in a pytree."""
    import jax

    leaves, treedef = jax.tree.flatten(to_float64(tree))
    gradients = [np.zeros_like(leaf) for leaf in leaves]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        for index in np.ndindex(leaf.shape):
            kept = leaf[index]
            leaf[index] = kept + step
            above = function(jax.tree.unflatten(treedef, leaves))
            leaf[index] = kept - step
            below = function(jax.tree.unflatten(treedef, leaves))
            leaf[index] = kept
            gradient[index] = (above - below) / (2 * step)
    return jax.tree.unflatten(treedef, gradients)


def complex_step_gradient(function, arrays, step=1e-30):
    """Gradient of a scalar function of a list of arrays, exact to rounding: Im f(x + ih) / h."""
    gradients = []
    for n, array in enumerate(arrays):
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * step
            gradient[index] = function([*arrays[:n], moved, *arrays[n + 1 :]]).imag / step
        gradients.append(gradient)
    return gradients


# The next three also take complex numbers, for `complex_step_gradient`.


def normalize(x):
    norm = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return x / np.where(norm == 0, 1.0, norm)


def leaky_relu(x):
    return np.where(x.real > 0, x, 0.01 * x)


def lightgcn(user, item, train, n_layers):
    """The mean over 0 to L of A^^l [user; item], users and items."""
    owned = np.zeros((len(user), len(item)))
    owned[train.users, train.items] = 1
    scale = np.sqrt(np.maximum(owned.sum(axis=1), 1))[:, None] * np.sqrt(
        np.maximum(owned.sum(axis=0), 1)
    )
    walk, users, items = owned / scale, user, item
    for _ in range(n_layers):
        user, item = walk @ item, walk.T @ user
        users, items = users + user, items + item
    return users / (n_layers + 1), items / (n_layers + 1)


def softplus(x):
    return np.log(1.0 + np.exp(x))


def projector(params, x):
    layers = params["params"]
    depth = sum(name.startswith("LayerNorm") for name in layers)
    for n in range(depth):
        x = np.maximum(x @ layers[f"Dense_{n}"]["kernel"] + layers[f"Dense_{n}"]["bias"], 0)
        centred = x - x.mean(axis=1, keepdims=True)
        x = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        x = x * layers[f"LayerNorm_{n}"]["scale"] + layers[f"LayerNorm_{n}"]["bias"]
    last = layers[f"Dense_{depth}"]
    return normalize(x @ last["kernel"] + last["bias"])


def project(params, features, modalities):
    return [projector(params[m], x) for m, x in zip(modalities, features, strict=True)]


def vbpr(encoder, z):
    content = np.concatenate(z, axis=1) @ encoder.kernel + encoder.bias
    return encoder.user, np.concatenate([encoder.item, content], axis=1)


def mean_matrix(pairs, n_users, n_items):
    adjacency = np.zeros((n_users + n_items,) * 2)
    for user, item in zip(pairs.users, pairs.items, strict=True):
        adjacency[user, n_users + item] = adjacency[n_users + item, user] = 1
    return adjacency / np.maximum(adjacency.sum(axis=1, keepdims=True), 1)


def mmgcn(encoder, z, mean, n_users, fuse):
    outputs = []
    for tower, content in zip(encoder.towers, z, strict=True):
        if tower.widen is not None:
            content = content @ tower.widen.kernel + tower.widen.bias
        x = normalize(np.concatenate([tower.preference, content]))
        for layer in tower.layers:
            h = leaky_relu(mean @ (x @ layer.neighbour))
            x_hat = leaky_relu(x @ layer.own.kernel + layer.own.bias) + encoder.identity
            if fuse == "concat":
                x = np.concatenate([h, x_hat], axis=1) @ layer.fuse.kernel + layer.fuse.bias
            else:
                x = h @ layer.fuse.kernel + layer.fuse.bias + x_hat
            x = leaky_relu(x)
        outputs.append(x)
    nodes = sum(outputs) / len(outputs)
    return nodes[:n_users], nodes[n_users:]


def bpr(user, item, triples):
    losses = [softplus(-(user[u] @ (item[p] - item[n]))) for u, p, n in triples]
    return np.mean(losses)


def vbpr_exact(encoder, z, triples, eps, norm):
    """Of the exact defence, mean softplus(-smallest margin); and the content term."""
    user, item = vbpr(encoder, z)
    content = user[:, -item.shape[1] // 2 :]
    pulls = np.split(content @ encoder.kernel.T, len(z), axis=1)
    order = 1 if norm == "linf" else 2
    worst = [
        user[u] @ (item[p] - item[n])
        - sum(
            eps * np.linalg.norm(rows[i]) * np.linalg.norm(w[u], ord=order)
            for rows, w in zip(z, pulls, strict=True)
            for i in (p, n)
        )
        for u, p, n in triples
    ]
    nothing = vbpr(encoder, [np.zeros_like(rows) for rows in z])[1]
    parts = [user[u] @ (item[p] - item[n] - nothing[p] + nothing[n]) for u, p, n in triples]
    return np.mean(softplus(-np.array(worst))), np.mean(softplus(-np.array(parts)))


def vbpr_reg(user, item, triples):
    u, p, n = np.array(triples).T
    return sum(np.linalg.norm(h) for h in (user[u], item[p], item[n])) / len(triples)


def mmgcn_reg(encoder, triples, n_users):
    u, p, n = np.array(triples).T
    squares = encoder.identity**2
    users, positives, negatives = (squares[rows].mean() for rows in (u, p + n_users, n + n_users))
    preference = (encoder.towers[0].preference ** 2).mean()
    return users + positives / 2 + negatives / 2 + preference


def info_nce(a, b, temperature):
    logits = np.exp(temperature) * a @ b.T
    own = np.diag(logits)
    by_row = np.log(np.exp(logits).sum(axis=1))
    by_column = np.log(np.exp(logits).sum(axis=0))
    return ((by_row - own).mean() + (by_column - own).mean()) / 2


def modal_info_nce(z, temperature):
    pairs = list(itertools.combinations(z, 2))
    return np.mean([info_nce(a, b, temperature) for a, b in pairs]) if pairs else 0.0


def alignment(gradients, rows):
    """Mean over rows (and pairs of modalities) of the cosine."""
    means = []
    for a, b in itertools.combinations(gradients, 2):
        cosines = [
            a[r] @ b[r] / (np.linalg.norm(a[r]) * np.linalg.norm(b[r]))
            for r in rows
            if a[r].any() and b[r].any()
        ]
        means.append(np.mean(cosines) if cosines else 0.0)
    return np.mean(means) if means else 0.0


def rank(scores, seen):
    """All items of each user, best first, seen ones last; ties by id."""
    scores = scores.copy()
    for user, item in zip(seen.users, seen.items, strict=True):
        scores[user, item] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")


def ranking_metrics(ranked, held_out, ks):
    by_user = {}
    for user, item in zip(held_out.users, held_out.items, strict=True):
        by_user.setdefault(int(user), set()).add(int(item))
    results = {}
    for k in ks:
        rows = []
        for user, relevant in by_user.items():
            hits = [int(item) in relevant for item in ranked[user, :k]]
            ideal = min(len(relevant), k)
            found = np.cumsum(hits)
            rows.append(
                (
                    sum(hits) / len(relevant),
                    sum(h / np.log2(j + 2) for j, h in enumerate(hits))
                    / sum(1 / np.log2(j + 2) for j in range(ideal)),
                    sum(hits) / k,
                    sum(f / (j + 1) for j, (h, f) in enumerate(zip(hits, found, strict=True)) if h)
                    / ideal,
                )
            )
        for name, value in zip(
            ("recall", "ndcg", "precision", "map"), np.mean(rows, axis=0), strict=True
        ):
            results[f"{name}@{k}"] = value
    return results
