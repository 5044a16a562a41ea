"""Table 2: three defences under FGSM and PGD, without and with the alignment term.

Beyond the paper's columns: the same attacks under g = elu, without which the
alignment term cannot act on a model linear in z; content utility; and whether one
attack or defence really beats another, target by target.
"""

import itertools
import pathlib
from collections.abc import Callable

from experiments import content, plots
from experiments.paper import numbers
from experiments.paper.artefact import Artefact
from experiments.paper.table2_claims import DEFENCES, LADDER, K, claims_of, split
from experiments.study import CONTROL, UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import (
    attack_seconds,
    attack_settings,
    attack_trainings,
    attack_variant,
    measuring_unit,
)
from uatmc_jax.benchmark.summary import compare
from uatmc_jax.report.text import change, gain, percent, promoted, table
from uatmc_jax.settings import AttackRunSettings

ATTACKS = ("fgsm", "fgsm_aligned", "pgd", "pgd_aligned")


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
    seconds = attack_seconds(study, len(study.seeds), study.plan.target_seeds, fgsm=4, pgd=4)
    units = [
        measuring_unit(
            study,
            f"table2/{variant}",
            [variant],
            plan,
            seconds,
            lambda tell, variant=variant: attack_trainings(study, variant, settings)[0],
            trainings=True,
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
            study,
            "table2/comparisons",
            DEFENCES,
            plan,
            15.0,
            lambda tell: _compare(study, tell),
            trainings=True,
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
        found[variant] = attack_trainings(study, variant, settings)[1]
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


def _section(rows: Rows) -> list[str]:
    measured, _ = split(rows)
    header = ["defence", "attack", "HR@50 before", "after", "gain", "points", "certificate"]
    header += ["Recall@10", "NDCG@10", *content.HEADER, "hits, attacked range"]
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
                f"{100 * (entry['after']['value'] - entry['before']['value']):+.3f}",
                percent(bound["value"]) if bound else "none",
                beside(f"{row['test']['recall@10']:.4f}", paper.recall_at_10 if known else None),
                beside(f"{row['test']['ndcg@10']:.4f}", paper.ndcg_at_10 if known else None),
                *content.cells(row["content"]),
                content.found(row["content"]),
            ]
        )
    weights = _weights_section([r for r in rows if "weight" in r])
    if not measured:
        return weights
    row = next(iter(measured.values()))
    seeds, users = row["evaluation"]["seeds"], row["users"]
    variants = {variant for variant, _ in measured}
    hardened = (
        "Hardened models at their last epoch (the paper's at their best one by recall)"
        if variants - {UNDEFENDED, CONTROL}
        else "No hardened model is measured yet"
    )
    trained_on = (
        "*w/o AT, trained on* has had as many epochs more as the hardened ones. "
        if CONTROL in variants
        else ""
    )
    return [
        *table(header, lines, left=2),
        "",
        f"{len(seeds)} seeds x {row['evaluation']['targets']['sample']} targets, each attacked "
        f"alone on {users:,} users; after a gain its 95 % interval over targets, in braces over "
        f"seeds, in parentheses everywhere the paper's value. {hardened}"
        + (
            f"; training seeds {', '.join(map(str, row['training_seeds']))}, over which all "
            "numbers are averaged and intervals, then, cover both seeds and targets"
            if "training_seeds" in row
            else "; one training seed"
        )
        + f". {trained_on}Certificate: no attack of that budget can reach a higher "
        "HR@50. Points: HR@50 after minus before, in percent. "
        + content.NOTE
        + " Hits, attacked range: of the test interactions with items as popular as those "
        "attacked, those in the top 20.",
        *(["", *weights] if weights else []),
    ]


def _papers(row: dict) -> numbers.Table2Row | None:
    return numbers.TABLE_2.get((row["dataset"]["name"], row["model"], row["variant"]))


def _weights_section(rows: Rows) -> list[str]:
    if not rows:
        return []
    header = ["weight of L_align in PGD, g = elu, w/o AT", "gain", "HR@50 after, against none"]
    return table(
        header,
        [
            [
                f"{row['weight']:g}",
                promoted(row["summary"][f"hr@{K}"]),
                change(row["against_unaligned"]["after"]),
            ]
            for row in rows
        ],
    )


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    measured, _ = split(rows)
    first = rows[0]
    gains, theirs = {}, {}
    drawn = {v: label for v, label in DEFENCES.items() if (v, "pgd") in measured}
    if not drawn:
        return []
    for variant, label in drawn.items():
        paper = _papers(measured[variant, "pgd"])
        for attack in ("fgsm", "pgd"):
            gains[label, attack] = measured[variant, attack]["summary"][f"hr@{K}"]["gain"]
            if paper:
                theirs[label, attack] = getattr(paper, f"{attack}_gain") / 100
    others = {
        "Recall@10": {drawn[v]: measured[v, "pgd"]["test"]["recall@10"] for v in drawn},
        **{
            name: {drawn[v]: content.value(measured[v, "pgd"]["content"], name) for v in drawn}
            for name in content.HEADER
        },
    }
    # Rows of older versions have no contribution.
    others = {name: values for name, values in others.items() if None not in values.values()}
    title = f"{first['model'].upper()} on {first['dataset']['name']}"
    return [plots.defences(folder / "table2.png", title, gains, theirs, others)]


ARTEFACT = Artefact(
    name="table2",
    title="Table 2: defences under attack",
    trainings=lambda study: list(DEFENCES),
    units=_units,
    section=_section,
    claims=claims_of,
    draw=_draw,
    seeded=lambda study: list(DEFENCES),
    part=lambda unit: unit,
)
