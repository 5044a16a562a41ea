"""Results of attacks and verdicts on suites of them, as Markdown."""

import itertools
from collections.abc import Sequence

from uatmc_jax.attacks import LISTED
from uatmc_jax.report.text import content_cells, gain, moved, percent, row, table

_HEAD = ("checkpoint", "attack", "K", "HR before", "HR after", "gain")
_CERTIFIED = ("budget certificate", "any content")
# More items than these are listed only if they were named.
_FEW = 20
_TITLE_CHARACTERS = 60


def format_attacks(results: Sequence[dict], contents: Sequence[dict]) -> str:
    """What an attack run found: gains beside certificates, recall beside content use.

    Args:
      results: as in the attacks' result files, of one data set.
      contents: as in the content files, of the same checkpoints.
    """
    first = results[0]
    data, run = first["dataset"], first["settings"]
    users = (
        f"{first['users']:,} users" if run["user_share"] < 1 else f"all {first['users']:,} users"
    )
    seeds = ", ".join(map(str, run["seeds"]))
    lines = [
        f"\n{first['model']} on {data['name']} (data {data['fingerprint']}, seeds {seeds}, "
        f"{first['device']['platform']}): {first['summary']['targets']} attacks of one item each, "
        f"crafted and measured on {users}, training items "
        f"{'masked' if run['masked'] else 'not masked'}; {_served(first)}",
        "",
    ]
    for name in dict.fromkeys(r["attack"] for r in results):
        one = next(r for r in results if r["attack"] == name)
        went = f"; on {_where(one)} it moves z by {moved(one.get('moved'))}"
        lines.append(f"- {name}: {_threat(one['threat_model'])}{went}{_others(one)}")
    with_ranks = "rank" in first["summary"]
    header = [*_HEAD, *_CERTIFIED, *(["mean rank"] if with_ranks else [])]
    lines += ["", row(header), row(["---"] * 2 + ["---:"] * (len(header) - 2))]
    for result in results:
        lines += _result_rows(result, with_ranks)
    intervals = "Behind a gain: its bootstrap 95 % interval over targets"
    intervals += ", in braces over seeds." if len(run["seeds"]) > 1 else "."
    lines += ["", intervals, *_certificate_notes(results)]
    if first["affine_in_content"] and any(_inert(result["threat_model"]) for result in results):
        lines.append(
            f"Under hinge the alignment term does nothing on {first['model']}: its gradients are "
            "piecewise constant."
        )
    return "\n".join([*lines, "", *_content_lines(contents)])


def format_items(results: Sequence[dict], folder: str) -> str:
    """Which items were attacked, by number, id and title, and how far each got.

    Those that were named, or all if they are few, with the attack that is strongest on
    average on each checkpoint, at the largest K; the mean over seeds.

    Args:
      results: as for `format_attacks`; rows of before there were titles are read too.
      folder: where the results' files are.
    """
    run = results[0]["settings"]
    items = {entry["item"] for entry in results[0]["rows"]}
    if run["targets"]["rule"] != "ids" and len(items) > _FEW:
        return f"\n{len(items):,} items attacked; their ids, titles and hit rates are in {folder}."
    k, rows = max(run["ks"]), []
    for where, group in itertools.groupby(results, _where):
        strongest = max(group, key=lambda r: r["summary"][f"hr@{k}"]["after"]["value"])
        by_item = itertools.groupby(
            sorted(strongest["rows"], key=lambda entry: entry["item"]),
            lambda entry: entry["item"],
        )
        for item, entries in by_item:
            first, *others = entries
            shares = [
                sum(entry[name][str(k)] for entry in (first, *others)) / (1 + len(others))
                for name in ("hr_before", "hr_after")
            ]
            rows.append(
                [
                    f"#{item}",
                    _cell(first.get("name")),
                    _cell(first.get("title")),
                    where,
                    strongest["attack"],
                    f"{first['interactions']:,}",
                    " -> ".join(map(percent, shares)),
                ]
            )
    header = ["item", "id", "title", "checkpoint", "attack", "interactions", f"HR@{k}"]
    return "\n".join(["", *table(header, rows, left=5)])


def _cell(text: str | None) -> str:
    """A name on one line of a table, not too long; "" for none."""
    shown = " ".join((text or "").split()).replace("|", "\\|")
    return shown if len(shown) <= _TITLE_CHARACTERS else shown[: _TITLE_CHARACTERS - 1] + "…"


def format_verdicts(verdicts: Sequence[dict]) -> str:
    """What the suite reached on each checkpoint, and the masking flags.

    Args:
      verdicts: of `benchmark.verdict.verdict`, under one threat model.
    """
    k, threat = verdicts[0]["k"], verdicts[0]["threat_model"]
    lines = [
        f"\nVerdict of the suite, HR@{k}, {_ball(threat)}: on each target the strongest of "
        f"{', '.join(verdicts[0]['members'])}.",
        "",
        row(["checkpoint", "HR before", "HR after", "gain", "decided by", "gradient masking"]),
        row(["---", "---:", "---:", "---:", "---", "---"]),
    ]
    for found in verdicts:
        entry = found["suite"][f"hr@{k}"]
        wins = sorted(found["wins"].items(), key=lambda win: -win[1])
        masking = ", ".join(flag["weaker"] for flag in found["masking"]) or "none"
        lines.append(
            row(
                [
                    _where(found),
                    percent(entry["before"]["value"]),
                    percent(entry["after"]["value"]),
                    gain(entry["gain"]),
                    ", ".join(f"{name} {count}" for name, count in wins if count),
                    masking if found["comparisons"] and not found.get("unsearched") else "not told",
                ]
            )
        )
    lines.append("")
    for found in verdicts:
        lines += [f"- {_where(found)}: {text}." for text in found.get("unsearched", ())]
        for flag in found["masking"]:
            lines.append(f"- {_where(found)}: MASKING: {_flag(flag)}")
        for reason in found["not_compared"]:
            lines.append(f"- {_where(found)}: not compared: {reason}")
    share = verdicts[0]["criterion"]["least_excess"]
    lines.append(
        "Masking: an attack that knows less, has less room or takes fewer steps reaches more; the "
        f"95 % interval of the paired difference is above 0 and it exceeds {share:.0%} of the "
        "stronger attack's HR."
    )
    return "\n".join(lines)


def _flag(flag: dict) -> str:
    low, high = flag["difference"]["over_targets"]
    return (
        f"{flag['why']}: {flag['weaker']} {percent(flag['weaker_hr'])}, best of "
        f"{', '.join(flag['stronger'])} {percent(flag['stronger_hr'])}, difference "
        f"{100 * flag['difference']['value']:+.3f} [{100 * low:+.3f}, {100 * high:+.3f}]"
    )


def _where(result: dict) -> str:
    return f"{result['checkpoint']['stage']}/{result['checkpoint']['which']}"


def _certificate_notes(results: Sequence[dict]) -> list[str]:
    said = results[0]["certificate"]
    if said.startswith("no "):
        return [f"{said[0].upper()}{said[1:]}."]
    notes = []
    if any(result["certificate"] == "budget" for result in results):
        notes.append(
            "Budget certificate: no attack of that threat model, found or not, can reach more; in "
            "parentheses what it leaves open above the attack."
        )
    if all("any_content_certificate" in entry for entry in _hit_rates(results)):
        notes.append(
            "Any content: no new image and text at all can reach more (attacks on z still might)."
        )
    return notes


def _hit_rates(results: Sequence[dict]) -> list[dict]:
    """The summaries' entries of hit rates."""
    names = [f"hr@{k}" for k in results[0]["settings"]["ks"]]
    return [result["summary"][name] for result in results for name in names]


def _others(result: dict) -> str:
    """Whom else its edits move, on average over the targets; "" where not measured."""
    found = result.get("collateral")
    if found is None:
        return ""
    return (
        f"; beside its item it moves {found['items']:,.1f} items and {found['users']:,.1f} users, "
        f"and changes the other items in {percent(found['lists'])} of the lists"
    )


# What is computed anew once an item is edited, as a reader wants to know it.
_SERVED = {
    "frozen": "nothing is computed anew after an edit (serving policy frozen)",
    "own_row": "after an edit the item's own row is computed anew (serving policy own_row)",
    "full": "after an edit everything is computed anew (serving policy full)",
}


def _served(result: dict) -> str:
    """Under which policy, and if so why no edit changes anything."""
    why = result.get("blind")
    said = _SERVED[result.get("serving", "full")]
    return f"{said}. Nothing was run: {why}" if why else said


def _inert(threat: dict) -> bool:
    return threat["utility"] == "hinge" and threat["beta"] > 0


def _result_rows(result: dict, with_ranks: bool) -> list[str]:
    summary, lines = result["summary"], []
    for k in result["settings"]["ks"]:
        entry = summary[f"hr@{k}"]
        cells = [
            _where(result),
            result["attack"],
            str(k),
            percent(entry["before"]["value"]),
            percent(entry["after"]["value"]),
            gain(entry["gain"]),
        ]
        for name in ("budget_certificate", "any_content_certificate"):
            if name not in entry:
                cells.append("none")
                continue
            gap = entry[name]["value"] - entry["after"]["value"]
            shown = f" (+{100 * gap:.3f})" if name == "budget_certificate" else ""
            cells.append(percent(entry[name]["value"]) + shown)
        if with_ranks:
            rank = summary["rank"]
            cells.append(f"{rank['before']['value']:,.0f} -> {rank['after']['value']:,.0f}")
        lines.append(row(cells))
    return lines


def _content_lines(contents: Sequence[dict]) -> list[str]:
    """A row for each checkpoint and part of its test interactions."""
    first, metric = contents[0], contents[0]["metric"]
    header = ["checkpoint", f"test {metric} on", "interactions", "found"]
    header += [metric, "contribution", "sensitivity"]
    least, most = first["attacked_interactions"]
    popularity = f"{least}" if least == most else f"{least} to {most}"
    named = {
        "all": "all items",
        "attacked": f"items with {popularity} interactions, as those attacked",
        "cold": f"items with at most {first['cold_at_most']} training interactions",
    }
    rows = []
    for content in contents:
        where = f"{content['checkpoint']['stage']}/{content['checkpoint']['which']}"
        for part, entry in content["test"].items():
            counts = [f"{entry['interactions']:,}", f"{entry['hits']['own']:,}"]
            rows.append([where, named[part], *counts, *content_cells(entry)])
    return [
        *table(header, rows, left=2),
        "",
        f"Contribution is {metric} minus the same with the catalogue's mean content in every "
        "item's place: what content gives. Sensitivity is what is lost when the items' contents "
        f"are exchanged, the mean of {first['permutations']} times: what wrong content takes. In "
        "brackets bootstrap 95 % intervals over users (and exchanges); a dash where there are too "
        "few interactions to tell.",
    ]


def _threat(threat: dict) -> str:
    widths = {"hinge": "margin", "sigmoid": "width"}
    named = widths.get(threat["utility"])
    g = threat["utility"] + (f" ({named} {threat['margin']:g})" if named else "")
    steps = f"{threat['steps']} step{'s' if threat['steps'] > 1 else ''}"
    search = {
        "pgd": f"{steps} of {threat['step_size']:g} r",
        "apgd": f"{steps} of APGD",
        "random": f"{threat['steps']} random proposals, by scores alone",
        "relist": f"other listings copied, the {threat['steps']} best of each ranking measured",
        "neighbours": f"other listings copied, then neighbours chosen, {steps} an ascent",
    }[threat["search"]]
    extra = f", alignment {threat['beta']:g}" if threat["beta"] else ""
    extra += f", {threat['restarts']} restarts" if threat["restarts"] else ""
    extra += ", best kept" if threat["search"] == "pgd" and threat["keep"] == "best" else ""
    extra += f", crafted on {threat['surrogate']}" if threat["surrogate"] else ""
    if threat["search"] in LISTED:
        return f"{_ball(threat)}, {search}, at K = {threat['k']}"
    return f"{_ball(threat)}, {search}, {g} at K = {threat['k']}{extra}"


def _ball(threat: dict) -> str:
    what = "z" if threat["level"] == "projected" else "the raw features"
    which = f" of {', '.join(threat['modalities'])}" if threat["modalities"] else ""
    return f"{what}{which} within {threat['norm']} r = {threat['eps']:g} ||.||_2"
