"""What happens to an edit today, and after the next re-indexing: the audited model by policy."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from uatmc_jax.attacks import collateral_of, content_under
from uatmc_jax.auditing.entries import Entry
from uatmc_jax.auditing.judge import Judged, perturbations
from uatmc_jax.benchmark.rows import collateral_row, mean_collateral
from uatmc_jax.benchmark.run import run_attacks, victim_of
from uatmc_jax.benchmark.summary import summarize
from uatmc_jax.benchmark.verdict import suite_rows
from uatmc_jax.models import POLICIES, Model, blind, undefined
from uatmc_jax.settings import AuditSettings

_CERTIFICATES = ("budget_certificate", "any_content_certificate")


def by_policy(
    entry: Entry, judged: Judged, settings: AuditSettings, k: int, show_progress: bool
) -> dict[str, Any]:
    """The strongest attack's reach, certificates and use of content under each policy.

    What the audit has measured under its own policy is taken from there; where nothing can move
    nothing is run, and where only the item's own row can, own_row and full are one.

    Args:
      entry: the model audited.
      judged: what `judge` found of it.
      settings: the audit.
      k: K of the lists.
      show_progress: a bar on a terminal.

    Returns:
      {"attacked": the policy of the rest of the audit, "policies": {policy: {"says": why
      nothing was run, or None; "same_as": a policy with the same numbers, or None; "before",
      "after" and the certificates as `summarize` has them, "other_threats": {name: "after"},
      "contribution", "sensitivity" of all test interactions}}, where "says" is that the policy
      is not defined {"says"} alone; "collateral": what `collateral` gives, or None}.
    """
    own, model = settings.attack.serving, entry.run.model
    results, content = list(judged.results.values()), judged.found["content"]
    measured = {own: _measured(results, content, settings, k)}
    for policy in POLICIES:
        if policy in measured:
            continue
        says = undefined(model, policy)
        if says:
            measured[policy] = {"says": says}
        elif blind(model, policy):
            measured[policy] = _still(measured[own], blind(model, policy))
        elif _same(model, policy, own):
            measured[policy] = measured[own] | {"same_as": own}
        else:
            changed = {"serving": policy, "collateral": False}
            other = dataclasses.replace(settings.attack, **changed)
            found, (used,) = run_attacks(other, [entry.run], show_progress=show_progress)
            measured[policy] = _measured(found, used, settings, k)
    return {
        "attacked": own,
        "policies": {policy: measured[policy] for policy in POLICIES},
        "collateral": collateral(entry, judged, settings, k),
    }


def collateral(
    entry: Entry, judged: Judged, settings: AuditSettings, k: int
) -> dict[str, Any] | None:
    """Whom else the strongest attack's edits move, if the audit is under full.

    Args:
      entry, judged, settings, k: as of `by_policy`.

    Returns:
      {"attack", "mean": of `mean_collateral`, "rows": [{"item", "name", "title"} and
      `collateral_row`'s]}; None where no other item or user can move.
    """
    run, seed = entry.run, settings.attack.seeds[0]
    if settings.attack.serving != "full" or blind(run.model, "full"):
        return None
    members = judged.found["verdict"]["members"]
    name = max(members, key=lambda name: members[name]["after"]["value"])
    attack = settings.attack.attacks[name]
    victim = victim_of(run, settings.attack, {name: attack}, seed)
    items, delta = perturbations(judged.results[name], attack, victim, seed, settings)
    z = content_under(attack, victim, items, delta)
    found = [
        {"item": item, "collateral": collateral_row(one, run.data)}
        for item, one in zip(
            items.tolist(), collateral_of(attack, victim, items, delta, z, k), strict=True
        )
    ]
    mean = mean_collateral(found)
    if mean is None:
        return None
    named = {row["item"]: row for row in judged.found["rows"]}
    rows = [{"name": named[row["item"]]["name"], **row} for row in found]
    return {"attack": name, "mean": mean, "rows": rows}


def _same(model: Model, policy: str, other: str) -> bool:
    """Whether two policies, neither of them frozen, are one: nothing but the own row can move."""
    return model.encode_rows is not None and {policy, other} == {"own_row", "full"}


def _measured(
    results: Sequence[Mapping], content: Mapping, settings: AuditSettings, k: int
) -> dict[str, Any]:
    suite = [r for r in results if r["attack"] not in settings.other_threats]
    found = summarize(suite_rows(suite, (k,)), (k,), settings.attack.bootstrap)[f"hr@{k}"]
    use = content["test"]["all"]
    return {
        "says": suite[0]["blind"],
        "same_as": None,
        "before": found["before"],
        "after": found["after"],
        **{name: found[name] for name in _CERTIFICATES if name in found},
        "other_threats": {
            r["attack"]: r["summary"][f"hr@{k}"]["after"]
            for r in results
            if r["attack"] in settings.other_threats
        },
        "contribution": use["contribution"],
        "sensitivity": use["sensitivity"],
    }


def _still(measured: Mapping, why: str | None) -> dict[str, Any]:
    """What is known without a measurement: everything stays as it is, whatever the content."""
    before = measured["before"]
    nothing = None if measured["contribution"] is None else {"value": 0.0}
    return {
        "says": why,
        "same_as": None,
        "before": before,
        "after": before,
        **dict.fromkeys(_CERTIFICATES, before),
        "other_threats": dict.fromkeys(measured["other_threats"], before),
        "contribution": nothing,
        "sensitivity": nothing,
    }
