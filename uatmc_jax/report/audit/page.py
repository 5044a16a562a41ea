"""An audit's numbers as a page: one file, no script, no network, light and dark."""

import functools
import json
from collections.abc import Mapping, Sequence

import jinja2
import numpy as np

from uatmc_jax.models import ModelSettings
from uatmc_jax.models.registry import declared
from uatmc_jax.report.audit import figures
from uatmc_jax.report.text import gain, percent
from uatmc_jax.settings import from_values

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
    hardened = sorted(
        audit["entries"][1:],
        key=lambda entry: -entry["verdict"]["suite"][hit_rate]["after"]["value"],
    )
    entries = [victim, *hardened]
    things = [_CONTENT.get(m, m) for m in audit["dataset"]["features"]]
    suite = victim["verdict"]["suite"][hit_rate]
    users = victim["attacked_users"]
    chosen = next((e for e in entries if e["name"] == audit["recommended"]), None)
    by_k = str(k)
    rows = sorted(victim["rows"], key=lambda row: -row["hr_after"][by_k])
    bound = suite.get("budget_certificate")
    targets = audit["settings"]["attack"]["targets"]
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
        kk=by_k,
        entries=entries,
        victim=victim,
        chosen=chosen,
        chosen_after=None if chosen is None else chosen["verdict"]["suite"][hit_rate]["after"],
        before=suite["before"],
        after=suite["after"],
        bound=bound,
        any_content="any_content_certificate" in suite,
        found_share=_found_share(suite) if bound else "",
        users=users,
        targets=len(victim["rows"]),
        rule=_rule(targets),
        content=" and ".join(things),
        size=_size(victim["verdict"]["threat_model"]),
        whole_size=_whole_size(
            victim["verdict"]["threat_model"], audit["settings"]["experiment"]["model"]
        ),
        ball=_edit(victim["verdict"]["threat_model"], things),
        other_balls={
            name: _edit(found["threat_model"], things)
            for name, found in victim["other_threats"].items()
        },
        undefended=[_label(e) for e in hardened if e["defense"] == "none"],
        members=victim["verdict"]["members"],
        listed=rows[: audit["settings"]["listed"]],
        reached=victim["users_reached"],
        reach=_reach(victim["users_reached"]),
        differ=functools.partial(_difference, users),
        figures={
            "items": figures.items_reached(victim["rows"], users, k),
            "users": figures.users_reached(_histograms(shown), len(rows), k),
            "steps": figures.utility_by_step(
                {_label(e): e["steps"]["utility"] for e in shown.values()}
            ),
            "pareto": figures.pareto(
                {
                    _label(e): (
                        e["verdict"]["suite"][hit_rate]["after"]["value"],
                        e["recall"]["test"]["value"],
                        e["content"]["content_utility"],
                    )
                    for e in entries
                },
                _label(victim),
                k,
            ),
            "certified": _certified(shown),
        },
        commands=[
            *(
                (f"candidate {name}", tried["command"], f"victims/{name}")
                for name, tried in audit["candidates"].items()
            ),
            *((_label(e), e["train_command"], e["folder"]) for e in hardened),
        ],
        settings=json.dumps(audit["settings"], indent=2),
        percent=percent,
        gain=gain,
        count=functools.partial(_count, users),
        label=_label,
        training=_training,
    )


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


def _edit(threat: Mapping, things: Sequence[str]) -> str:
    """What an attacker may change, in words."""
    changed = [_CONTENT.get(m, m) for m in threat["modalities"]] or things
    each = " and ".join(changed)
    what = (
        f"what the model computes from an item's {each} (the projected features)"
        if threat["level"] == "projected"
        else f"the features of an item's {each} before the model projects them"
    )
    return f"{what} by up to {_size(threat)}"


def _size(threat: Mapping) -> str:
    where = "in each coordinate" if threat["norm"] == "linf" else "in all"
    return f"{100 * threat['eps']:g} % of the features' length {where}"


def _whole_size(threat: Mapping, model: Mapping) -> str:
    """How long an edit of every coordinate can be, where the number of coordinates is known."""
    known = declared(from_values(ModelSettings, model))
    width = known.width if known else None
    if threat["norm"] != "linf" or threat["level"] != "projected" or width is None:
        return ""
    whole = threat["eps"] * width**0.5
    return f" (of {width} coordinates; an edit of all of them is {whole:.0%} as long)"


def _found_share(suite: Mapping) -> str:
    """Of what users an attack could gain at most, the share that the attacks gained."""
    before, after = suite["before"]["value"], suite["after"]["value"]
    room = suite["budget_certificate"]["value"] - before
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
    lines = {f"certified, {label}": survey["bound"] for label, survey in surveys.items()}
    return figures.certified(lines, shown["victim"]["survey"]["shown"])
