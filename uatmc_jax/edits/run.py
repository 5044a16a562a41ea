"""A whole evaluation by edits, on disk.

    RUN/edits/STAGE-WHICH-DIGEST/results.json     what came out
    RUN/edits/STAGE-WHICH-DIGEST/table.md         the same, short
    RUN/edits/STAGE-WHICH-DIGEST/rows.jsonl       targets done, while it runs and after
    RUN/edits/STAGE-WHICH-DIGEST/harmless.npz     harmless edits' features (training/harmless.py)
    RUN/edits/STAGE-WHICH-DIGEST/ITEM/            a target's edited pictures and titles

The digest is over everything that the numbers depend on: the same command goes on where an
earlier one was stopped.
"""

import csv
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from uatmc_jax import store
from uatmc_jax.attacks import Lists, attack, make_victim, pgd, relist
from uatmc_jax.benchmark.targets import targets as choose
from uatmc_jax.data import Dataset, resolve_items
from uatmc_jax.data.names import TITLES_FILE
from uatmc_jax.data.source import DataSettings, dataset_folder
from uatmc_jax.edits.attributes import SELLERS_WORDS, protected_words
from uatmc_jax.edits.bridge import Coder
from uatmc_jax.edits.constraints import (
    Constraint,
    max_words_perturbed,
    protected_attributes,
    repeat_modification,
    stopword_modification,
    usable,
    word_embedding_distance,
    wordnet_synonym,
)
from uatmc_jax.edits.judge import Judge
from uatmc_jax.edits.judges import open_judges, require_judge
from uatmc_jax.edits.listings import (
    Listing,
    check_stored,
    open_coders,
    read_listings,
    read_manifest,
)
from uatmc_jax.edits.measure import certificates, measure
from uatmc_jax.edits.search import Case, Edit, Workshop, edit_targets
from uatmc_jax.edits.settings import EditSettings
from uatmc_jax.edits.summary import reach_of, summarize
from uatmc_jax.edits.synonyms import FILES, read_synonyms, synonyms_within
from uatmc_jax.edits.wording import parse
from uatmc_jax.edits.words import Words, neighbours
from uatmc_jax.edits.yardstick import HarmlessEdits, encode_harmless, moved_by
from uatmc_jax.environment import environment
from uatmc_jax.opened import OpenedRun
from uatmc_jax.owner import owned
from uatmc_jax.seeds import generator
from uatmc_jax.settings import to_dict

FOLDER, RESULTS, ROWS, HARMLESS = "edits", "results.json", "rows.jsonl", "harmless.npz"
_EPS = 0.1  # of what edits are held against
# Targets whose pictures go through the encoder together.
_TOGETHER = 4


class Sources(NamedTuple):
    """What an evaluation works with, whichever the model.

    Attributes:
      shop: encoders, words and rules.
      listings: {item: as its seller has put it up}.
      items: the targets.
      measured: items of the yardstick.
      harmless: what harmless edits make of these.
      missed: {kind: by what share encoding again misses the stored features, at most}.
      features: the manifest's words on what the features were made of, by kind.
    """

    shop: Workshop
    listings: Mapping[int, Listing]
    items: np.ndarray
    measured: np.ndarray
    harmless: HarmlessEdits
    missed: Mapping[str, float]
    features: Mapping[str, Any]


def open_sources(settings: EditSettings, data: Dataset, where: DataSettings) -> Sources:
    """Reads what is to be edited and checks that it is what the data were prepared from.

    Args:
      settings: which items, and how far.
      data: the data set.
      where: it is.

    Raises:
      InputError: for anything the user can mend.
    """
    manifest = read_manifest(where)
    coders = open_coders(where, manifest, settings)
    items = _targets(settings, data)
    drawn = generator(settings.seed, "survey").choice(
        data.n_items, min(settings.yardstick, data.n_items), replace=False
    )
    listings = read_listings(data, manifest, settings, np.union1d(items, drawn))
    missed = check_stored(data, coders, list(listings.values()))
    shop = _workshop(settings, where, coders, listings)
    features = {kind: manifest["features"][kind] for kind in coders}
    harmless = encode_harmless(coders, [listings[int(item)] for item in drawn], data.features)
    return Sources(shop, listings, items, drawn, harmless, missed, features)


def run_edits(
    settings: EditSettings,
    run: OpenedRun,
    *,
    sources: Sources | None = None,
    limit: int | None = None,
    show_progress: bool = True,
) -> dict:
    """Edits targets of a run's data and counts who sees them; what is done is not done again.

    Args:
      settings: which items, and how far.
      run: the checkpoint.
      sources: of the same settings and data, where they are open already.
      limit: targets that are done after this call, in the order of their numbers; by default all.
      show_progress: a bar on a terminal.

    Returns:
      What is in results.json; "folder" is where.

    Raises:
      InputError: before any search, for anything the user can mend.
    """
    require_judge(run.model, settings.serving, run.data.n_items)
    if sources is None:
        sources = open_sources(settings, run.data, run.settings.data)
    victim = make_victim(run.model, run.params, run.data, z=run.z, lists=Lists(k=settings.k))
    identity = {
        "settings": _recorded(settings),
        "dataset": run.data.fingerprint,
        "checkpoint": run.where,
        "features": dict(sources.features),
        "items": sources.items.tolist(),
    }
    folder = run.folder / FOLDER / f"{run.name.replace('/', '-')}-{store.digest(identity)}"
    judges = open_judges(victim, settings.k, settings.serving)
    with owned(folder):
        wanted = sources.items[:limit]
        _write_harmless(sources, run.data.modalities, folder)
        rows = _rows(sources, judges, wanted, folder, show_progress)
        result = identity | {
            "encoded_again": dict(sources.missed),
            "constraints": [rule.name for rule in sources.shop.rules]
            + ["sentence_encoder"] * ("text" in sources.shop.coders),
            "users": len(victim.users),
            "trained_with": to_dict(run.settings),
            "serving": settings.serving,
            "harmless": moved_by(sources.harmless, sources.shop.coders, victim, sources.measured),
            **environment(),
            "rows": rows,
        }
        result["summary"] = summarize(rows)
        store.write_json(folder / RESULTS, result)
    return result | {"folder": str(folder)}


def _targets(settings: EditSettings, data: Dataset) -> np.ndarray:
    if settings.ids:
        return np.unique(resolve_items(data.names, settings.ids, data.n_items))
    return choose(data, quantiles=(0, 0.5), sample=settings.sample, seed=settings.seed)


def _recorded(settings: EditSettings) -> dict:
    """The settings that numbers depend on; where the sources are is not among them."""
    said = to_dict(settings)
    if settings.serving == "full":
        del said["serving"]  # digests of before there was a choice
    for name in ("images", "items"):
        said[name] = said[name] is not None
    if settings.synonyms is None:
        del said["synonyms"]
    else:
        digests = [store.hash_file(settings.synonyms / name) for name in FILES]
        said["synonyms"] = store.digest(digests)
    return said


def _workshop(
    settings: EditSettings,
    where: DataSettings,
    coders: Mapping[str, Coder],
    listings: Mapping[int, Listing],
) -> Workshop:
    if "text" not in coders:
        return Workshop(settings, coders, None, ())
    protected = protected_words(*_catalogue(where))
    twin = coders["text"].twin
    vocabulary = twin.vocabulary
    allowed = usable(vocabulary.words, protected)
    put_in = allowed
    if not settings.any_word:
        known = set(SELLERS_WORDS)
        for listing in listings.values():
            known |= {word.lower() for cell in listing.cells for word in parse(cell).words}
        put_in = allowed & np.array([word in known for word in vocabulary.words], bool)
    if settings.synonyms is None:
        least = settings.word_similarity
        replace = neighbours(vocabulary, allowed, least)
        length = np.linalg.norm(vocabulary.vectors, axis=1, keepdims=True)
        unit = vocabulary.vectors / np.maximum(length, 1e-30)
        alike = word_embedding_distance(dict(zip(vocabulary.words, unit, strict=True)), least)
    else:
        synonyms = read_synonyms(settings.synonyms)
        replace = synonyms_within(vocabulary.words, allowed, synonyms)
        alike = wordnet_synonym(synonyms)
    rules: tuple[Constraint, ...] = (
        max_words_perturbed(settings.words.max_words),
        stopword_modification(),
        repeat_modification(),
        protected_attributes(protected),
        alike,
    )
    return Workshop(settings, coders, Words(vocabulary, put_in, replace, twin.placeholder), rules)


def _catalogue(where: DataSettings) -> tuple[list[str], list[str]]:
    """Brands and categories of the whole catalogue, as `prepare` has written them."""
    path = dataset_folder(where) / TITLES_FILE
    if not path.is_file():
        return [], []
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row.get("brand") or "" for row in rows], [row.get("category") or "" for row in rows]


def _write_harmless(sources: Sources, modalities: Sequence[str], folder: pathlib.Path) -> None:
    """For a training shaped by them (`training.harmless`)."""
    arrays = {
        f"{modalities[sources.shop.coders[kind].place]}_{name}": values[kind]
        for name, values in sources.harmless._asdict().items()
        for kind in values
    }
    store.write_arrays(folder / HARMLESS, arrays)


def _rows(
    sources: Sources,
    judges: Callable[[int], Judge],
    wanted: np.ndarray,
    folder: pathlib.Path,
    show_progress: bool,
) -> list[dict[str, Any]]:
    """A row a target, those of an earlier call among them."""
    kept = map(_with_new_names, store.read_rows(folder / ROWS))
    shop, done = sources.shop, {row["item"]: row for row in kept}
    left = [item for item in wanted.tolist() if item not in done]
    disable = None if show_progress else True
    with tqdm(total=len(left), unit="target", disable=disable, dynamic_ncols=True) as bar:
        for start in range(0, len(left), _TOGETHER):
            cases = _cases(sources, judges, left[start : start + _TOGETHER])
            for case, edits in zip(cases, edit_targets(shop, cases), strict=True):
                row = _row(shop, case, edits, folder / f"{case.listing.item}")
                done[row["item"]] = row
                store.append_rows(folder / ROWS, [row])
                bar.update()
    return [done[int(item)] for item in wanted]


def _with_new_names(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is written now; before there were lists it named what it was held against."""
    if "pgd_on_z" not in row:
        return row
    on_z = {_on_z_name(norm): hr for norm, hr in row["pgd_on_z"].items()}
    return {name: value for name, value in row.items() if name != "pgd_on_z"} | {"against": on_z}


def _cases(sources: Sources, judges: Callable[[int], Judge], items: Iterable[int]) -> list[Case]:
    return [Case(judges(item), sources.listings[item]) for item in map(int, items)]


def _row(shop: Workshop, case: Case, edits: Sequence[Edit], folder: pathlib.Path) -> dict[str, Any]:
    """A target's row; its files go to the folder."""
    (judge, listing), settings = case, shop.settings
    measured = [measure(shop, case, edit, folder) for edit in edits]
    names = {kind: judge.victim.modalities[coder.place] for kind, coder in shop.coders.items()}
    certificates(judge, measured, names, settings)
    before = float(judge.rows(judge.raw).hr[0])
    against = _copied(judge, settings) if judge.copies is not None else _on_z(judge, settings.k)
    for edit in measured:
        edit["reach"] = _reach(edit["hr"], before, against[reach_of(against)])
    return {
        "item": listing.item,
        "id": listing.name,
        "title": listing.title,
        "hr_before": before,
        "against": against,
        "edits": measured,
    }


def _on_z(judge: Judge, k: int) -> dict[str, float]:
    """{norm: HR under PGD on z within 10 % of its length}."""
    found = {
        norm: attack(pgd(norm=norm, k=k, keep="best"), judge.victim, [judge.item], eps=_EPS)
        for norm in ("l2", "linf")
    }
    return {_on_z_name(norm): float(each.hr_after[0]) for norm, each in found.items()}


def _on_z_name(norm: str) -> str:
    return f"PGD on z, {norm} {100 * _EPS:g} %"


def _copied(judge: Judge, settings: EditSettings) -> dict[str, float]:
    """{how far: HR under copying another listing's raw features}."""

    def rate(eps: float | None) -> float:
        policy, k = settings.serving, settings.k
        found = relist(judge.victim, [judge.item], eps=eps, policy=policy, k=k, of=judge.copies)
        return float(found.hr_after[0])

    within = {f"{100 * _EPS:g} %": _EPS, "whole": None}
    return {f"copying raw features, {how}": rate(eps) for how, eps in within.items()}


def _reach(hr: float, before: float, on_z: float) -> float | None:
    """What an edit has of the gain of what it is held against; None where that gains nothing."""
    return (hr - before) / (on_z - before) if on_z > before else None
