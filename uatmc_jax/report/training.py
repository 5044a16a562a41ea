"""A run's summary as a table for the terminal."""

_SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


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
