"""Table 2: three defences under FGSM and PGD, without and with the alignment term.

Beyond the paper's columns: the same attacks under g = elu, without which the
alignment term cannot act on a model linear in z; content utility; and whether one
attack or defence really beats another, target by target.
"""

import itertools
import pathlib
from collections.abc import Callable

import numpy as np

from experiments import plots
from experiments.paper import numbers
from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim, negative, verdict
from experiments.study import CONTROL, UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, attack_settings, attack_variant, measuring_unit
from uatmc_jax.benchmark.summary import compare
from uatmc_jax.report.text import change, gain, percent, table
from uatmc_jax.settings import AttackRunSettings

DEFENCES = {
    UNDEFENDED: "w/o AT",
    CONTROL: "w/o AT, trained on",
    "uat": "UAT",
    "uat_mc": "UAT-MC",
}
# Which defence is held against which.
LADDER = (
    (UNDEFENDED, CONTROL),
    (UNDEFENDED, "uat"),
    (CONTROL, "uat"),
    ("uat", "uat_mc"),
)
ATTACKS = ("fgsm", "fgsm_aligned", "pgd", "pgd_aligned")
K = 50


def _attacks(study: Study) -> AttackRunSettings:
    aligned = {"beta": study.plan.attack_beta}
    elu = {"utility": "elu", "margin": 0.0}
    attacks = {}
    for base, (ending, more) in itertools.product(("fgsm", "pgd"), (("", {}), ("_elu", elu))):
        attacks[f"{base}{ending}"] = {"base": base, **more}
        attacks[f"{base}{ending}_aligned"] = {"base": base, **more, **aligned}
    return attack_settings(study, study.plan.target_seeds, attacks)


def _units(study: Study) -> list[Unit]:
    settings = _attacks(study)
    plan = recorded(settings)
    seconds = attack_seconds(study, 1, study.plan.target_seeds, fgsm=4, pgd=4)
    units = [
        measuring_unit(
            study,
            f"table2/{variant}",
            [variant],
            plan,
            seconds,
            lambda tell, variant=variant: attack_variant(study, variant, settings)[0],
        )
        for variant in DEFENCES
    ]
    weights = _weights(study)
    return [
        *units,
        measuring_unit(
            study,
            "table2/weights",
            [UNDEFENDED],
            recorded(weights),
            attack_seconds(study, 1, study.plan.target_seeds, pgd=len(weights.attacks)),
            lambda tell: _weigh(study),
        ),
        measuring_unit(
            study, "table2/comparisons", DEFENCES, plan, 15.0, lambda tell: _compare(study, tell)
        ),
    ]


def _weights(study: Study) -> AttackRunSettings:
    """PGD under elu with the alignment term weighted in several ways; "pgd_elu" has none."""
    elu = {"base": "pgd", "utility": "elu", "margin": 0.0}
    attacks = {f"pgd_elu_{beta:g}": {**elu, "beta": beta} for beta in study.plan.attack_betas}
    return attack_settings(study, study.plan.target_seeds, {"pgd_elu": elu, **attacks})


def _weigh(study: Study) -> Rows:
    settings = _weights(study)
    rows, found = attack_variant(study, UNDEFENDED, settings)
    return [
        {
            **row,
            "weight": row["threat_model"]["beta"],
            "against_unaligned": compare(
                found["pgd_elu"], found[row["attack"]], K, settings.bootstrap
            ),
        }
        for row in rows
        if row["threat_model"]["beta"]
    ]


def _compare(study: Study, tell: Callable[[float], None]) -> Rows:
    """Pairs of attacks on each defence, and of defences under each attack."""
    settings = _attacks(study)
    found = {}
    for n, variant in enumerate(DEFENCES, start=1):
        found[variant] = attack_variant(study, variant, settings)[1]
        tell(n / (len(DEFENCES) + 1))
    pairs = []
    for variant, attacks in found.items():
        for name in attacks:
            if name.endswith("_aligned"):
                pairs.append(((variant, name.removesuffix("_aligned")), (variant, name)))
        for ending in ("", "_elu"):
            pairs.append(((variant, f"fgsm{ending}"), (variant, f"pgd{ending}")))
    for attack in settings.attacks:
        for weaker, better in LADDER:
            pairs.append(((weaker, attack), (better, attack)))
    return [
        {
            "compared": {"variant": b[0], "attack": b[1]},
            "against": {"variant": a[0], "attack": a[1]},
            "seeds": list(settings.seeds),
            "differences": compare(found[a[0]][a[1]], found[b[0]][b[1]], K, settings.bootstrap),
        }
        for a, b in pairs
    ]


def _split(rows: Rows) -> tuple[dict, dict]:
    measured = {(r["variant"], r["attack"]): r for r in rows if "attack" in r and "weight" not in r}
    compared = {
        tuple((r[side]["variant"], r[side]["attack"]) for side in ("against", "compared")): r
        for r in rows
        if "compared" in r
    }
    return measured, compared


def _section(rows: Rows) -> list[str]:
    measured, _ = _split(rows)
    header = ["defence", "attack", "HR@50 before", "after", "gain", "certificate"]
    header += ["Recall@10", "NDCG@10", "content utility"]
    lines = []
    for (variant, attack), row in measured.items():
        entry, paper = row["summary"][f"hr@{K}"], _papers(row)

        def beside(text: str, theirs: float | None) -> str:
            return text if theirs is None else f"{text} ({theirs:,g})"

        known = paper is not None and attack in ATTACKS
        bound = entry.get("budget_certificate")
        lines.append(
            [
                DEFENCES[variant],
                attack,
                beside(percent(entry["before"]["value"]), paper.before if known else None),
                beside(percent(entry["after"]["value"]), getattr(paper, attack) if known else None),
                beside(gain(entry["gain"]), getattr(paper, f"{attack}_gain") if known else None),
                percent(bound["value"]) if bound else "none",
                beside(f"{row['test']['recall@10']:.4f}", paper.recall_at_10 if known else None),
                beside(f"{row['test']['ndcg@10']:.4f}", paper.ndcg_at_10 if known else None),
                f"{row['content']['content_utility']:.4f}",
            ]
        )
    row = next(iter(measured.values()))
    seeds, users = row["evaluation"]["seeds"], row["users"]
    return [
        *table(header, lines, left=2),
        "",
        f"{len(seeds)} seeds x {row['evaluation']['targets']['sample']} targets, each attacked "
        f"alone on {users:,} users; after a gain its 95 % interval over targets, in braces over "
        "seeds, in parentheses everywhere the paper's value. Hardened models at their last epoch "
        "(the paper's at their best one by recall). *w/o AT, trained on* has had as many epochs "
        "more as the hardened ones. Certificate: no attack of that budget can reach a higher "
        "HR@50. Content utility: test recall@20 lost when the items' features are permuted.",
        "",
        *_weights_section([r for r in rows if "weight" in r]),
    ]


def _papers(row: dict) -> numbers.Table2Row | None:
    return numbers.TABLE_2.get((row["dataset"]["name"], row["model"], row["variant"]))


def _weights_section(rows: Rows) -> list[str]:
    header = ["weight of L_align in PGD, g = elu, w/o AT", "gain", "HR@50 after, against none"]
    return table(
        header,
        [
            [
                f"{row['weight']:g}",
                gain(row["summary"][f"hr@{K}"]["gain"]),
                change(row["against_unaligned"]["after"]),
            ]
            for row in rows
        ],
    )


def _claims(rows: Rows) -> list[Claim]:
    measured, compared = _split(rows)

    def gain_of(variant: str, attack: str) -> dict:
        return measured[variant, attack]["summary"][f"hr@{K}"]["gain"]

    def pair(first: tuple[str, str], second: tuple[str, str], key: str) -> dict:
        return compared[first, second]["differences"][key]

    of_both = {a: gain_of(UNDEFENDED, a) for a in ("fgsm", "pgd")}
    claims = [
        Claim(
            "5.2",
            "Unpopular items of the undefended model can be promoted.",
            verdict([entry["over_targets"] for entry in of_both.values()]),
            ", ".join(f"{a.upper()} gain {gain(entry)}" for a, entry in of_both.items()),
        )
    ]
    for ending, g in (("", "hinge, margin 10 in FGSM, 1 in PGD"), ("_elu", "elu")):
        found = pair((UNDEFENDED, f"fgsm{ending}"), (UNDEFENDED, f"pgd{ending}"), "after")
        claims.append(
            Claim(
                "5.2",
                f"PGD promotes more than FGSM (w/o AT, g = {g}).",
                verdict([found["over_targets"]]),
                f"HR@50 after, PGD against FGSM: {change(found)}",
            )
        )
    linear = measured[UNDEFENDED, "pgd"]["affine_in_content"]
    for ending, g in (("", "hinge"), ("_elu", "elu")):
        found = {
            b: pair((UNDEFENDED, f"{b}{ending}"), (UNDEFENDED, f"{b}{ending}_aligned"), "after")
            for b in ("fgsm", "pgd")
        }
        inert = linear and g == "hinge"
        claims.append(
            Claim(
                "5.2",
                f"Attacks with L_align promote more than those without (w/o AT, g = {g}).",
                verdict([entry["over_targets"] for entry in found.values()]),
                "HR@50 after, with against without: "
                + ", ".join(f"{b.upper()} {change(entry)}" for b, entry in found.items()),
                "scores are linear in z, so the gradients of a hinge are piecewise constant and "
                "their cosine has no gradient: the term is inert"
                if inert
                else "",
            )
        )
    weighed = [r for r in rows if "weight" in r]
    effects = {r["weight"]: r["against_unaligned"]["after"] for r in weighed}
    best = max(
        effects, key=lambda w: -np.inf if effects[w]["value"] is None else effects[w]["value"]
    )
    claims.append(
        Claim(
            "5.2",
            "With its best weight, L_align makes PGD promote more (w/o AT, g = elu).",
            verdict([effects[best]["over_targets"]]),
            f"HR@50 after, with against without: {change(effects[best])} at weight {best:g}, the "
            f"best of {', '.join(f'{w:g}' for w in effects)}",
            "the weight is chosen on the same targets, in the term's favour",
        )
    )
    texts = {
        (UNDEFENDED, CONTROL): "As many epochs more, without a defence, lower the gain already.",
        (UNDEFENDED, "uat"): "UAT lowers the gain against w/o AT.",
        (CONTROL, "uat"): "UAT lowers the gain against training on without a defence.",
        ("uat", "uat_mc"): "UAT-MC lowers the gain further than UAT.",
    }
    for (weaker, better), text in texts.items():
        found = {a: pair((weaker, a), (better, a), "gain") for a in ("fgsm", "pgd")}
        claims.append(
            Claim(
                "control" if better == CONTROL else "5.2",
                text,
                verdict([negative(entry["over_targets"]) for entry in found.values()]),
                "; ".join(
                    f"{a.upper()} {gain(gain_of(weaker, a))} -> {gain(gain_of(better, a))}, "
                    f"difference {change(entry, ' points')}"
                    for a, entry in found.items()
                ),
            )
        )
    for baseline in (UNDEFENDED, CONTROL):
        before, after = (measured[v, "pgd"] for v in (baseline, "uat_mc"))
        recalls = [r["test"]["recall@10"] for r in (before, after)]
        use = [r["content"]["content_utility"] for r in (before, after)]
        claims.append(
            Claim(
                "5.2",
                f"UAT-MC costs at most a tenth of Recall@10, against {DEFENCES[baseline]}.",
                HOLDS if recalls[1] >= 0.9 * recalls[0] else FAILS,
                f"Recall@10 {recalls[0]:.4f} -> {recalls[1]:.4f}; content utility {use[0]:.4f} -> "
                f"{use[1]:.4f}",
                "one training seed, so no interval",
            )
        )
    return claims


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    measured, _ = _split(rows)
    first = rows[0]
    gains, theirs = {}, {}
    for variant, label in DEFENCES.items():
        paper = _papers(measured[variant, "pgd"])
        for attack in ("fgsm", "pgd"):
            gains[label, attack] = measured[variant, attack]["summary"][f"hr@{K}"]["gain"]
            if paper:
                theirs[label, attack] = getattr(paper, f"{attack}_gain") / 100
    others = {
        "Recall@10": {DEFENCES[v]: measured[v, "pgd"]["test"]["recall@10"] for v in DEFENCES},
        "content utility": {
            DEFENCES[v]: measured[v, "pgd"]["content"]["content_utility"] for v in DEFENCES
        },
    }
    title = f"{first['model'].upper()} on {first['dataset']['name']}"
    return [plots.defences(folder / "table2.png", title, gains, theirs, others)]


ARTEFACT = Artefact(
    name="table2",
    title="Table 2: defences under attack",
    trainings=lambda study: list(DEFENCES),
    units=_units,
    section=_section,
    claims=_claims,
    draw=_draw,
)
