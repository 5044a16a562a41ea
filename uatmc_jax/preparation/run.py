"""The whole preparation: sources in, one folder out, with an account of what was dropped."""

import dataclasses
import pathlib

from uatmc_jax.data.columns import with_columns
from uatmc_jax.data.names import NAMES_FILE
from uatmc_jax.owner import owned
from uatmc_jax.preparation import amazon, encoders, generic
from uatmc_jax.preparation.checks import check
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.features import image_names, survey_given, write_image, write_text
from uatmc_jax.preparation.folder import begin, discard_early, finished, publish, tables_done
from uatmc_jax.preparation.interactions import check_usable, choose
from uatmc_jax.preparation.items import gather, open_catalogue, write_items
from uatmc_jax.preparation.lines import Tally
from uatmc_jax.preparation.losses import CONSTANT, ZEROS, check_losses, loss
from uatmc_jax.preparation.matrices import Survey
from uatmc_jax.preparation.settings import AmazonSettings, GenericSettings, Settings
from uatmc_jax.preparation.stage import Has, Stage, add, open_stage
from uatmc_jax.preparation.writing import write_inter, write_manifest, write_names

USERS_FILE = "u_id_mapping.csv"


def prepare(settings: AmazonSettings | GenericSettings) -> dict:
    """Writes a data set that `uatmc_jax.data.load_dataset` reads.

    Work happens in OUT.partial, which becomes OUT at the end; the same call
    after an interruption goes on from the encoders' last chunk.

    Args:
      settings: sources, recipe and output.

    Returns:
      What is in OUT/manifest.json: settings, sources, counts, files.

    Raises:
      InputError: anything wrong with arguments or sources, or nothing left.
    """
    check(settings)
    out = settings.out
    with owned(out.with_name(out.name + ".lock"), of=out):
        return finished(settings) or _prepare(settings)


def _prepare(settings: AmazonSettings | GenericSettings) -> dict:
    given = survey_given(settings)
    work, tables = begin(settings)
    try:
        if tables is None and isinstance(settings, GenericSettings):
            generic.check_columns(settings)
        # Loaded before the long reading: a wrong name should not cost an hour.
        text, image = _encoders(settings)
        if tables is None:
            tables = _write_tables(settings, work)
            tables_done(work, tables)
        features = _write_features(settings, work, tables, {"text": text, "image": image}, given)
        manifest = write_manifest(settings, work / "data", tables, features)
        publish(work, settings.out)
    except BaseException:
        discard_early(work)
        raise
    return manifest


def _encoders(settings: Settings) -> tuple[Encoder | None, Encoder | None]:
    text = image = None
    if settings.text_encoder:
        text = encoders.text_encoder(settings.text_encoder, settings.batch_size)
    if isinstance(settings, GenericSettings) and settings.image_encoder:
        image = encoders.image_encoder(settings.image_encoder, settings.batch_size)
    return text, image


def _write_features(
    settings: AmazonSettings | GenericSettings,
    work: pathlib.Path,
    tables: dict,
    models: dict[str, Encoder | None],
    given: dict[str, Survey],
) -> dict:
    """Both modalities' features, those that are encoded last; adds what they lack to the losses."""
    rows, n_items = tables.get("items", {}).get("rows", 0), _n_items(tables)
    losses = tables["losses"]
    if isinstance(settings, GenericSettings) and settings.images:
        absent = sum(name is None for name in image_names(settings, work))
        losses["items without an image"] = loss(absent, n_items)
    check_losses(losses, settings.max_lost)
    features = {}
    writers = {"text": write_text, "image": write_image}
    for modality in sorted(writers, key=lambda name: models[name] is not None):
        write, encoder = writers[modality], models[modality]
        result = write(settings, work, rows, encoder, given.get(modality))  # type: ignore[operator]
        if result:
            features[modality] = result
            what = f"items without {modality} features"
            losses[what] = loss(result[0]["items without"], n_items)
            if result[1].malformed:
                unread = loss(result[1].malformed, result[1].records)
                losses[f"records of {modality} features lost"] = unread
            if modality in given:
                there = len(given[modality].missing)
                losses[f"{ZEROS} of {modality} features"] = loss(result[0][ZEROS], there)
                of_columns = loss(result[0][CONSTANT], result[0]["dim"])
                losses[f"{CONSTANT} of {modality} features"] = of_columns
            check_losses(losses, settings.max_lost)
    return {name: features[name] for name in writers if name in features}


def _n_items(tables: dict) -> int:
    return tables["interactions"]["kept"]["items"]


def _write_tables(settings: AmazonSettings | GenericSettings, work: pathlib.Path) -> dict:
    """Interactions, ids and items; returns what the manifest says of them."""
    share, data = settings.max_malformed, work / "data"
    if isinstance(settings, AmazonSettings):
        tallies = {"reviews": Tally(settings.reviews.name), "meta": Tally(settings.meta.name)}
        meta = amazon.read_meta(settings.meta, settings.layout, tallies["meta"], share)
        items = meta, tallies["meta"]
    else:
        tallies = {"interactions": Tally(settings.interactions.name)}
        items = None
        if settings.items:
            tallies["items"] = Tally(settings.items.name)
            items = generic.read_items(settings, tallies["items"]), tallies["items"]
    tally, has = next(iter(tallies.values())), _has(settings)
    with open_stage(work, has) as stage:
        chosen = choose(stage, settings, tally, _fill(stage, settings, tally))
        losses = {**_lines_lost(tallies, chosen.counts["dropped"]), **chosen.losses}
        check_losses(losses, settings.max_lost)
        inter = data / f"{settings.name}.inter"
        sizes = write_inter(inter, with_columns(inter, chosen.blocks))
        check_usable(sizes, len(chosen.items), has.labels)
        write_names(data / NAMES_FILE, ("asin", "itemID"), chosen.items)
        write_names(data / USERS_FILE, ("user_id", "userID"), chosen.users)
    counts = {"interactions": chosen.counts, "split": sizes.n_each}
    if items:
        ids = {name: index for index, name in enumerate(chosen.items)}
        del chosen
        records, tally = items
        counts["items"] = gather(records, ids, tally, work)
        losses |= _items_lost(settings, counts["items"], tally, len(ids))
        check_losses(losses, settings.max_lost)
        catalogue = open_catalogue(work)
        with catalogue.file:
            write_items(catalogue, data)
    tallied = {name: dataclasses.asdict(tally) for name, tally in tallies.items()}
    return {**counts, "losses": losses, "tallies": tallied}


def _has(settings: AmazonSettings | GenericSettings) -> Has:
    if isinstance(settings, AmazonSettings):
        return Has(times=True, ratings=True, labels=False)
    columns = (settings.time_column, settings.rating_column, settings.split_column)
    return Has(*(column is not None for column in columns))


def _fill(stage: Stage, settings: AmazonSettings | GenericSettings, tally: Tally) -> str:
    """Puts the interactions on a stage; returns what their numbers count."""
    if isinstance(settings, GenericSettings):
        return generic.stage_events(settings, tally, stage)
    path, share = settings.reviews, settings.max_malformed
    add(stage, amazon.read_reviews(path, settings.layout, tally, share))
    return "record"


def _lines_lost(tallies: dict[str, Tally], dropped: dict[str, int]) -> dict:
    """The lines of the interactions' source that are no record of a user, an item and a time."""
    name, tally = next(iter(tallies.items()))
    incomplete = sum(n for why, n in dropped.items() if why.startswith("without"))
    return {f"lines of {name} lost": loss(tally.malformed + incomplete, tally.records)}


def _items_lost(settings: Settings, counts: dict, tally: Tally, n_items: int) -> dict:
    """What the items' source lacks of what is asked of it."""
    titled = getattr(settings, "title_column", "title")
    asked = {
        "items without a row": True,
        "items without a title": titled is not None,
        "items without a text": settings.text_encoder is not None,
    }
    return {
        "rows of items lost": loss(tally.malformed, tally.records),
        **{name: loss(counts[name], n_items) for name, wanted in asked.items() if wanted},
        "items with several rows": loss(counts["repeated"], n_items),
    }
