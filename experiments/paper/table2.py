"""Table 2: three defences under FGSM and PGD, without and with the alignment term.

Beyond the paper's columns: the same attacks under g = elu, without which the
alignment term cannot act on a model linear in z; content utility; and whether one
attack or defence really beats another, target by target.
"""

import itertools
import pathlib
from collections.abc import Callable

from experiments import plots
from experiments.paper import numbers
from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim, verdict
from experiments.study import (
    UNDEFENDED,
    Rows,
    Study,
    Unit,
    attack_seconds,
    attack_settings,
    attack_variant,
    measuring_unit,
)
from uatmc_jax.attacks.results import compare
from uatmc_jax.report.text import gain, percent, table
from uatmc_jax.settings import AttackRunSettings, to_dict

DEFENCES = {UNDEFENDED: "w/o AT", "uat": "UAT", "uat_mc": "UAT-MC"}
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
    plan = to_dict(settings)
    seconds = attack_seconds(study, 1, study.plan.target_seeds, fgsm=8, pgd=8)
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
            to_dict(weights),
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
        pairs.append(((variant, "fgsm"), (variant, "pgd")))
    for attack in settings.attacks:
        pairs.append(((UNDEFENDED, attack), ("uat", attack)))
        pairs.append((("uat", attack), ("uat_mc", attack)))
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
    first = rows[0]
    header = ["defence", "attack", "HR@50 before", "after", "gain", "paper's gain"]
    header += ["certificate", "Recall@10", "NDCG@10", "content utility"]
    lines = []
    for (variant, attack), row in measured.items():
        entry = row["summary"][f"hr@{K}"]
        paper = numbers.TABLE_2.get((first["dataset"]["name"], first["model"], variant))
        theirs = f"{getattr(paper, attack + '_gain'):,.2f}%" if paper and attack in ATTACKS else ""
        bound = entry.get("budget_certificate")
        lines.append(
            [
                DEFENCES[variant],
                attack,
                percent(entry["before"]["value"]),
                percent(entry["after"]["value"]),
                gain(entry["gain"]),
                theirs,
                percent(bound["value"]) if bound else "none",
                f"{row['test']['recall@10']:.4f}",
                f"{row['test']['ndcg@10']:.4f}",
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
        "seeds. Hardened models at their last epoch. Certificate: no attack of that budget can "
        "reach a higher HR@50. Content utility: test recall@20 lost when the items' features are "
        "permuted.",
        "",
        *_weights_section([r for r in rows if "weight" in r]),
    ]


def _weights_section(rows: Rows) -> list[str]:
    header = ["weight of L_align in PGD, g = elu, w/o AT", "gain", "HR@50 after, against none"]
    return table(
        header,
        [
            [
                f"{row['weight']:g}",
                gain(row["summary"][f"hr@{K}"]["gain"]),
                gain(row["against_unaligned"]["after"]),
            ]
            for row in rows
        ],
    )


def _shown(row: dict, key: str) -> str:
    return gain(row["differences"][key])


def _claims(rows: Rows) -> list[Claim]:
    measured, compared = _split(rows)
    claims = []

    def gain_of(variant: str, attack: str) -> dict:
        return measured[variant, attack]["summary"][f"hr@{K}"]["gain"]

    lows = [gain_of(UNDEFENDED, a)["over_targets"][0] for a in ("fgsm", "pgd")]
    claims.append(
        Claim(
            "5.2",
            "Unpopular items of the undefended model can be promoted.",
            HOLDS if all(low is not None and low > 0 for low in lows) else FAILS,
            ", ".join(f"{a.upper()} gain {gain(gain_of(UNDEFENDED, a))}" for a in ("fgsm", "pgd")),
        )
    )
    stronger = compared[(UNDEFENDED, "fgsm"), (UNDEFENDED, "pgd")]
    claims.append(
        Claim(
            "5.2",
            "PGD promotes more than FGSM (w/o AT).",
            verdict(stronger["differences"]["after"]["over_targets"][0]),
            f"HR@50 after PGD against FGSM {_shown(stronger, 'after')}",
        )
    )
    for ending, g in (("", "hinge"), ("_elu", "elu")):
        pairs = [
            compared[(UNDEFENDED, f"{b}{ending}"), (UNDEFENDED, f"{b}{ending}_aligned")]
            for b in ("fgsm", "pgd")
        ]
        changes = [pair["differences"]["after"] for pair in pairs]
        inert = all(change["over_targets"] == [0.0, 0.0] for change in changes)
        claims.append(
            Claim(
                "5.2",
                f"Attacks with L_align promote more than those without (w/o AT, g = {g}).",
                HOLDS if all(verdict(c["over_targets"][0]) == HOLDS for c in changes) else FAILS,
                f"HR@50 after, with against without: FGSM {gain(changes[0])}, "
                f"PGD {gain(changes[1])}",
                "the term is inert: scores are linear in z, so the gradients of a hinge are "
                "piecewise constant"
                if inert
                else "",
            )
        )
    weighed = [r for r in rows if "weight" in r]
    best = max(weighed, key=lambda r: r["against_unaligned"]["after"]["value"] or -1.0)
    claims.append(
        Claim(
            "5.2",
            "With its best weight, L_align makes PGD promote more (w/o AT, g = elu).",
            verdict(best["against_unaligned"]["after"]["over_targets"][0]),
            f"HR@50 after, with against without: {gain(best['against_unaligned']['after'])} at "
            f"weight {best['weight']:g}, the best of "
            + ", ".join(f"{r['weight']:g}" for r in weighed),
            "the weight is chosen on the same targets, in the term's favour",
        )
    )
    for weaker, better, text in (
        (UNDEFENDED, "uat", "UAT lowers the gain against w/o AT."),
        ("uat", "uat_mc", "UAT-MC lowers the gain further than UAT."),
    ):
        pairs = {a: compared[(weaker, a), (better, a)] for a in ("fgsm", "pgd")}
        highs = [p["differences"]["gain"]["over_targets"][1] for p in pairs.values()]
        shown = "; ".join(
            f"{a.upper()} {gain(gain_of(weaker, a))} -> {gain(gain_of(better, a))}, difference "
            f"{_shown(p, 'gain')}"
            for a, p in pairs.items()
        )
        down = all(high is not None and high < 0 for high in highs)
        claims.append(Claim("5.2", text, HOLDS if down else FAILS, shown))
    before, after = (measured[v, "pgd"] for v in (UNDEFENDED, "uat_mc"))
    change = after["test"]["recall@10"] / before["test"]["recall@10"] - 1
    use = [r["content"]["content_utility"] for r in (before, after)]
    claims.append(
        Claim(
            "5.2",
            "UAT-MC costs little recommendation performance.",
            HOLDS if change > -0.1 else FAILS,
            f"Recall@10 {before['test']['recall@10']:.4f} -> {after['test']['recall@10']:.4f} "
            f"({change:+.1%}); content utility {use[0]:.4f} -> {use[1]:.4f}",
            "one training seed; little means less than a tenth, the paper's own loss on Baby "
            "VBPR being 5 %",
        )
    )
    return claims


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    measured, _ = _split(rows)
    first = rows[0]
    gains, theirs = {}, {}
    for variant, label in DEFENCES.items():
        paper = numbers.TABLE_2.get((first["dataset"]["name"], first["model"], variant))
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

if __name__ == "__main__":
    from experiments import reproduce

    reproduce.run_alone(ARTEFACT)
