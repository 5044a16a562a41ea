"""A run's summary as a table for the terminal, and what is to be said of it."""

import math
from collections.abc import Mapping

_SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
_JUDGED = "recall@20"
# A model whose scores are all alike has L_BPR = ln 2 ...
_ALL_ALIKE, _NEAR = math.log(2), 0.01
# ... and a validation recall below this share of popularity's.
_FAR_BELOW = 0.5


def format_summary(summary: dict) -> str:
    """Test metrics of every stage beside popularity's, and what they were got with.

    Args:
      summary: as in summary.json.
    """
    # Of a training under one `vmap` with others popularity was not measured.
    popular = summary.get("popularity", {}).get("test")
    rows = [] if popular is None else [("popularity", "", popular)]
    for name, stage in summary["stages"].items():
        label = f"{name} ({summary['defense']})" if name == "adversarial" else name
        epoch = f"best, epoch {stage['best_epoch']}" if "best_epoch" in stage else "initial"
        rows.append((label, epoch, stage["test"]))
        if "at_last_epoch" in stage:
            rows.append((label, f"last, epoch {stage['epochs']}", stage["at_last_epoch"]["test"]))
    shown = [m for m in _SHOWN if all(m in metrics for *_, metrics in rows)]
    data, device = summary["dataset"], summary["device"]
    drawn = summary.get("settings", {}).get("eval", {}).get("sample", 0)
    of_drawn = f", {min(drawn, data['users']):,} users drawn" if drawn else ""
    lines = [
        f"\n{summary['model']} on {data['name']} (data {data['fingerprint']}, seed "
        f"{summary['seed']}, {device['platform']}), test split{of_drawn}",
        "",
        f"{'stage':<22}{'parameters':<18}" + "".join(f"{m:>11}" for m in shown),
    ]
    for stage, epoch, metrics in rows:
        lines.append(f"{stage:<22}{epoch:<18}" + "".join(f"{metrics[m]:>11.4f}" for m in shown))
    lines.append(
        f"\n{summary['wall_seconds']:.0f} s from start to end, "
        f"peak memory {summary['peak_memory_mib']:,} MiB"
    )
    return "\n".join(lines)


def remarks(summary: dict) -> list[str]:
    """What whoever trained the model should know before using it; [] where all is well.

    That a stage collapsed, that its model is no better than recommending what is popular,
    or that it was still improving when its epochs ended.

    Args:
      summary: as in summary.json; what an older one lacks is not judged.
    """
    if "popularity" not in summary:
        return []
    found, popular = [], summary["popularity"]["test"][_JUDGED]
    for name, stage in summary["stages"].items():
        most, recall = summary["settings"][name]["epochs"], stage["test"][_JUDGED]
        improving = still_improving(stage, most)
        # A model that has just begun has like numbers.
        collapse = None if improving else _collapse(summary, name)
        if collapse:
            found.append(collapse)
        elif recall <= popular:
            found.append(
                f"{name}: test {_JUDGED} {recall:.4f} is no better than recommending the most "
                f"popular items ({popular:.4f})."
            )
        if improving:
            found.append(
                f"{name} was still improving at its last epoch, {most}; more may help: start again "
                f"with a larger config.{name}.epochs."
            )
    return found


def still_improving(stage: Mapping, most: int) -> bool:
    """Whether a stage's best epoch was the last that it was given.

    Args:
      stage: its part of summary.json.
      most: epochs that it was given.
    """
    return stage.get("best_epoch") == stage.get("epochs") == most


def _collapse(summary: dict, name: str) -> str | None:
    """What to say of a stage whose scores have become all alike; None of another."""
    stage, popular = summary["stages"][name], summary["popularity"].get("valid")
    loss = stage.get("losses", {}).get("bpr")
    if popular is None or loss is None:
        return None
    recall = stage.get("at_last_epoch", stage)["valid"][_JUDGED]
    alike = abs(loss - _ALL_ALIKE) <= _NEAR * _ALL_ALIKE
    if not alike or recall >= _FAR_BELOW * popular[_JUDGED]:
        return None
    mu = summary["settings"][name]["mu"]
    return (
        f"{name} collapsed: validation {_JUDGED} {recall:.4f} against popularity's "
        f"{popular[_JUDGED]:.4f}, and L_BPR {loss:.4f}, that of scores all alike. Start again with "
        f"a smaller config.{name}.mu (now {mu:g}), a tenth of it say."
    )
