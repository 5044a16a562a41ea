"""What attacks know of a model, how often they look at it, and what of it they do not look at."""

from collections.abc import Mapping, Sequence

from uatmc_jax.attacks import LISTED

_CHOSEN = 10 + 3 + 2 * 9  # copies, soft choices, greedy ones


def evaluations(threat: Mapping) -> int:
    """How often an attack looks at the model it is crafted on; a gradient counts as one look.

    >>> evaluations({"search": "pgd", "steps": 10, "keep": "last", "restarts": 2})
    33

    Args:
      threat: "threat_model" of a result.
    """
    if threat["search"] == "relist":  # as often alike, and once more for each modality
        return 3 * threat["steps"] + 1
    if threat["search"] == "neighbours":  # after copying each ascent's end, of two modalities
        return _CHOSEN
    fgsm_point = threat["search"] == "pgd" and threat["keep"] == "best"
    return (threat["steps"] + 1 + fgsm_point) * (threat["restarts"] + 1)


def information(result: Mapping) -> str:
    """What an attack knows of the model: "gradient", "lists", "scores", or "nothing" (a transfer).

    Args:
      result: as in a result file.
    """
    surrogate = result["surrogate"]
    if surrogate is not None and surrogate["parameters"] != result["checkpoint"]["parameters"]:
        return "nothing"
    search = result["threat_model"]["search"]
    return "lists" if search in LISTED else {"random": "scores"}.get(search, "gradient")


def unsearched(results: Sequence[Mapping]) -> list[str]:
    """What of a model's use of content none of the attacks looks at, in words.

    Args:
      results: of one checkpoint, with "model", "reads" and "blind" as `run_attacks` gives them.
    """
    first = results[0]
    listed = any(result["threat_model"]["search"] in LISTED for result in results)
    if first.get("blind") or listed or "raw" not in first.get("reads", ()):
        return []
    return [
        f"{first['model']} also lists neighbours by raw features, which jump where no ascent sees "
        "it; no member searched these lists, so its reach may be larger than shown"
    ]
