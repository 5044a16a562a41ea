"""What follows from an audit's numbers: which model to take, and what to be told first."""

from collections.abc import Sequence

from uatmc_jax.settings import AuditSettings

# Of the catalogue; with longer lists much is in them by chance.
_LONG_LISTS = 0.1


def recommend(judged: Sequence[dict], settings: AuditSettings, k: int) -> str | None:
    """The hardened entry that is hardest to fool among those good enough to be used.

    Good enough: at least `accept_recall` of the victim's recall on the validation split,
    and at least `accept_content` of its content utility (of the test split). It has to
    resist better: at most `accept_reach` of the victim's HR@K under attack, and beyond
    chance, the bootstrap 95 % interval over the targets of the difference being below 0.
    Where gradients may be masked, the reach shown may not be the true one, so such an
    entry is never chosen.

    Args:
      judged: the victim, then the others, with "against_victim".
      settings: the three shares.
      k: K of the hit rates.

    Returns:
      Its name; None if there is none.
    """
    victim, *others = judged

    def reach(entry: dict) -> float:
        return sum(row["hr_after"][str(k)] for row in entry["rows"])

    def good(entry: dict) -> bool:
        ours, theirs = (e["recall"]["valid"]["value"] for e in (entry, victim))
        use, used = (e["content"]["content_utility"] for e in (entry, victim))
        return (
            entry["defense"] != "none"
            and not entry["verdict"]["masking"]
            and ours >= settings.accept_recall * theirs
            and use >= settings.accept_content * used
            and reach(entry) <= settings.accept_reach * reach(victim)
            and entry["against_victim"]["over_targets"][1] < 0
        )

    accepted = {entry["name"]: reach(entry) for entry in others if good(entry)}
    return min(accepted, key=accepted.get) if accepted else None


def warn(audit: dict) -> list[str]:
    """What a reader must know before the rest means anything.

    Args:
      audit: what audit.json holds.
    """
    victim, k, found = audit["entries"][0], audit["k"], []
    if audit["settings"]["trial"]:
        found.append(
            "A trial: the models are tiny, to show what a report looks like. Its numbers "
            "say nothing about the catalogue."
        )
    share = k / audit["dataset"]["items"]
    if share > _LONG_LISTS:
        found.append(
            f"Lists of {k} among {audit['dataset']['items']} items: by chance alone an item is in "
            f"{share:.0%} of them. Hit rates, gains and recall are to be read against that."
        )
    if victim["recall"]["test"]["value"] <= audit["popularity"]["test"]:
        found.append(
            "The recommender is no better than recommending what is popular. Nobody would use it, "
            "so how far it can be fooled says little. Try other weights (config.victims), more "
            "epochs, or look at the data."
        )
    if victim["content"]["content_utility"] <= 0:
        found.append(
            "The recommender does not profit from the items' content. What resists here may do so "
            "because it does not read it."
        )
    if victim["checkpoint"]["stage"] == "adversarial" and audit["hardened_from"]:
        found.append(
            f"The hardened models start from the pre-trained state in {audit['hardened_from']}, "
            "not from the model audited, which is hardened itself."
        )
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
