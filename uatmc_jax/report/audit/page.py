"""An audit's numbers as a page: one file, no script, no network, light and dark."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from uatmc_jax.report.audit import figures, serving
from uatmc_jax.report.audit.edits import edits_section
from uatmc_jax.report.text import moved, number, percent, times

_CONTENT = {"visual": "picture", "textual": "text"}
# Shares are float32.
_ROUNDING = 1e-3


def format_page(audit: Mapping) -> str:
    """The report.

    Args:
      audit: what audit.json holds (`auditing.run_audit`).

    Returns:
      HTML. Names of items are escaped.
    """
    k, victim = audit["k"], audit["entries"][0]
    hit_rate = f"hr@{k}"
    count = functools.partial(_count, victim["attacked_users"])
    others, most = (audit["settings"][name] for name in ("other_threats", "listed"))
    hardened = sorted(
        audit["entries"][1:],
        key=lambda entry: -entry["verdict"]["suite"][hit_rate]["after"]["value"],
    )
    entries = [victim, *hardened]
    things = [_CONTENT.get(m, m) for m in audit["dataset"]["features"]]
    threat = victim["verdict"]["threat_model"]
    chosen = next((e for e in entries if e["name"] == audit["recommended"]), None)
    shown = {"victim": victim} | ({} if chosen is None else {chosen["name"]: chosen})
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("uatmc_jax.report.audit", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    style, _, _ = environment.loader.get_source(environment, "style.css")
    return environment.get_template("report.html").render(
        audit=audit,
        style=style,
        k=k,
        kk=str(k),
        entries=entries,
        victim=victim,
        chosen=chosen,
        chosen_after=None if chosen is None else chosen["verdict"]["suite"][hit_rate]["after"],
        **_reach_of(victim, k),
        targets=len(victim["rows"]),
        rule=_rule(audit["settings"]["attack"]["targets"]),
        popularity=_popularity(victim["content"]),
        content=" and ".join(things),
        size=_size(threat),
        ball=_edit(threat, things),
        other_balls={
            name: _edit(found["threat_model"], things)
            for name, found in victim["other_threats"].items()
        },
        undefended=[_label(e) for e in hardened if e["defense"] == "none"],
        listed=_listed(victim, str(k), audit["settings"]["listed"]),
        reach=_reach(victim["users_reached"]),
        differ=functools.partial(_difference, victim["attacked_users"]),
        figures=_figures(audit, entries, shown),
        edits=edits_section(audit),
        commands=[
            *(
                (f"candidate {name}", tried["command"], f"victims/{name}")
                for name, tried in audit["candidates"].items()
            ),
            *((_label(e), e["train_command"], e["folder"]) for e in hardened),
        ],
        settings=json.dumps(audit["settings"], indent=2),
        percent=percent,
        times=times,
        moved=moved,
        number=number,
        count=count,
        served=serving.said(audit["settings"]["attack"].get("serving", "full")),
        serving=serving.section(victim.get("serving"), others, most, count),
        label=_label,
        trainings=_trainings(audit["seeds"]),
        spread=functools.partial(_spread, audit["by_training"], victim["attacked_users"]),
        against=functools.partial(_against, audit["by_training"]),
        training=_training,
        meaning=_meaning,
    )


def _reach_of(victim: Mapping, k: int) -> dict[str, Any]:
    """What the head of the page says of the model audited."""
    suite = victim["verdict"]["suite"][f"hr@{k}"]
    bound = victim["one_edit"]
    return {
        "before": suite["before"],
        "after": suite["after"],
        "bound": bound,
        "bounds": {} if bound is None else dict(zip(bound["items"], bound["bound"], strict=True)),
        "each": suite.get("budget_certificate"),
        "any_content": "any_content_certificate" in suite,
        "found_share": _found_share(suite, bound) if bound else "",
        "users": victim["attacked_users"],
        "members": victim["verdict"]["members"],
        "reached": victim["users_reached"],
        "went": moved(victim["moved"]),
    }


def _trainings(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"one training, seed {seeds[0]}"
    return f"{len(seeds)} trainings, seeds {', '.join(map(str, seeds))}; the first is shown"


# {what a card shows: where a training's headline has it}
_SPREAD = {"recall": "recall", "reach": "after", "bound": "bound"}


def _spread(trainings: Sequence[Mapping], users: int, entry: Mapping, what: str) -> str:
    """The range over the trainings, in parentheses; "" where there is one."""
    if len(trainings) == 1:
        return ""
    found = [one["entries"].get(entry["name"]) for one in trainings]
    values = [one[_SPREAD[what]] for one in found if one]
    ends = min(values), max(values)
    if what == "recall":
        low, high = (f"{end:.4f}" for end in ends)
    else:
        low, high = (_count(users, end) for end in ends)
    return f" ({low} to {high} over {len(values)} trainings)"


def _against(trainings: Sequence[Mapping], entry: Mapping) -> str:
    """What speaks against a hardened model, with the training's seed where there are several."""
    if "objections" not in entry:
        return ""
    if len(trainings) == 1:
        return "; ".join(entry["objections"]) or "nothing"
    found = []
    for one in trainings:
        theirs = one["entries"].get(entry["name"], {"objections": ["it collapsed"]})
        found += [f"seed {one['seed']}: {text}" for text in theirs["objections"]]
    return "; ".join(found) or "nothing"


def _listed(victim: Mapping, k: str, most: int) -> list[dict]:
    """The items that can be pushed into most users' lists."""
    return sorted(victim["rows"], key=lambda row: -row["hr_after"][k])[:most]


def _figures(
    audit: Mapping, entries: Sequence[Mapping], shown: Mapping[str, Mapping]
) -> dict[str, str]:
    k, victim = audit["k"], entries[0]

    def after(entry: Mapping) -> float:
        return entry["verdict"]["suite"][f"hr@{k}"]["after"]["value"]

    def contribution(entry: Mapping) -> float | None:
        found = entry["content"]["test"]["all"]["contribution"]
        return None if found is None else found["value"]

    points = [
        figures.Point(
            after(entry),
            entry["recall"]["test"]["value"],
            contribution(entry),
            entry["name"] == audit["recommended"],
        )
        for entry in entries
    ]
    return {
        "items": figures.items_reached(
            victim["rows"], victim["one_edit"], victim["attacked_users"], k
        ),
        "users": figures.users_reached(_histograms(shown), len(victim["rows"]), k),
        "steps": figures.utility_by_step(
            {_label(e): e["steps"]["utility"] for e in shown.values()}
        ),
        "budgets": figures.hr_by_budget(
            {_label(e): e["curve"] for e in shown.values()},
            {_label(e): after(e) for e in shown.values()},
            k,
        ),
        "pareto": figures.pareto(points, k),
        "certified": _certified(shown),
    }


def _popularity(content: Mapping) -> str:
    """How popular the attacked items are, in words."""
    least, most = content["attacked_interactions"]
    return f"exactly {least}" if least == most else f"{least} to {most}"


def _rule(targets: Mapping) -> str:
    """Which items were attacked, in words."""
    low, high = targets["quantiles"]
    if targets["rule"] == "count":
        return f"drawn from those with exactly {targets['count']} interactions"
    if targets["rule"] == "ids":
        return "those named"
    if (low, high) == (0, 0.5):
        return "drawn from the less popular half"
    return f"drawn from those between the quantiles {low:g} and {high:g} of popularity"


def _count(users: int, share: float) -> str:
    """A share as a number of users; the average over items need not be whole.

    >>> _count(1000, 0.0123), _count(1000, 0.0120001), _count(1000, 0.5)
    ('12.3', '12', '500')
    """
    value = share * users
    whole = value >= 100 or abs(value - round(value)) < _ROUNDING
    return f"{value:,.0f}" if whole else f"{value:.1f}"


def _label(entry: Mapping) -> str:
    return "audited" if entry["name"] == "victim" else entry["name"]


def _training(entry: Mapping) -> str:
    """The settings that tell a hardened model from the others."""
    chosen = entry["adversarial"]
    if chosen is None:
        return "pre-trained"
    if chosen["defense"] == "none":
        return "no defence"
    learned = ", z learned" if chosen["train_projector_head"] else ""
    weights = f"λ {chosen['lam']:g}, eps {chosen['eps']:g}"
    return f"{chosen['defense']}, {chosen['norm']}, {weights}{learned}"


# What each defence trains on, after `defenses.kinds`.
_MEANINGS = {
    "uat": "the perturbation of all items' content that worsens recommendations most, searched by "
    "gradients (UAT)",
    "uat_mc": "the same perturbation searched with the modalities' gradients aligned (UAT-MC)",
    "exact": "the worst that each item's content can do, in closed form (exact)",
    "shaped": "the worst that content can do within a ball shaped by harmless edits (shaped)",
    "linearized": "a first-order estimate of the worst that each item's content can do",
    "noise": "random perturbations of the content",
    "dropout": "contents with some of their numbers left out",
    "balancing": "margins of the other contents that hold what an edit of one can lose "
    "(Modality Balancing)",
    "spectral": "small matrices on the content's way to the score",
    "mirror": "flat ground around the weights (Mirror Gradient)",
}


def _meaning(entry: Mapping) -> str:
    """What a hardened model was trained on, in words."""
    chosen = entry["adversarial"]
    if chosen is None or chosen["defense"] == "none":
        return "trained on for as long, without a defence"
    size = f", within {100 * chosen['eps']:g} %" if chosen["defense"] not in _SIZELESS else ""
    return f"trained on {_MEANINGS[chosen['defense']]}{size}"


_SIZELESS = ("spectral", "mirror", "dropout", "shaped")


def _edit(threat: Mapping, things: Sequence[str]) -> str:
    """What an attacker may change, in words."""
    changed = [_CONTENT.get(m, m) for m in threat["modalities"]] or things
    each = " and ".join(changed)
    if threat.get("search") == "relist" and threat["eps"] >= 1:
        return f"an item's {each} by copying another listing whole"
    what = (
        f"what the model computes from an item's {each} (the projected features)"
        if threat["level"] == "projected"
        else f"the features of an item's {each} before the model projects them"
    )
    return f"{what} by up to {_size(threat)}"


def _size(threat: Mapping) -> str:
    where = "in each coordinate" if threat["norm"] == "linf" else "in all"
    return f"{100 * threat['eps']:g} % of the features' length {where}"


def _found_share(suite: Mapping, bound: Mapping) -> str:
    """Of what users an attack could gain at most, the share that the attacks gained."""
    before, after = suite["before"]["value"], suite["after"]["value"]
    room = bound["value"] - before
    return f"{max(after - before, 0.0) / room:.0%}" if room > 0 else "all"


def _histograms(shown: Mapping[str, Mapping]) -> dict[str, list[int]]:
    lines = {"as it is": shown["victim"]["users_reached"]["histogram_before"]}
    for entry in shown.values():
        reached = entry["users_reached"]
        lines[f"{_label(entry)}, {reached['attack']}"] = reached["histogram_after"]
    return lines


def _reach(reached: Mapping) -> dict[str, float]:
    """Shares of the users, and of all that is gained the share that the top tenth has."""
    before, gained = (np.array(reached[f"histogram_{of}"]) for of in ("before", "gained"))
    each = np.sort(np.repeat(np.arange(len(gained)), gained))[::-1]
    tenth = -(-len(each) // 10)
    return {
        "before": 1 - before[0] / before.sum(),
        "gained": 1 - gained[0] / gained.sum(),
        "top_tenth": each[:tenth].sum() / max(each.sum(), 1),
    }


def _difference(users: int, entry: Mapping) -> str:
    """Users reached more (or fewer) than in the model audited, with the interval."""
    ends = (f"{end * users:+,.1f}" for end in entry["over_targets"])
    return f"{entry['value'] * users:+,.1f} [{', '.join(ends)}]"


def _certified(shown: Mapping[str, Mapping]) -> str:
    surveys = {_label(e): e["survey"] for e in shown.values() if e["survey"] is not None}
    if shown["victim"]["survey"] is None:
        return ""
    lines = {label: survey["bound"] for label, survey in surveys.items()}
    return figures.certified(lines, shown["victim"]["survey"]["shown"])
