"""What follows from an audit's numbers: which model to take, and what to be told first."""

from collections.abc import Mapping, Sequence

from uatmc_jax.settings import AuditSettings
from uatmc_jax.settings.audit import VICTIM

# Of the catalogue; with longer lists much is in them by chance.
_LONG_LISTS = 0.1
# An entry that a training does not have.
_LOST = {"objections": ["it collapsed"]}


def objections(entry: Mapping, victim: Mapping, settings: AuditSettings, k: int) -> list[str]:
    """Why a hardened entry is not to be used in the victim's place; [] if it may be.

    It has to be as good: at least `accept_recall` of the victim's validation recall, at least
    `accept_content` of what content contributes to it, and on held-out validation interactions
    with items as popular as those attacked no fewer hits and no less contribution, beyond
    chance. It must not be deaf there (see `judge.deafness`). And it has to resist better: at
    most `accept_reach` of the victim's HR@K under attack, and beyond chance. Beyond chance is a
    paired bootstrap 95 % interval that does not hold 0. Where gradients may be masked, the reach
    shown may not be the true one.

    Args:
      entry: as in audit.json, with "against_victim" and "compared".
      victim: the model audited.
      settings: the shares.
      k: K of the hit rates.
    """
    found = []
    if entry["defense"] == "none":
        found.append("it has no defence")
    if entry["verdict"]["masking"]:
        found.append("its gradients may be masked")
    ours, theirs = (e["recall"]["valid"]["value"] for e in (entry, victim))
    if ours < settings.accept_recall * theirs:
        found.append(f"it keeps {ours / theirs:.1%} of the recall")
    ours, theirs = (e["content"]["valid"]["all"]["contribution"] for e in (entry, victim))
    if ours and theirs and ours["value"] < settings.accept_content * max(theirs["value"], 0):
        share = ours["value"] / theirs["value"]
        found.append(f"it keeps {share:.1%} of what content contributes")
    found += _worse_on_attacked(entry, victim)
    if entry["deaf"] and entry["deaf"]["deaf"]:
        found.append("it is deaf to content on items like those attacked")
    ours, theirs = (sum(row["hr_after"][str(k)] for row in e["rows"]) for e in (entry, victim))
    high = entry["against_victim"]["over_targets"][1]
    if ours > settings.accept_reach * theirs:
        share = f"{ours / theirs:.0%} as far" if theirs else "further"
        found.append(f"an attack gets {share} in it")
    elif high is None or high >= 0:
        found.append("it is not harder to fool beyond chance")
    return found


def _worse_on_attacked(entry: Mapping, victim: Mapping) -> list[str]:
    """What is lost beyond chance on items of the popularity that is attacked."""
    found, compared = [], entry["compared"]["attacked"]
    ours, theirs = (e["content"]["valid"]["attacked"] for e in (entry, victim))
    of = f"{ours['interactions']:,} held-out interactions with items like those attacked"
    if _below(compared["hit_rate"]):
        found.append(f"it finds {ours['hits']['own']} of {of}, instead of {theirs['hits']['own']}")
    if _below(compared["contribution"]):
        a, b = (e["hits"]["own"] - e["hits"]["mean"] for e in (ours, theirs))
        found.append(f"content brings {a:+} of {of}, instead of {b:+}")
    return found


def _below(difference: Mapping | None) -> bool:
    high = None if difference is None else difference["over_users"][1]
    return high is not None and high < 0


def recommend(trainings: Sequence[Mapping], settings: AuditSettings) -> str | None:
    """The entry that is hardest to fool of those that nothing speaks against in any training.

    Args:
      trainings: of `trainings.headlines`.
      settings: a trial recommends nothing.

    Returns:
      Its name; None if there is none.
    """
    if settings.trial:
        return None
    reach = {
        name: sum(one["entries"][name]["after"] for one in trainings)
        for name in trainings[0]["entries"]
        if name != VICTIM
        and all(not one["entries"].get(name, _LOST)["objections"] for one in trainings)
    }
    return min(reach, key=lambda name: reach[name]) if reach else None


def warn(audit: Mapping) -> list[str]:
    """What a reader must know before the rest means anything.

    Args:
      audit: what audit.json holds.
    """
    victim, k, found = audit["entries"][0], audit["k"], []
    if audit["settings"]["trial"]:
        found.append(
            "A trial: the models are tiny, to show what a report looks like. Its numbers "
            "say nothing about the catalogue, and nothing is recommended."
        )
    items = audit["dataset"]["catalogue"]["items"]
    share = k / items
    if share > _LONG_LISTS:
        found.append(
            f"Lists of {k} among {items:,} items: by chance alone an item is in "
            f"{share:.0%} of them. Hit rates, gains and recall are to be read against that."
        )
    found += _of_the_victim(audit, victim)
    found += [f"{text}." for text in victim["verdict"].get("unsearched", ())]
    found += [f"{name} is not here: {text}" for name, text in audit["collapsed"].items()]
    for entry in audit["entries"]:
        for flag in entry["verdict"]["masking"]:
            found.append(
                f"{entry['name']}: {flag['why']} ({flag['weaker']}). Its gradients may be masked, "
                "and its true reach larger than shown."
            )
    chosen = next((e for e in audit["entries"] if e["name"] == audit["recommended"]), None)
    for name, mine in victim["other_threats"].items() if chosen else ():
        before, after = (
            found_under["summary"][f"hr@{k}"]["after"]["value"]
            for found_under in (mine, chosen["other_threats"][name])
        )
        if after > before:
            found.append(
                f"Under {name}, another threat, {chosen['name']} is the easier one to fool: "
                f"HR@{k} {100 * after:.3f} % against {100 * before:.3f} %."
            )
    return found


def _of_the_victim(audit: Mapping, victim: Mapping) -> list[str]:
    """What makes the model audited a poor one to judge by."""
    found = []
    if victim["recall"]["test"]["value"] <= audit["popularity"]["test"]:
        found.append(
            "The recommender is no better than recommending what is popular. Nobody would use it, "
            "so how far it can be fooled says little. Try other weights (config.victims), more "
            "epochs, or look at the data."
        )
    improving = [n for n, tried in audit["candidates"].items() if tried.get("improving")]
    if improving:
        found.append(
            f"Still improving when its epochs ended: {', '.join(improving)}. More epochs "
            "(config.experiment.pretrain.epochs) may give a better recommender, and another audit."
        )
    better = [
        entry["name"]
        for entry in audit["entries"][1:]
        if entry["defense"] == "none" and entry["compared"]["all"]["hit_rate"]["over_users"][0] > 0
    ]
    if better:
        found.append(
            f"Training on without a defence ({', '.join(better)}) gives better recall than the "
            "model audited, beyond chance: it was not trained to its best."
        )
    whole = victim["content"]["valid"]["all"]["contribution"]
    if whole is not None and whole["over_users"][0] <= 0:
        found.append(
            "The recommender does not profit from the items' content beyond chance "
            f"(contribution {whole['value']:.4f}). What resists here may do so because it does "
            "not read it."
        )
    if victim["verdict"].get("blind"):
        found.append(
            f"Nothing was attacked: {victim['verdict']['blind']}. That is no robustness of its "
            "training: a new item's content is of no use either, until the next training."
        )
    elif victim["deaf"] and victim["deaf"]["deaf"]:
        found.append(
            "The recommender is deaf to content on items like those attacked: no content whatever "
            "brings one to as many users as should see it."
        )
    if victim["checkpoint"]["stage"] == "adversarial" and audit["hardened_from"]:
        found.append(
            f"The hardened models start from the pre-trained state in {audit['hardened_from']}, "
            "not from the model audited, which is hardened itself."
        )
    return found
