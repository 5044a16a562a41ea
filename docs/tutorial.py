# %% [markdown]
# # Tutorial: push an item, and make it harder
#
# A made-up shop: train a recommender, look at somebody's top 10, push one item into lists it was
# not in, plot how far it gets against how much it may change, harden the recommender, compare.
# Put your own tables in place of the first step and the rest stays.
#
# This notebook is made from `docs/tutorial.py` by `python docs/execute_tutorial.py`.

# %% [markdown]
# ## A shop
#
# Three things: who bought what, what the items are called, and features of their pictures and
# texts. Here they are drawn at random, then written as the tables that a shop would have.

# %%
import csv
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import uatmc_jax as um
from uatmc_jax.data import SPLITS, make_synthetic
from uatmc_jax.preparation import GenericSettings, prepare

COLOURS = "red blue green black white yellow brown grey pink orange violet silver".split()
THINGS = "teapot scarf lamp chair vase mug clock rug basket mirror candle plate kettle tray".split()
SIZES = ("small ", "", "large ")
TITLES = [f"{size}{colour} {thing}" for thing in THINGS for colour in COLOURS for size in SIZES]

drawn = make_synthetic(1, n_users=1200, n_items=len(TITLES), n_interactions=14_000)
with open("purchases.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["customer", "article"])
    for split in SPLITS:
        pairs = drawn.split(split)
        rows = zip(pairs.users, pairs.items, strict=True)
        table.writerows((f"c{user}", f"a{item}") for user, item in rows)
with open("articles.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["article", "name"])
    table.writerows((f"a{item}", title) for item, title in enumerate(TITLES))
for name, matrix in zip(("pictures.npy", "texts.npy"), drawn.features, strict=True):
    np.save(name, matrix)

# %% [markdown]
# `prepare` makes a data set of them: customers and articles with fewer than five purchases are
# dropped, each customer's purchases are split 80/10/10, and what was dropped is written down.
# With pictures and texts in place of features it runs encoders over them ([Data](data.md)).

# %%
manifest = prepare(
    GenericSettings(
        out=pathlib.Path("data/shop"),
        name="shop",
        interactions=pathlib.Path("purchases.csv"),
        user_column="customer",
        item_column="article",
        items=pathlib.Path("articles.csv"),
        id_column="article",
        title_column="name",
        image_features=pathlib.Path("pictures.npy"),
        text_features=pathlib.Path("texts.npy"),
    )
)
data = um.load("data/shop")
print(f"{data.n_users} customers, {data.n_items} articles, {len(data.train.users)} to train on")
print("kept:", manifest["interactions"]["kept"])

# %% [markdown]
# ## Train
#
# A model is a few pure functions; what was learned is a value that `fit` gives back.

# %%
model = um.models.vbpr(data.sizes, dim=32)
clean = um.fit(model, data, um.pretrain(epochs=30), seed=0)
victim = um.victim(model, clean, data)
print(f"recall@20 {um.evaluate(victim)['recall@20']:.3f}")

# %% [markdown]
# ## Somebody's top 10

# %%
for row in um.recommend(victim, [0], k=10).rows():
    print(f"{row['rank']:>2}  {row['id']:<5} {row['title']:<20} {row['score']:6.2f}")

# %% [markdown]
# ## Push one item
#
# An item of the less popular half. Its seller may move every number of its *projected* features
# by up to eps times their length. Whether a picture exists that moves them so is not asked: it is
# the attacker's best case ([The threat](threat_model.md)). The certificate says what no such edit
# exceeds, found or not.

# %%
item = um.targets(data, quantiles=(0, 0.5), sample=1, seed=0)
pgd, eps = um.attacks.pgd(norm="linf", steps=10), (0.01, 0.02, 0.05, 0.1)
found = um.attack(pgd, victim, item, eps=eps)
bound = um.certify(victim, item, norm="linf", eps=eps)
print(
    f"{found.rows()[0]['title']}: in the top 50 of {np.mean(found.hr_before):.1%} of the customers"
)
for budget, after, most in zip(eps, found.hr_after[:, 0], bound[:, 0], strict=True):
    print(f"eps {budget:<4}  under attack {after:6.1%}, under any attack at most {most:6.1%}")

# %% [markdown]
# ## Harden, and compare
#
# `exact` goes on from the trained model, on the worst perturbation in closed form. Then the same
# attack on 50 items, on both. HR is the share of the customers who have the item in their top 50;
# solid: what the attack reaches, dashed: what none exceeds.

# %%
hard = um.fit(model, data, um.defenses.exact(lam=0.1, eps=0.2), init=clean, seed=0)
items = um.targets(data, quantiles=(0, 0.5), sample=50, seed=0)

figure, axes = plt.subplots(figsize=(5, 3.2), dpi=90)
for name, params, colour in (("as trained", clean, "tab:blue"), ("hardened", hard, "tab:green")):
    victim = um.victim(model, params, data)
    found = um.attack(pgd, victim, items, eps=eps)
    bound = um.certify(victim, items, norm="linf", eps=eps)
    before, after = np.mean(found.hr_before), found.hr_after.mean(1)
    axes.plot((0, *eps), (before, *after), "o-", color=colour, label=name)
    axes.plot(eps, bound.mean(1), "--", color=colour)
    recall = um.evaluate(victim)["recall@20"]
    reached = ", ".join(f"{share:.1%}" for share in after)
    print(f"{name:<10}  recall@20 {recall:.3f}  HR before {before:.1%}, after {reached}")
axes.set(xlabel="eps", ylabel="mean HR@50", ylim=(0, None))
axes.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# A hardened model is worth its recall, its robustness and how much it still reads content, all at
# once: one that reads no content cannot be fooled by it. [Defences](defenses.md) has all three
# measured on real data; [Audit](audit.md) does all of this in one command, on your own catalogue,
# with a report to hand on.
