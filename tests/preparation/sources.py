"""Small raw sources in the shapes the commands read, and the commands called in-process."""

import gzip
import json
import pathlib

import numpy as np

from uatmc_jax.prepare import main

IMAGE_DIM = 4096


def prepare(*arguments):
    """The command's exit status."""
    try:
        main(list(map(str, arguments)))
    except SystemExit as stop:
        return stop.code or 0
    raise AssertionError("main returns only by exiting")


def reviews(seed=0, n_users=40, n_items=25, n_rows=500):
    """Good review objects, some pairs and triples more than once."""
    rng = np.random.default_rng(seed)
    popularity = rng.permutation(np.arange(1, n_items + 1)) ** -0.5
    activity = rng.permutation(np.arange(1, n_users + 1)) ** -0.5
    users = rng.choice(n_users, n_rows, p=activity / activity.sum())
    items = rng.choice(n_items, n_rows, p=popularity / popularity.sum())
    times = rng.integers(1_300_000_000, 1_300_000_004, n_rows)
    return [
        {
            "reviewerID": f"U{user:03d}é",
            "asin": asin(item),
            "overall": float(rng.integers(1, 6)),
            "unixReviewTime": int(time),
            "reviewText": 'ünïcode " quoted\nand long ' + "x" * int(rng.integers(0, 50)),
        }
        for user, item, time in zip(users, items, times, strict=True)
    ]


def asin(item):
    return f"B{item:09d}"


def meta(n_items=25):
    """Metadata as objects; items differ in what they lack, the last two have no entry."""
    entries = []
    for item in range(n_items - 2):
        entry = {
            "asin": asin(item),
            "title": f'Baby\'s "toy" &amp; träin\nno. {item} ' + "long " * (60 if item == 3 else 0),
            "brand": f"brand {item % 4}",
            "categories": [["Baby", f"Toys {item % 3}"], ["Other"]],
            "description": f"A toy for number {item}\\d",
            "related": {"also_bought": [asin(0)]},
        }
        for index, name in enumerate(("title", "brand", "categories", "description")):
            if item % 7 == index + 1 or item == 5:
                del entry[name]
        entries.append(entry)
    return entries


def json_lines(entries):
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def literal_lines(entries):
    """Single-quoted Python, as the metadata files have it."""
    return "".join(repr(entry) + "\n" for entry in entries).encode()


def image_records(items, seed=1):
    """The binary file's content for the given items."""
    rng = np.random.default_rng(seed)
    return b"".join(
        asin(item).encode() + rng.random(IMAGE_DIM, dtype=np.float32).astype("<f4").tobytes()
        for item in items
    )


def write(path, content):
    """Writes bytes, packed if the name says so; returns the path."""
    path = pathlib.Path(path)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def amazon_arguments(folder, out, *more, packed=True):
    """The arguments of a whole run on sources written to `folder`."""
    folder.mkdir(exist_ok=True)
    ending = ".gz" if packed else ""
    sources = (
        "--reviews",
        write(folder / f"reviews.json{ending}", json_lines(reviews())),
        "--meta",
        write(folder / f"meta.json{ending}", literal_lines(meta())),
        "--image-features",
        write(folder / f"image.b{ending}", image_records(range(20))),
    )
    # The sources lack a quarter of the titles, to be told.
    return ("amazon2014", *sources, "--out", out, "--name", "toys", "--max-lost", "0.5", *more)


def tree(folder):
    """{name: content} of a folder of files."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
