"""How far the strongest of a suite of attacks gets, and whether the gradients can be believed.

A defence may only *mask* its gradients: leave perturbations as harmful as before
and make them hard to find by ascent. Then an attacker who knows less does
better than one who knows more (Carlini et al., "On Evaluating Adversarial
Robustness", 2019, section 3). The verdict compares, on HR@K after the attack,

    a random search, by values of Phi alone    with all gradient attacks,
    a transfer from a surrogate                with all gradient attacks,
    a gradient attack within a smaller radius  with all gradient attacks,
    one step on Phi                            with several steps on the same Phi.

"All gradient attacks" is on each target the best of those within the whole
radius: one of them may fail for the reason that its utility is flat there,
which is nothing the model hides. A flag is raised if the attack that should be
the weaker one is ahead beyond noise:

    the bootstrap 95 % interval over targets of the paired difference of mean
    HR@K is above 0, and the difference is more than `LEAST_EXCESS` of the
    stronger attack's mean HR@K.

A search by copying listings is one that knows the model, as a gradient attack does. Where
content acts through more than the members look at (lists of neighbours beside z, of which
no ascent sees that they jump), the verdict says what was not searched: however few users
the members reach, that is no robustness.

One step and several are also compared on Phi, the value both climb: if the
several steps reach the higher Phi, they did what they are for, and it is the
utility that misses the hit rate.

`run_verdicts` attacks and writes; the rest are pure functions of results.
"""

import collections
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from uatmc_jax import store
from uatmc_jax.benchmark.checks import chosen_attacks
from uatmc_jax.benchmark.files import FOLDER
from uatmc_jax.benchmark.looks import evaluations, information, unsearched
from uatmc_jax.benchmark.rows import mean_moved
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.benchmark.suite import in_order
from uatmc_jax.benchmark.summary import paired_difference, summarize
from uatmc_jax.errors import InputError
from uatmc_jax.hosts import by_writer
from uatmc_jax.opened import OpenedRun
from uatmc_jax.settings import AttackRunSettings, to_dict

# Searches on flat or near-linear ground differ by less than this, whoever searches.
LEAST_EXCESS = 0.02
# With fewer targets a bootstrap interval says little.
LEAST_TARGETS = 10
_SHARED = ("norm", "k", "level", "modalities")
_CERTIFICATES = ("budget_certificate", "any_content_certificate")


def suite_rows(results: Sequence[Mapping], ks: Sequence[int]) -> list[dict]:
    """Each target under the attack that got it into most users' top K, for every K by itself.

    The attacker measures and chooses, so at no K is the suite below any member.
    Ties go to the earlier result.

    Args:
      results: of one checkpoint and the same targets.
      ks: the K.

    Returns:
      Rows as `summary.summarize` takes them, with "winner", {K: name of the attack},
      "moved", {K: how far that one took z}, and "serving"; certificates are those of the
      largest radius.

    Raises:
      ValueError: the targets differ.
    """
    if len({tuple(_keys(result["rows"])) for result in results}) != 1:
        raise ValueError("the results are not of the same targets")
    widest = max(results, key=lambda result: result["threat_model"]["eps"])
    chosen = []
    for n, row in enumerate(widest["rows"]):
        best = {
            str(k): max(results, key=lambda r, n=n, k=k: r["rows"][n]["hr_after"][str(k)])
            for k in ks
        }
        chosen.append(
            {
                "seed": row["seed"],
                "item": row["item"],
                "hr_before": row["hr_before"],
                "hr_after": {k: r["rows"][n]["hr_after"][k] for k, r in best.items()},
                "winner": {k: r["attack"] for k, r in best.items()},
                "moved": {k: r["rows"][n].get("moved") for k, r in best.items()},
                **{name: row[name] for name in ("serving", *_CERTIFICATES) if name in row},
            }
        )
    return chosen


def threat_of(attacks: Mapping[str, Mapping]) -> dict:
    """The one threat model of a suite: {"norm", "eps", "k", "level", "modalities"}.

    Args:
      attacks: {name: "threat_model" of a result}, in order.

    Raises:
      InputError: attacks under different threat models, or no gradient attack
        within the whole radius.
    """
    first = next(iter(attacks))
    for name in attacks:
        for field in _SHARED:
            ours, theirs = (_plain(attacks[n][field]) for n in (name, first))
            if ours != theirs:
                raise InputError(
                    f"config.attacks.{name}.{field} = {ours!r}, but config.attacks.{first}.{field} "
                    f"= {theirs!r}: a verdict is on one threat model. Choose attacks of one with "
                    "--attacks, or make them agree."
                )
    eps = max(threat["eps"] for threat in attacks.values())
    if not any(t["eps"] == eps and _whitebox(t) for t in attacks.values()):
        raise InputError(
            f"config.attacks: no gradient attack on the model itself with eps = {eps}, so there "
            "is nothing to judge. Add one, as configs/attack.py:suite has."
        )
    return {"eps": eps, **{field: _plain(attacks[first][field]) for field in _SHARED}}


def verdict(results: Sequence[Mapping], k: int, bootstrap: int) -> dict:
    """What the suite found on one checkpoint, and whether gradients are masked.

    Args:
      results: of `run_attacks`, all of one checkpoint; ties go to the member that
        is the earlier one in `suite.ORDER`.
      k: the K of the verdict, one of the settings'; the summary has all of them.
      bootstrap: resamples behind each interval.

    Returns:
      JSON values: "threat_model"; "suite", as of `summary.summarize`, for every K;
      "members", {name: {"information", "evaluations" (looks at this model), "after",
      "gain", "moved"}} at K;
      "wins", {name: targets on which the member decided the suite's HR@K};
      "comparisons", each with "weaker", "stronger" (names), "why", "weaker_hr",
      "stronger_hr", "difference" (weaker minus stronger) and "flag"; "masking",
      those of them with a flag; "not_compared", reasons; "unsearched", of `unsearched`;
      "serving", the policy; "blind", why no edit changes anything, or None; "criterion".

    Raises:
      InputError: see `threat_of`; or a K that is not measured.
      ValueError: results of several checkpoints, or of different targets.
    """
    by_name = {result["attack"]: result for result in results}
    where = {json.dumps(result["checkpoint"], sort_keys=True) for result in results}
    if len(where) != 1 or len(by_name) < len(results):
        raise ValueError("the results are not of one checkpoint, each attack once")
    results = [by_name[name] for name in in_order(by_name)]
    ks = results[0]["settings"]["ks"]
    threat = threat_of({r["attack"]: r["threat_model"] for r in results})
    _check_k(ks, k)
    rows = suite_rows(results, ks)
    members = {}
    for result in results:
        entry = summarize(result["rows"], (k,), bootstrap)[f"hr@{k}"]
        knows = information(result)
        members[result["attack"]] = {
            "information": knows,
            "evaluations": 0 if knows == "nothing" else evaluations(result["threat_model"]),
            "after": entry["after"],
            "gain": entry["gain"],
            "moved": mean_moved(result["rows"]),
        }
    won = collections.Counter(row["winner"][str(k)] for row in rows)
    comparisons, left_out = _comparisons(results, threat["eps"], k, bootstrap)
    return {
        "checkpoint": results[0]["checkpoint"],
        "threat_model": threat,
        "k": k,
        "suite": summarize(rows, ks, bootstrap),
        "members": members,
        "wins": {name: won[name] for name in members},
        "comparisons": comparisons,
        "masking": [entry for entry in comparisons if entry["flag"]],
        "not_compared": left_out,
        "unsearched": unsearched(results),
        "serving": results[0].get("serving", "full"),
        "blind": results[0].get("blind"),
        "criterion": {
            "least_excess": LEAST_EXCESS,
            "least_targets": LEAST_TARGETS,
            "bootstrap": bootstrap,
        },
    }


def run_verdicts(
    settings: AttackRunSettings, runs: Sequence[OpenedRun], **options: Any
) -> tuple[list[dict], list[dict], list[dict]]:
    """`run_attacks`, and the verdict on each checkpoint at the K that the attacks aim at.

    Each verdict is also written, to RUN/attacks/STAGE-WHICH-verdict-DIGEST.json
    with a digest of itself.

    Args:
      settings: the evaluation; its attacks are the suite.
      runs: as of `run_attacks`.
      **options: of `run_attacks`.

    Returns:
      Its results and contents, and the verdicts.

    Raises:
      InputError: see `run_attacks` and `threat_of`; before any long work.
    """
    attacks = chosen_attacks(settings.attacks, options.get("only", ()))
    k = threat_of({name: to_dict(attack) for name, attack in attacks.items()})["k"]
    _check_k(settings.ks, k)
    results, contents = run_attacks(settings, runs, **options)
    grouped = collections.defaultdict(list)
    for result in results:
        grouped[json.dumps(result["checkpoint"], sort_keys=True)].append(result)
    verdicts = [verdict(group, k, settings.bootstrap) for group in grouped.values()]
    for run, found in zip(runs, verdicts, strict=True):
        name = f"{run.where['stage']}-{run.where['which']}-verdict-{store.digest(found)}.json"
        by_writer(functools.partial(store.write_json, run.folder / FOLDER / name, found))
    return results, contents, verdicts


def _comparisons(
    results: Sequence[Mapping], eps: float, k: int, bootstrap: int
) -> tuple[list[dict], list[str]]:
    """Every attack that should be the weaker one against those that should be stronger."""
    if results[0].get("blind"):
        return [], [results[0]["blind"]]
    count = len({row["item"] for row in results[0]["rows"]})
    if count < LEAST_TARGETS:
        return [], [f"{count} targets, fewer than {LEAST_TARGETS}: too few to tell from noise"]
    knowing = [r for r in results if information(r) in ("gradient", "lists")]
    pool = [r for r in knowing if r["threat_model"]["eps"] == eps]
    names = [result["attack"] for result in pool]
    best = suite_rows(pool, (k,))
    looks = sum(evaluations(result["threat_model"]) for result in pool)
    comparisons, left_out = [], []

    def add(weaker: Mapping, stronger: list[str], rows: Sequence[Mapping], why: str, on_phi: bool):
        comparisons.append(_compare(weaker, stronger, rows, why, on_phi, k, bootstrap))

    for result in results:
        knows, threat = information(result), result["threat_model"]
        if knows == "scores" and evaluations(threat) > looks:
            left_out.append(
                f"{result['attack']}: {evaluations(threat)} looks at the model, the gradient "
                f"attacks together {looks}; their lead would not show masking"
            )
        elif knows == "scores":
            add(result, names, best, "a search by scores alone beats gradients", False)
        elif knows == "nothing":
            add(result, names, best, "a transfer beats attacks on the model itself", False)
        elif threat["eps"] < eps:
            add(result, names, best, "a smaller radius beats a larger one", False)
    for one in pool:
        for many in pool:
            if _first_step(one["threat_model"], many["threat_model"]):
                why = "one step beats several on the same utility"
                add(one, [many["attack"]], many["rows"], why, True)
    return comparisons, left_out


def _compare(
    weaker: Mapping,
    stronger: list[str],
    rows: Sequence[Mapping],
    why: str,
    on_phi: bool,
    k: int,
    bootstrap: int,
) -> dict:
    def hit_rate(row: Mapping) -> float:
        return row["hr_after"][str(k)]

    def mean(of: Sequence[Mapping]) -> float:
        return sum(map(hit_rate, of)) / len(of)

    difference = paired_difference(rows, weaker["rows"], hit_rate, bootstrap)
    ahead = difference["over_targets"][0] > 0
    ahead &= difference["value"] > LEAST_EXCESS * mean(rows)
    entry = {
        "weaker": weaker["attack"],
        "stronger": stronger,
        "why": why,
        "weaker_hr": mean(weaker["rows"]),
        "stronger_hr": mean(rows),
        "difference": difference,
    }
    if on_phi:
        utility = paired_difference(rows, weaker["rows"], lambda r: r["utility_after"], bootstrap)
        entry["utility_difference"] = utility
        ahead &= utility["value"] > 0
    return entry | {"flag": bool(ahead)}


def _first_step(one: Mapping, many: Mapping) -> bool:
    """Whether `one` is FGSM on the utility that `many` ascends by PGD."""
    same = ["utility", "beta", "restarts", *(["margin"] if one["utility"] != "elu" else [])]
    return (
        one["search"] == many["search"] == "pgd"
        and one["steps"] == 1 < many["steps"]
        and all(one[field] == many[field] for field in same)
    )


def _whitebox(threat: Mapping) -> bool:
    return threat["search"] != "random" and not threat["surrogate"]


def _check_k(ks: Sequence[int], k: int) -> None:
    if k not in ks:
        raise InputError(f"config.ks = {tuple(ks)}: the verdict at K = {k} needs it. Add {k}.")


def _plain(value):
    return list(value) if isinstance(value, tuple | list) else value


def _keys(rows: Sequence[Mapping]) -> list[tuple[int, int]]:
    return [(row["seed"], row["item"]) for row in rows]
