"""What Table 2's rows say of the paper's claims."""

import numpy as np

from experiments import content
from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED, Claim
from experiments.paper.effects import (
    decided,
    in_points,
    on_gain_or_points,
    reversed_effect,
    verdict,
)
from experiments.study import CONTROL, UNDEFENDED, Rows
from uatmc_jax.report.text import change, gain

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
K = 50


def split(rows: Rows) -> tuple[dict, dict]:
    """{(variant, attack): row} measured, and {(against, compared): row} of comparisons."""
    measured = {(r["variant"], r["attack"]): r for r in rows if "attack" in r and "weight" not in r}
    compared = {
        tuple((r[side]["variant"], r[side]["attack"]) for side in ("against", "compared")): r
        for r in rows
        if "compared" in r
    }
    return measured, compared


def claims_of(rows: Rows) -> list[Claim]:
    """Section 5.2's claims on attacks, defences and what these cost, as far as there are rows."""
    measured, compared = split(rows)
    whole = compared and {(v, a) for v in DEFENCES for a in ("fgsm", "pgd")} <= set(measured)
    weighed = [row for row in rows if "weight" in row]
    return [
        *(_promotion(measured) if (UNDEFENDED, "pgd") in measured else []),
        *(_attacks(measured, compared) if compared and (UNDEFENDED, "pgd") in measured else []),
        *(_best_weight(weighed) if weighed else []),
        *(_defences(measured, compared) if whole else []),
        *_costs(measured),
    ]


def _gain_of(measured: dict, variant: str, attack: str) -> dict:
    return measured[variant, attack]["summary"][f"hr@{K}"]["gain"]


def _promotion(measured: dict) -> list[Claim]:
    of_both = {a: _gain_of(measured, UNDEFENDED, a) for a in ("fgsm", "pgd")}
    return [
        Claim(
            "5.2",
            "Unpopular items of the undefended model can be promoted.",
            verdict([entry["over_targets"] for entry in of_both.values()]),
            ", ".join(f"{a.upper()} gain {gain(entry)}" for a, entry in of_both.items()),
        )
    ]


def _attacks(measured: dict, compared: dict) -> list[Claim]:
    """PGD beside FGSM, and both with the alignment term beside without, on the undefended model."""

    def after(first: str, second: str) -> dict:
        return compared[(UNDEFENDED, first), (UNDEFENDED, second)]["differences"]["after"]

    claims = []
    for ending, g in (("", "hinge, margin 10 in FGSM, 1 in PGD"), ("_elu", "elu")):
        found = after(f"fgsm{ending}", f"pgd{ending}")
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
        of_both = {b: after(f"{b}{ending}", f"{b}{ending}_aligned") for b in ("fgsm", "pgd")}
        inert = linear and g == "hinge"
        claims.append(
            Claim(
                "5.2",
                f"Attacks with L_align promote more than those without (w/o AT, g = {g}).",
                verdict([entry["over_targets"] for entry in of_both.values()]),
                "HR@50 after, with against without: "
                + ", ".join(f"{b.upper()} {change(entry)}" for b, entry in of_both.items()),
                "scores are linear in z, so the gradients of a hinge are piecewise constant and "
                "their cosine has no gradient: the term is inert"
                if inert
                else "",
            )
        )
    return claims


def _best_weight(weighed: Rows) -> list[Claim]:
    effects = {row["weight"]: row["against_unaligned"]["after"] for row in weighed}
    best = max(
        effects, key=lambda w: -np.inf if effects[w]["value"] is None else effects[w]["value"]
    )
    return [
        Claim(
            "5.2",
            "With its best weight, L_align makes PGD promote more (w/o AT, g = elu).",
            verdict([effects[best]["over_targets"]]),
            f"HR@50 after, with against without: {change(effects[best])} at weight {best:g}, the "
            f"best of {', '.join(f'{w:g}' for w in effects)}",
            "the weight is chosen on the same targets, in the term's favour",
        )
    ]


def _defences(measured: dict, compared: dict) -> list[Claim]:
    texts = {
        (UNDEFENDED, CONTROL): "As many epochs more, without a defence, lower the gain already.",
        (UNDEFENDED, "uat"): "UAT lowers the gain against w/o AT.",
        (CONTROL, "uat"): "UAT lowers the gain against training on without a defence.",
        ("uat", "uat_mc"): "UAT-MC lowers the gain further than UAT.",
    }
    claims = []
    for (weaker, better), text in texts.items():
        found = {
            a: on_gain_or_points(compared[(weaker, a), (better, a)]["differences"])
            for a in ("fgsm", "pgd")
        }
        claims.append(
            Claim(
                "control" if better == CONTROL else "5.2",
                text,
                decided([reversed_effect(entry) for entry in found.values()]),
                "; ".join(
                    f"{a.upper()} {gain(_gain_of(measured, weaker, a))} -> "
                    f"{gain(_gain_of(measured, better, a))}, difference {in_points(entry)}"
                    for a, entry in found.items()
                ),
                "" if "over_trainings" in found["pgd"] else "one training seed",
            )
        )
    return claims


def _costs(measured: dict) -> list[Claim]:
    """UAT-MC's Recall@10 beside each model without a defence that is measured."""
    # What of each training is the same for all attacks stands in the first's row.
    trainings = {v: row["by_training"] for (v, _), row in measured.items() if "by_training" in row}
    claims = []
    for baseline in (UNDEFENDED, CONTROL):
        if not {(baseline, "pgd"), ("uat_mc", "pgd")} <= set(measured):
            continue
        before, after = (measured[v, "pgd"] for v in (baseline, "uat_mc"))
        several = baseline in trainings and "uat_mc" in trainings
        each = (trainings.get(r["variant"], [r]) for r in (before, after))
        pairs = list(zip(*each, strict=True))
        kept = [b["test"]["recall@10"] >= 0.9 * a["test"]["recall@10"] for a, b in pairs]
        recalls = [r["test"]["recall@10"] for r in (before, after)]
        use = [content.cells(r["content"]) for r in (before, after)]
        claims.append(
            Claim(
                "5.2",
                f"UAT-MC costs at most a tenth of Recall@10, against {DEFENCES[baseline]}.",
                UNDECIDED if not several else HOLDS if all(kept) else FAILS,
                f"Recall@10 {recalls[0]:.4f} -> {recalls[1]:.4f}; "
                + ", ".join(
                    f"{name} {a} -> {b}" for name, a, b in zip(content.HEADER, *use, strict=True)
                ),
                f"in {sum(kept)} of {len(kept)} training seeds" if several else "one training seed",
            )
        )
    return claims
