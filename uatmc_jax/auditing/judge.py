"""One model of an audit, judged: attacks, certificates, content use, recall, its users."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.attacks import (
    Attack,
    Victim,
    certify,
    join,
)
from uatmc_jax.auditing.entries import RECALL_K, Entry
from uatmc_jax.auditing.measures import (
    count_reached,
    hits_under,
    survey_certificates,
    user_recall,
)
from uatmc_jax.benchmark.deltas import read_deltas
from uatmc_jax.benchmark.rows import mean_moved
from uatmc_jax.benchmark.run import batches_of, options_of, run_attacks, victim_of
from uatmc_jax.benchmark.summary import mean_with_interval
from uatmc_jax.benchmark.verdict import suite_rows, verdict
from uatmc_jax.evaluation.content import LEAST_INTERACTIONS
from uatmc_jax.models import certifiable
from uatmc_jax.opened import OpenedRun
from uatmc_jax.report.commands import train_command
from uatmc_jax.seeds import generator, starts_key
from uatmc_jax.settings import AuditSettings, to_dict

# By how many of its training interactions a user is grouped.
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_BAND = (0.1, 0.5, 0.9)
# Of the suite's radius, along the curve of HR against it.
_BUDGETS = (0.25, 0.5, 0.75, 1.0)


class Judged(NamedTuple):
    """A model's entry in audit.json, and what a closer look needs.

    Attributes:
      found: the entry.
      results: {attack: its result}, as `run_attacks` gives them.
    """

    found: dict
    results: dict[str, dict]


def judge(entry: Entry, settings: AuditSettings, k: int, show_progress: bool) -> Judged:
    """Attacks, certificates, content use and recall of one model.

    Args:
      entry: the model.
      settings: the audit.
      k: K of the lists.
      show_progress: a bar on a terminal.
    """
    run, attack = entry.run, settings.attack
    results, (content,) = run_attacks(attack, [run], show_progress=show_progress)
    suite = [r for r in results if r["attack"] not in settings.other_threats]
    rows, names = suite_rows(suite, attack.ks), run.data.names
    for row in rows:
        row["shop_id"] = names.ids.get(row["item"])
        row["title"] = names.titles.get(row["item"])
        row["name"] = row["title"] or row["shop_id"]
        row["interactions"] = int(run.data.item_counts[row["item"]])
    stepped = next(r for r in results if r["attack"] == settings.steps_of)
    by_step = np.array([row["utility_by_step"] for row in stepped["rows"]])
    defended = run.settings.adversarial if run.where["stage"] == "adversarial" else None
    found = {
        "name": entry.name,
        "folder": str(run.folder),
        "checkpoint": run.where,
        "defense": None if defended is None else defended.defense,
        "adversarial": None if defended is None else to_dict(defended),
        "train_command": train_command(run.settings, run.folder) if defended else None,
        "recall": _recall(run, attack.bootstrap),
        "content": content,
        "deaf": deafness(results, content),
        "certificate": suite[0]["certificate"],
        "affine_in_content": suite[0]["affine_in_content"],
        "attacked_users": suite[0]["users"],
        "verdict": verdict(suite, k, attack.bootstrap),
        "other_threats": {
            r["attack"]: {"threat_model": r["threat_model"], "summary": r["summary"]}
            for r in results
            if r["attack"] in settings.other_threats
        },
        "rows": rows,
        "moved": _moved(rows, str(k)),
        "steps": {
            "attack": settings.steps_of,
            "quantiles": list(_BAND),
            "utility": np.quantile(by_step, _BAND, axis=0).tolist(),
        },
    }
    return Judged(found, {result["attack"]: result for result in results})


def _moved(rows: Sequence[Mapping], k: str) -> dict | None:
    """How far the strongest attack on each item takes z, on average."""
    ways = [{"moved": row["moved"][k]} for row in rows]
    return None if any(way["moved"] is None for way in ways) else mean_moved(ways)


def deafness(results: Sequence[Mapping], content: Mapping) -> dict | None:
    """Whether content can no longer bring an item like those attacked to whom it should be shown.

    Args:
      results: of one checkpoint.
      content: its use of content.

    Returns:
      {"any_content": what no content exceeds of an attacked item's HR@K, "hit_rate": the share
      of the held-out interactions with items as popular that are in the top K, "deaf": whether
      the first is below the second}; None for a model without certificates, a K that was not
      attacked, or too few such interactions.
    """
    hit_rate = content["metric"].replace("recall", "hr")
    bound = results[0]["summary"].get(hit_rate, {}).get("any_content_certificate")
    entry = content["valid"]["attacked"]
    if bound is None or entry["interactions"] < LEAST_INTERACTIONS:
        return None
    share = entry["hits"]["own"] / entry["interactions"]
    found = {"any_content": bound["value"], "hit_rate": share}
    return found | {"deaf": bound["value"] < share}


def _recall(run: OpenedRun, bootstrap: int) -> dict[str, dict]:
    """Mean recall@20 over users with its bootstrap 95 % interval, by split."""
    splits = ("valid", "test")
    found = user_recall(run.model, run.params, run.data, run.z, splits, RECALL_K)
    entries = {}
    for split, values in zip(splits, found, strict=True):
        mean = mean_with_interval(values, bootstrap)
        entries[split] = {
            "value": mean["value"],
            "over_users": mean["over_targets"],
            "users": len(values),
        }
    return entries


def look_closer(entry: Entry, judged: Judged, settings: AuditSettings, k: int) -> dict[str, Any]:
    """Which users are reached, and what is certified of items of any popularity.

    The perturbations are those of the strongest attack, as it has left them.

    Args:
      entry: the model.
      judged: what `judge` found of it.
      settings: the audit.
      k: K of the lists.
    """
    run, seed = entry.run, settings.attack.seeds[0]
    found = judged.found["verdict"]
    members, threat = found["members"], found["threat_model"]
    strongest = max(members, key=lambda name: members[name]["after"]["value"])
    attack = settings.attack.attacks[strongest]
    victim = victim_of(run, settings.attack, {strongest: attack}, seed)
    result = judged.results[strongest]
    items, moved = perturbations(result, attack, victim, seed, settings)
    options = options_of(settings.attack)
    reached = count_reached(hits_under(attack, victim, items, moved, k, options))
    # The same perturbations, counted the other way.
    other = dataclasses.replace(settings.attack, masked=not settings.attack.masked)
    otherwise = victim_of(run, other, {strongest: attack}, seed)
    counted = hits_under(attack, otherwise, items, moved, k, options)
    trained = np.bincount(run.data.train.users, minlength=run.data.n_users)
    trained = trained[np.asarray(victim.users)]
    size = min(settings.survey, run.data.n_items)
    drawn = generator(seed, "survey").choice(run.data.n_items, size, replace=False)
    drawn = np.sort(drawn).astype(np.int32)
    widest = attack.replace(eps=threat["eps"])
    serving = settings.attack.serving
    survey = survey_certificates(widest, victim, drawn, k, serving) if size else None
    return {
        "users_reached": {
            "attack": strongest,
            "targets": len(items),
            "counted_otherwise": {
                "masked": other.masked,
                **dict(zip(("before", "after"), counted.mean(axis=(0, 2)).tolist(), strict=True)),
            },
            "histogram_before": np.bincount(reached.before, minlength=len(items) + 1).tolist(),
            "histogram_after": np.bincount(reached.after, minlength=len(items) + 1).tolist(),
            "histogram_gained": np.bincount(reached.gained, minlength=len(items) + 1).tolist(),
            "by_activity": _by_activity(trained, reached.before, reached.after, len(items)),
        },
        **_certified(victim, items, settings, threat, k),
        "survey": None
        if survey is None
        else {
            "items": survey.items.tolist(),
            "shown": survey.shown.tolist(),
            "bound": survey.bound.tolist(),
        },
    }


def _certified(
    victim: Victim, items: np.ndarray, settings: AuditSettings, threat: Mapping, k: int
) -> dict[str, Any]:
    """Mean HR@K of the targets under one attack within several budgets, and what bounds it.

    The bounds are of one edit that is the same for all users; within the largest budget also
    of each target by itself.
    """
    shares, name = np.array(_BUDGETS) * threat["eps"], settings.steps_of
    attack, key = settings.attack.attacks[name], starts_key(settings.attack.seeds[0])
    options = options_of(settings.attack)._replace(ks=(k,), ranks=False)
    found = join(list(batches_of(attack.replace(eps=shares), victim, items, key, options)))
    before, one_edit, bound = float(found.hr_before.mean()), None, None
    if certifiable(victim.model) and attack.level == "projected":
        within = {"norm": attack.norm, "modalities": attack.modalities, "ks": k}
        widest = certify(victim, items, eps=float(shares[-1]), branches=settings.branches, **within)
        smaller = certify(victim, items, eps=shares[:-1], branches=1, **within)
        # What a larger ball does not exceed, a smaller one does not either.
        means = [*np.minimum(smaller, widest).mean(axis=1).tolist(), float(widest.mean())]
        bound = [before, *means]
        one_edit = {
            "branches": settings.branches,
            "items": items.tolist(),
            "bound": widest.tolist(),
            **mean_with_interval(widest, settings.attack.bootstrap),
        }
    curve = {
        "attack": name,
        "eps": [0.0, *shares.tolist()],
        "hr": [before, *found.hr_after[..., 0].mean(axis=0).tolist()],
        "certificate": bound,
    }
    return {"curve": curve, "one_edit": one_edit}


def perturbations(
    result: Mapping, attack: Attack, victim: Victim, seed: int, settings: AuditSettings
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """A result's items, and its perturbations by modality.

    Older versions have left none beside theirs; these are made again.

    Args:
      result: of `run_attacks`.
      attack: its attack.
      victim: the model attacked.
      seed: of the evaluation.
      settings: the audit.

    Returns:
      (T,) targets, and (T, dim_m) for each of the attack's modalities.
    """
    kept = read_deltas(result)
    if kept is not None:
        return kept.items, tuple(kept.rows[m] for m in victim.modalities if m in kept.rows)
    items = np.array([row["item"] for row in result["rows"]], np.int32)
    options = options_of(settings.attack)
    found = join(list(batches_of(attack, victim, items, starts_key(seed), options)))
    return items, found.delta


def _by_activity(
    trained: np.ndarray, before: np.ndarray, after: np.ndarray, targets: int
) -> list[dict]:
    """Mean shares of the targets in the top K, for users of like many training interactions."""
    edges = np.quantile(trained, _QUANTILES, method="nearest")
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (trained >= low if not rows else trained > low) & (trained <= high)
        if inside.any():
            rows.append(
                {
                    "interactions": [int(trained[inside].min()), int(trained[inside].max())],
                    "users": int(inside.sum()),
                    "before": float(before[inside].mean() / targets),
                    "after": float(after[inside].mean() / targets),
                    "never": float((after[inside] == 0).mean()),
                }
            )
    return rows
