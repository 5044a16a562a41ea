"""Amazon's collections of 2018 and 2023, written as they are published, against pandas."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.preparation import sources
from tests.preparation.sources import asin, prepare, write
from uatmc_jax.data import load_dataset, load_item_names, load_item_titles
from uatmc_jax.preparation.amazon import read_meta
from uatmc_jax.preparation.lines import Tally

HTML = '<span class="a-size-medium">Baby&#39;s "toy" &amp; tr&auml;in</span>'
SCRIPT = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"


def of_2018():
    rows = [
        {
            "overall": row["overall"],
            "verified": True,
            "reviewTime": "08 4, 2014",
            "reviewerID": row["reviewerID"],
            "asin": row["asin"],
            "style": {"Color:": " Red"},
            "reviewText": row["reviewText"],
            "unixReviewTime": row["unixReviewTime"],
        }
        for row in sources.reviews()
    ]
    items = [
        {
            "asin": asin(n),
            "title": SCRIPT if n == 4 else f"{HTML} {n}",
            "brand": f"brand {n % 4}",
            "category": ["Baby", "Toys &amp; more", f"Kind {n % 3}"],
            "description": [f"<p>About<br>number {n}</p>"],
            "feature": ["Soft", "1 < 2"],
            "imageURL": ["https://example.com/a.jpg"],
        }
        for n in range(25)
    ]
    return rows, items


def of_2023():
    rows = [
        {
            "rating": row["overall"],
            "title": "Fine",
            "text": row["reviewText"],
            "images": [],
            "asin": f"V{n % 3}{row['asin'][2:]}",
            "parent_asin": row["asin"],
            "user_id": row["reviewerID"],
            "timestamp": row["unixReviewTime"] * 1000 + 5 * (n % 2),
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for n, row in enumerate(sources.reviews())
    ]
    items = [
        {
            "main_category": "Baby",
            "title": f"{HTML} {n}",
            "average_rating": 4.5,
            "features": ["Soft", "1 < 2"],
            "description": [f"About number {n}"],
            "price": None,
            "store": f"brand {n % 4}",
            "categories": [] if n == 4 else ["Baby", "Toys &amp; more", f"Kind {n % 3}"],
            "details": {"Color": "Red"},
            "parent_asin": asin(n),
        }
        for n in range(25)
    ]
    return rows, items


LAYOUTS = {"amazon2018": of_2018, "amazon2023": of_2023}
KEYS = {
    "amazon2018": ("reviewerID", "asin", "overall", "unixReviewTime"),
    "amazon2023": ("user_id", "parent_asin", "rating", "timestamp"),
}


def arguments(folder, layout, rows, items, *more):
    written = (
        "--reviews",
        write(folder / "reviews.jsonl.gz", sources.json_lines(rows)),
        "--meta",
        write(folder / "meta.jsonl.gz", sources.json_lines(items)),
    )
    return (layout, *written, "--out", folder / "out", "--name", "toys", *more)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_collection_equals_pandas(tmp_path, layout):
    rows, items = LAYOUTS[layout]()
    assert prepare(*arguments(tmp_path, layout, rows, items, "--min-rating", "2")) == 0
    user, item, rating, time = KEYS[layout]
    frame = pd.DataFrame(rows)
    frame = frame[frame[rating] >= 2].drop_duplicates([user, item])
    while True:
        users, found = (frame.groupby(key)[item].transform("size") for key in (user, item))
        if ((users >= 5) & (found >= 5)).all():
            break
        frame = frame[(users >= 5) & (found >= 5)]
    frame = frame.assign(
        userID=pd.factorize(frame[user])[0],
        itemID=pd.factorize(frame[item])[0],
        timestamp=frame[time] / (1000 if layout == "amazon2023" else 1),
    ).sort_values("userID", kind="stable")
    inter = pd.read_csv(tmp_path / "out" / "toys.inter", sep="\t")
    for ours, theirs in (("userID",) * 2, ("itemID",) * 2, ("rating", rating), ("timestamp",) * 2):
        assert inter[ours].tolist() == frame[theirs].tolist()
    out = tmp_path / "out"
    names = load_item_names(out)
    assert list(names) == list(
        pd.factorize(pd.DataFrame(frame)[item].loc[frame.index.sort_values()])[1]
    )
    titles = {index: f'Baby\'s "toy" & träin {int(name[1:])}' for name, index in names.items()}
    if layout == "amazon2018":
        del titles[names[asin(4)]]
    assert load_item_titles(out) == titles
    shown = pd.read_csv(out / "items.csv", keep_default_na=False).set_index("itemID")
    for name, index in names.items():
        number = int(name[1:])
        assert shown.loc[index, "brand"] == f"brand {number % 4}"
        path = f"Baby > Toys & more > Kind {number % 3}"
        if layout == "amazon2023" and number == 4:
            path = ""
        assert shown.loc[index, "category"] == path
    load_dataset(out, "toys", ())
    assert json.loads((out / "manifest.json").read_text())["command"] == layout


def test_texts_are_without_html(tmp_path):
    path = write(tmp_path / "meta.jsonl", sources.json_lines(of_2018()[1]))
    found = dict(read_meta(path, "amazon2018", Tally("meta"), 0))
    assert found[asin(1)].text == (
        'Baby\'s "toy" & träin 1 brand 1 Baby Toys & more Kind 1 About number 1 Soft 1 < 2'
    )
    assert found[asin(4)].title == "" and "getTime" not in found[asin(4)].text


def test_another_layout_is_named(tmp_path, capsys):
    rows, items = of_2023()
    assert prepare(*arguments(tmp_path, "amazon2018", rows, items)) == 2
    error = capsys.readouterr().err
    assert "has not reviewerID, asin" in error and "Try amazon2023" in error


def test_2018s_images_are_in_the_binary_file_of_2014(tmp_path):
    rows, items = of_2018()
    image = write(tmp_path / "image.b", sources.image_records(range(25)))
    more = ("--image-features", image)
    assert prepare(*arguments(tmp_path, "amazon2018", rows, items, *more)) == 0
    features = np.load(tmp_path / "out" / "image_feat.npy")
    record = np.frombuffer(sources.image_records([0]), "<f4", offset=10)
    assert features.shape == (len(load_item_names(tmp_path / "out")), 4096) and len(record) == 4096
