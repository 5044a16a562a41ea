"""The models that write the checkpoints, in PyTorch, from the formulas of the specification.

Parameters have the published names; aggregation is index_add over the training edges.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch'")
nn, F = torch.nn, torch.nn.functional


def projector(n_in, hidden, dim):
    layers = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.ReLU(), nn.LayerNorm(width)]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, dim))


class Projected(nn.Module):
    """Both published models' projectors and temperature."""

    def __init__(self, dataset, dim, hidden):
        super().__init__()
        raw = dataset.raw_dims
        self.features = {
            m: torch.tensor(x) for m, x in zip(dataset.modalities, dataset.features, strict=True)
        }
        self.item_v_proj = projector(raw["visual"], hidden["visual"], dim)
        self.item_t_proj = projector(raw["textual"], hidden["textual"], dim)
        self.temperature = nn.Parameter(torch.tensor(0.07))

    def z(self):
        return (
            F.normalize(self.item_v_proj(self.features["visual"]), dim=-1),
            F.normalize(self.item_t_proj(self.features["textual"]), dim=-1),
        )


class VBPR(Projected):
    """h_u free, h_i = [e_i ; W [z^v ; z^t] + b]."""

    def __init__(self, dataset, dim, hidden):
        super().__init__(dataset, dim, hidden)
        self.u_embedding = nn.Parameter(torch.empty(dataset.n_users, 2 * dim))
        self.i_embedding = nn.Parameter(torch.empty(dataset.n_items, dim))
        self.item_linear = nn.Linear(2 * dim, dim)

    def scores(self):
        content = self.item_linear(torch.cat(self.z(), dim=1))
        return self.u_embedding @ torch.cat([self.i_embedding, content], dim=1).T


class PlainVBPR(nn.Module):
    """h_u free, h_i = [e_i ; W [x^t ; x^v] + b], the raw features that there are."""

    def __init__(self, dataset, dim):
        super().__init__()
        there = dict(zip(dataset.modalities, dataset.features, strict=True))
        raw = [there[m] for m in ("textual", "visual") if m in there]
        self.raw = torch.from_numpy(np.concatenate(raw, axis=1))
        self.u_embedding = nn.Parameter(torch.empty(dataset.n_users, 2 * dim))
        self.i_embedding = nn.Parameter(torch.empty(dataset.n_items, dim))
        self.item_linear = nn.Linear(self.raw.shape[1], dim)

    def scores(self):
        content = self.item_linear(self.raw)
        return self.u_embedding @ torch.cat([self.i_embedding, content], dim=1).T


class Weight(nn.Module):
    """x W."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))


class Tower(nn.Module):
    """One modality's graph network."""

    def __init__(self, n_users, dim, latent, concat, n_layers):
        super().__init__()
        width = latent or dim
        self.preference = nn.Parameter(torch.empty(n_users, width))
        if latent:
            self.MLP = nn.Linear(dim, latent)
        self.latent, self.concat, self.n_layers = latent, concat, n_layers
        for k in range(1, n_layers + 1):
            setattr(self, f"conv_embed_{k}", Weight(width))
            setattr(self, f"linear_layer{k}", nn.Linear(width, dim))
            setattr(self, f"g_layer{k}", nn.Linear(width + (dim if concat else 0), dim))
            width = dim

    def forward(self, z, identity, mean):
        content = self.MLP(z) if self.latent else z
        x = F.normalize(torch.cat([self.preference, content]))
        for k in range(1, self.n_layers + 1):
            h = F.leaky_relu(mean(x @ getattr(self, f"conv_embed_{k}").weight))
            x_hat = F.leaky_relu(getattr(self, f"linear_layer{k}")(x)) + identity
            fuse = getattr(self, f"g_layer{k}")
            x = fuse(torch.cat([h, x_hat], dim=1)) if self.concat else fuse(h) + x_hat
            x = F.leaky_relu(x)
        return x


class MMGCN(Projected):
    """The mean of two towers over the same graph."""

    def __init__(self, dataset, dim, hidden, latent=None, concat=True, n_layers=3):
        super().__init__(dataset, dim, hidden)
        self.n_users = dataset.n_users
        n = dataset.n_users + dataset.n_items
        users = torch.from_numpy(dataset.train.users.astype(np.int64))
        items = torch.from_numpy(dataset.train.items.astype(np.int64)) + dataset.n_users
        self.source, self.sink = torch.cat([users, items]), torch.cat([items, users])
        self.degrees = torch.bincount(self.sink, minlength=n).clamp(min=1)[:, None]
        self.id_embedding = nn.Parameter(torch.empty(n, dim))
        self.v_gcn = Tower(dataset.n_users, dim, latent, concat, n_layers)
        self.t_gcn = Tower(dataset.n_users, dim, None, concat, n_layers)

    def mean(self, x):
        total = torch.zeros_like(x).index_add(0, self.sink, x[self.source])
        return total / self.degrees

    def scores(self):
        z_v, z_t = self.z()
        nodes = self.v_gcn(z_v, self.id_embedding, self.mean)
        nodes = (nodes + self.t_gcn(z_t, self.id_embedding, self.mean)) / 2
        return nodes[: self.n_users] @ nodes[self.n_users :].T


class LightGCN(nn.Module):
    """h = mean over l = 0..L of A^^l e, A^ with 1/sqrt(d_u d_i)."""

    def __init__(self, dataset, dim, n_layers=2):
        super().__init__()
        self.embedding_dict = nn.ParameterDict(
            {
                "user_emb": nn.Parameter(torch.empty(dataset.n_users, dim)),
                "item_emb": nn.Parameter(torch.empty(dataset.n_items, dim)),
            }
        )
        self.dense, self.n_layers = normalized_adjacency(dataset), n_layers

    def scores(self):
        user, item = self.embedding_dict["user_emb"], self.embedding_dict["item_emb"]
        user, item = propagated(self.dense, user, item, self.n_layers)
        return user @ item.T


def normalized_adjacency(dataset):
    """(|U|, |I|) R^."""
    rated = torch.zeros(dataset.n_users, dataset.n_items)
    rated[dataset.train.users.astype(np.int64), dataset.train.items.astype(np.int64)] = 1.0
    sizes = rated.sum(dim=1).clamp(min=1), rated.sum(dim=0).clamp(min=1)
    return rated / sizes[0].sqrt()[:, None] / sizes[1].sqrt()[None]


def propagated(block, user, item, n_layers):
    """LG_L of both tables."""
    users, items = [user], [item]
    for _ in range(n_layers):
        user, item = block @ item, block.T @ user
        users.append(user), items.append(item)
    return torch.stack(users).mean(dim=0), torch.stack(items).mean(dim=0)


def knn(features, k):
    """(|I|, |I|) cosines of each item's k nearest, itself among them; 0 elsewhere."""
    units = F.normalize(torch.tensor(features, dtype=torch.float64))
    cosines = units @ units.T
    values, ids = torch.topk(cosines, k, dim=1)
    return torch.zeros_like(cosines).scatter_(1, ids, values).float()


class Tabled(nn.Module):
    """What FREEDOM, BM3 and MGCN share: id tables, trained raw features, projectors."""

    def __init__(self, dataset, dim):
        super().__init__()
        visual, textual = (
            dataset.features[dataset.modalities.index(m)] for m in ("visual", "textual")
        )
        self.raw = {"v": visual, "t": textual}
        self.dense = normalized_adjacency(dataset)
        self.user_embedding = nn.Embedding(dataset.n_users, dim)
        self.item_id_embedding = nn.Embedding(dataset.n_items, dim)
        self.image_embedding = nn.Embedding(*visual.shape)
        self.text_embedding = nn.Embedding(*textual.shape)
        self.image_trs = nn.Linear(visual.shape[1], dim)
        self.text_trs = nn.Linear(textual.shape[1], dim)

    def lists(self, n_layers):
        ids = self.user_embedding.weight, self.item_id_embedding.weight
        return propagated(self.dense, *ids, n_layers)


class FREEDOM(Tabled):
    """h_u = LG_2, h_i = LG_2 + .1 S_v e + .9 S_t e, S unweighted."""

    def __init__(self, dataset, dim, k=10):
        super().__init__(dataset, dim)
        lists = {m: (knn(x, k) != 0).float() / k for m, x in self.raw.items()}
        self.mixed = 0.1 * lists["v"] + 0.9 * lists["t"]

    def scores(self):
        user, item = self.lists(2)
        return user @ (item + self.mixed @ self.item_id_embedding.weight).T


class BM3(Tabled):
    """y = <Q h_u + q, Q h_i + q>, h_u = LG_1, h_i = LG_1 + e_i."""

    def __init__(self, dataset, dim):
        super().__init__(dataset, dim)
        self.predictor = nn.Linear(dim, dim)

    def scores(self):
        user, item = self.lists(1)
        item = item + self.item_id_embedding.weight
        return self.predictor(user) @ self.predictor(item).T


class MGCN(Tabled):
    """LG_2 and a third of what gates of content and lists of neighbours add."""

    def __init__(self, dataset, dim, k=10):
        super().__init__(dataset, dim)
        self.query_common = nn.Sequential(
            nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False)
        )
        for name in ("gate_v", "gate_t", "gate_image_prefer", "gate_text_prefer"):
            setattr(self, name, nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid()))
        self.knn = {}
        for m, x in self.raw.items():
            near = knn(x, k)
            root = near.sum(dim=1).sqrt()
            self.knn[m] = near / root[:, None] / root[None]

    def scores(self):
        ids = self.item_id_embedding.weight
        z = {
            "v": self.image_trs(self.image_embedding.weight),
            "t": self.text_trs(self.text_embedding.weight),
        }
        own = torch.cat(self.lists(2))
        sides = {}
        for m, gate in (("v", self.gate_v), ("t", self.gate_t)):
            item = self.knn[m] @ (ids * gate(z[m]))
            sides[m] = torch.cat([self.dense @ item, item])
        weights = torch.softmax(
            torch.cat([self.query_common(sides["v"]), self.query_common(sides["t"])], dim=1), dim=1
        )
        common = weights[:, :1] * sides["v"] + weights[:, 1:] * sides["t"]
        side = self.gate_image_prefer(own) * (sides["v"] - common)
        side = (side + self.gate_text_prefer(own) * (sides["t"] - common) + common) / 3
        user, item = torch.split(own + side, [len(self.dense), len(ids)])
        return user @ item.T


def cosine_valued(near):
    """K_ij / sqrt(c_i c_j), c the row sums."""
    root = near.sum(dim=1).sqrt()
    return near / root[:, None] / root[None]


class LATTICE(Tabled):
    """h_u of the mean with itself, h_i with the direction of what raw and learned lists add up."""

    def __init__(self, dataset, dim, k=10):
        super().__init__(dataset, dim)
        self.modal_weight = nn.Parameter(torch.empty(2))
        self.k, self.raw_lists = k, {m: cosine_valued(knn(x, k)) for m, x in self.raw.items()}

    def scores(self):
        user, item = self.user_embedding.weight, self.item_id_embedding.weight
        n, both = len(user), torch.cat([user, item])
        edges = torch.zeros(len(both), len(both))
        edges[:n, n:] = (self.dense > 0).float()
        edges += edges.T.clone() + torch.eye(len(both))
        mean = edges / edges.sum(dim=1, keepdim=True)
        layers = [both, mean @ both, mean @ (mean @ both)]
        user, own = torch.split(torch.stack(layers).mean(dim=0), [n, len(item)])
        shares = torch.softmax(self.modal_weight, dim=0)
        z = (
            self.image_trs(self.image_embedding.weight),
            self.text_trs(self.text_embedding.weight),
        )
        learned = sum(w * knn(x.numpy(), self.k) for w, x in zip(shares, z, strict=True))
        kept = sum(w * self.raw_lists[m] for w, m in zip(shares, "vt", strict=True))
        listed = (0.1 * cosine_valued(learned) + 0.9 * kept) @ item
        return user @ (own + F.normalize(listed, dim=1)).T


class LGMRec(nn.Module):
    """LG_2, the content's second layer and hyperedges, without noise."""

    def __init__(self, dataset, dim, n_edges=4):
        super().__init__()
        visual, textual = (
            dataset.features[dataset.modalities.index(m)] for m in ("visual", "textual")
        )
        self.dense = normalized_adjacency(dataset)
        self.user_embedding = nn.Embedding(dataset.n_users, dim)
        self.item_id_embedding = nn.Embedding(dataset.n_items, dim)
        self.image_embedding = nn.Embedding.from_pretrained(torch.tensor(visual), freeze=True)
        self.text_embedding = nn.Embedding.from_pretrained(torch.tensor(textual), freeze=True)
        self.item_image_trs = nn.Parameter(torch.empty(visual.shape[1], dim))
        self.item_text_trs = nn.Parameter(torch.empty(textual.shape[1], dim))
        self.v_hyper = nn.Parameter(torch.empty(visual.shape[1], n_edges))
        self.t_hyper = nn.Parameter(torch.empty(textual.shape[1], n_edges))

    def scores(self):
        rated = (self.dense > 0).float()
        n_bought = rated.sum(dim=1, keepdim=True).clamp(min=1)
        ids = self.user_embedding.weight, self.item_id_embedding.weight
        user, item = propagated(self.dense, *ids, 2)
        near, far_user, far_item = 0.0, 0.0, 0.0
        for table, kernel, edges in (
            (self.image_embedding.weight, self.item_image_trs, self.v_hyper),
            (self.text_embedding.weight, self.item_text_trs, self.t_hyper),
        ):
            content = table @ kernel
            walked = torch.cat([rated @ content / n_bought, content])
            n = len(rated)
            for _ in range(2):
                walked = torch.cat([self.dense @ walked[n:], self.dense.T @ walked[:n]])
            near = near + F.normalize(walked, dim=1)
            logits = table @ edges
            p_item = torch.softmax(logits / 0.2, dim=1)
            p_user = torch.softmax(rated @ logits / 0.2, dim=1)
            joined = p_item.T @ item
            far_item, far_user = far_item + p_item @ joined, far_user + p_user @ joined
        far = F.normalize(torch.cat([far_user, far_item]), dim=1)
        user, item = torch.split(torch.cat([user, item]) + near + 0.3 * far, [len(user), len(item)])
        return user @ item.T


class DragonTower(nn.Module):
    """One modality's content and preferences, walked along the purchases."""

    def __init__(self, n_users, width, dim):
        super().__init__()
        self.preference = nn.Parameter(torch.empty(n_users, dim))
        self.MLP = nn.Linear(width, 4 * dim)
        self.MLP_1 = nn.Linear(4 * dim, dim)

    def forward(self, features, dense):
        z = F.normalize(self.MLP_1(F.leaky_relu(self.MLP(features))), dim=1)
        user, item = propagated(dense, F.normalize(self.preference, dim=1), z, 2)
        return 3 * user, 3 * item


class DRAGON(nn.Module):
    """Towers side by side, users with their forty co-buyers, items with their lists."""

    def __init__(self, dataset, dim, k=10):
        super().__init__()
        visual, textual = (
            dataset.features[dataset.modalities.index(m)] for m in ("visual", "textual")
        )
        self.raw = tuple(map(torch.tensor, (visual, textual)))
        self.dense = normalized_adjacency(dataset)
        self.v_gcn = DragonTower(dataset.n_users, visual.shape[1], dim)
        self.t_gcn = DragonTower(dataset.n_users, textual.shape[1], dim)
        self.weight_u = nn.Parameter(torch.empty(dataset.n_users, 2, 1))
        lists = [(knn(x, k) != 0).float() / k for x in (visual, textual)]
        self.mixed, self.heard = 0.1 * lists[0] + 0.9 * lists[1], self.cobuyers(40)
        # What it keeps and computes nothing with.
        self.weight_i = nn.Parameter(torch.empty(dataset.n_items, 2, 1))
        self.MLP_v, self.MLP_t = (nn.Linear(dim, dim, bias=False) for _ in "vt")
        self.MLP_user = nn.Linear(2 * dim, dim)
        self.image_embedding = nn.Embedding(*visual.shape)
        self.image_trs = nn.Linear(visual.shape[1], dim)
        self.text_embedding = nn.Embedding(*textual.shape)
        self.text_trs = nn.Linear(textual.shape[1], dim)
        self.result_embed = nn.Parameter(torch.empty(dataset.n_users + dataset.n_items, dim))

    def cobuyers(self, most):
        """Omega: the softmax of common purchases over those with the most, the first of equals."""
        rated = (self.dense > 0).double()
        common = (rated @ rated.T).fill_diagonal_(0)
        heard = torch.zeros_like(common)
        for user, counts in enumerate(common):
            order = np.lexsort((np.arange(len(counts)), -counts.numpy()))[:most]
            kept = torch.tensor([n for n in order if counts[n] > 0], dtype=torch.long)
            if len(kept):
                heard[user, kept] = torch.softmax(counts[kept], dim=0)
        return heard.float()

    def scores(self):
        towers = [
            tower(x, self.dense)
            for tower, x in zip((self.v_gcn, self.t_gcn), self.raw, strict=True)
        ]
        weighed = [self.weight_u[:, m] * user for m, (user, _) in enumerate(towers)]
        user, item = torch.cat(weighed, dim=1), torch.cat([item for _, item in towers], dim=1)
        return (user + self.heard @ user) @ (item + self.mixed @ item).T


def randomized(model, seed=0):
    """The model with all of its parameters drawn anew, norms' scales and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in filter(lambda one: one.requires_grad, model.parameters()):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def scores_of(model):
    """(|U|, |I|) scores of all pairs."""
    with torch.no_grad():
        return model.scores().numpy()
