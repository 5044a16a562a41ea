"""A run's summary as a table for the terminal, and what is to be said of it."""

import math

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
    rows = [("popularity", "", summary["popularity"]["test"])]
    for name, stage in summary["stages"].items():
        shown = f"{name} ({summary['defense']})" if name == "adversarial" else name
        epoch = f"best, epoch {stage['best_epoch']}" if "best_epoch" in stage else "initial"
        rows.append((shown, epoch, stage["test"]))
        if "at_last_epoch" in stage:
            rows.append((shown, f"last, epoch {stage['epochs']}", stage["at_last_epoch"]["test"]))
    data, device = summary["dataset"], summary["device"]
    lines = [
        f"\n{summary['model']} on {data['name']} (data {data['fingerprint']}, seed "
        f"{summary['seed']}, {device['platform']}), test split",
        "",
        f"{'stage':<22}{'parameters':<18}" + "".join(f"{m:>11}" for m in _SHOWN),
    ]
    for stage, epoch, metrics in rows:
        lines.append(f"{stage:<22}{epoch:<18}" + "".join(f"{metrics[m]:>11.4f}" for m in _SHOWN))
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
    found = []
    popular = summary["popularity"]
    for name, stage in summary["stages"].items():
        at_end = stage.get("at_last_epoch", stage)
        recall, common = at_end["valid"][_JUDGED], popular.get("valid", {}).get(_JUDGED)
        loss = stage.get("losses", {}).get("bpr")
        if (
            None not in (common, loss)
            and recall < _FAR_BELOW * common
            and abs(loss - _ALL_ALIKE) <= _NEAR * _ALL_ALIKE
        ):
            mu = summary["settings"][name]["mu"]
            found.append(
                f"{name} collapsed: validation {_JUDGED} {recall:.4f} against popularity's "
                f"{common:.4f}, and L_BPR {loss:.4f}, that of scores all alike. Start again with a "
                f"smaller config.{name}.mu (now {mu:g}), a tenth of it say."
            )
        elif stage["test"][_JUDGED] <= popular["test"][_JUDGED]:
            found.append(
                f"{name}: test {_JUDGED} {stage['test'][_JUDGED]:.4f} is no better than "
                f"recommending the most popular items ({popular['test'][_JUDGED]:.4f})."
            )
        most = summary["settings"][name]["epochs"]
        if stage.get("best_epoch") == stage.get("epochs") == most:
            found.append(
                f"{name} was still improving at its last epoch, {most}; more may help: start again "
                f"with a larger config.{name}.epochs."
            )
    return found
