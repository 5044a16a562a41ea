"""The items of an attack, as the terminal lists them."""

from uatmc_jax.report.attack import format_items


def result(where, attack, entries, rule="ids", k=5):
    """A result with the named fields of each row; mean HR@5 after decides which is strongest."""
    rows = [{"interactions": 1200, **entry} for entry in entries]
    for entry in rows:
        before, after = entry.pop("hr")
        entry |= {"hr_before": {"1": 0.9, "5": before}, "hr_after": {"1": 0.9, "5": after}}
    after = sum(entry["hr_after"]["5"] for entry in rows) / len(rows)
    return {
        "attack": attack,
        "checkpoint": dict(zip(("stage", "which"), where.split("/"), strict=True)),
        "settings": {"ks": [1, k], "targets": {"rule": rule}},
        "summary": {"hr@5": {"after": {"value": after}}, "hr@1": {"after": {"value": 0.0}}},
        "rows": rows,
    }


def entry(item, before, after, **more):
    return {"item": item, "hr": (before, after), **more}


def test_each_item_with_the_strongest_attack_of_each_checkpoint():
    known = {"name": "B7", "title": "Mug | red"}
    results = [
        result("pretrain/best", "fgsm", [entry(7, 0.1, 0.2, **known)]),
        result("pretrain/best", "pgd", [entry(7, 0.1, 0.4, **known)]),
        result("adversarial/best", "fgsm", [entry(7, 0.1, 0.3, **known)]),
    ]
    assert format_items(results, "x").splitlines()[1:] == [
        "| item | id | title | checkpoint | attack | interactions | HR@5 |",
        "| --- | --- | --- | --- | --- | ---: | ---: |",
        r"| #7 | B7 | Mug \| red | pretrain/best | pgd | 1,200 | 10.000 % -> 40.000 % |",
        r"| #7 | B7 | Mug \| red | adversarial/best | fgsm | 1,200 | 10.000 % -> 30.000 % |",
    ]


def test_seeds_are_averaged_and_old_rows_have_no_title():
    rows = [entry(3, 0.1, 0.2, name=None), entry(9, 0, 0, name="B9"), entry(3, 0.3, 0.6, name=None)]
    shown = format_items([result("pretrain/best", "pgd", rows)], "x").splitlines()
    assert shown[3:] == [
        "| #3 |  |  | pretrain/best | pgd | 1,200 | 20.000 % -> 40.000 % |",
        "| #9 | B9 |  | pretrain/best | pgd | 1,200 | 0.000 % -> 0.000 % |",
    ]


def test_a_long_title_is_cut():
    rows = [entry(3, 0, 0, name="B3", title="x" * 61)]
    assert f"| {'x' * 59}… |" in format_items([result("pretrain/best", "pgd", rows)], "x")


def test_many_items_are_listed_only_if_they_were_named():
    for count, rule, listed in ((20, "count", True), (21, "count", False), (21, "ids", True)):
        rows = [entry(n, 0, 0, name=None, title=None) for n in range(count)]
        shown = format_items([result("pretrain/best", "pgd", rows, rule)], "runs/a/attacks")
        assert ("| #0 |" in shown) == listed
        assert ("21 items attacked; their ids" in shown and "in runs/a/attacks." in shown) != listed
