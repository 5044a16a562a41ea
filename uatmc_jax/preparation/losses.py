"""What a preparation leaves behind, as shares: counted, told, and too much of it refused."""

from collections.abc import Mapping

from uatmc_jax.errors import InputError

# A share above it is worth a warning.
WORTH_A_WARNING = 0.01
LOW_RATINGS = "ratings of 2 or less"
CONSTANT, ZEROS = "constant columns", "rows of zeros"
ALONE = "ten times as many as the next"
# What is as the source has it, and no loss.
_NO_LOSS = (LOW_RATINGS, CONSTANT, ZEROS, ALONE)
# Outside it, features are too small or too large for learning rates that are usual.
_USUAL_SPREAD = (1e-4, 1e4)
_REMEDIES = {
    LOW_RATINGS: "all count as purchases; --min-rating leaves them out",
    ALONE: "is that everyone without an account? Leave the id empty, and they are nobody",
    CONSTANT: "they tell no item from another",
    ZEROS: "if they stand for items without features, make them NaN",
    "merged": "their ids differ in writing alone, such as 12 and 12.0",
    "lines": "manifest.json and malformed.log say why",
    "several rows": "the first of each was taken",
    "rows": "malformed.log says why",
    "records": "malformed.log says why",
    "without a row": "check that the files belong together",
    "image": "they get the mean of the others",
    "text features": "they get the mean of the others",
}


def loss(count: int, of: int) -> dict:
    """A share as the manifest has it: how many of how many."""
    return {"count": int(count), "of": int(of), "share": round(count / of, 6) if of else 0.0}


def check_losses(losses: Mapping[str, dict], most: float) -> None:
    """Refuses a preparation that leaves too much behind.

    Args:
      losses: {what: see `loss`}.
      most: share of each that may be lost.

    Raises:
      InputError: a share above it; names the largest.
    """
    most_of = {name: e for name, e in losses.items() if not any(n in name for n in _NO_LOSS)}
    name = max(most_of, key=lambda name: most_of[name]["share"], default=None)
    if name is not None and most_of[name]["share"] > most:
        raise InputError(
            f"{_told(name, most_of[name])}, more than the {most:.0%} of --max-lost"
            f"{_remedy(name)}. Mend the sources, or raise --max-lost."
        )


def tell(losses: Mapping[str, dict]) -> tuple[list[str], list[str]]:
    """What to print: a line for each share, and a warning for each that is worth one."""
    lines = [_told(name, entry) for name, entry in losses.items()]
    large = {n: entry for n, entry in losses.items() if entry["share"] > WORTH_A_WARNING}
    return lines, [f"{_told(name, entry)}{_remedy(name)}" for name, entry in large.items()]


def tell_scales(features: Mapping[str, dict]) -> list[str]:
    """Warnings of given features of an unusual scale; the counts are the manifest's."""
    least, most = _USUAL_SPREAD
    return [
        f"{modality} features spread by {counts['spread']:.1e}: scale them to about 1"
        for modality, counts in features.items()
        if "spread" in counts and not least <= counts["spread"] <= most
    ]


def _told(name: str, entry: Mapping) -> str:
    return f"{name}: {entry['count']} of {entry['of']} ({entry['share']:.1%})"


def _remedy(name: str) -> str:
    said = next((text for part, text in _REMEDIES.items() if part in name), None)
    return f" ({said})" if said else ""
