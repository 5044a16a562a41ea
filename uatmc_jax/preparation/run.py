"""The whole preparation: sources in, one folder out, with an account of what was dropped."""

import dataclasses
import pathlib

from uatmc_jax.data.names import NAMES_FILE
from uatmc_jax.owner import owned
from uatmc_jax.preparation import amazon, encoders, generic
from uatmc_jax.preparation.checks import check
from uatmc_jax.preparation.encoders import Encoder
from uatmc_jax.preparation.features import write_image, write_text
from uatmc_jax.preparation.folder import begin, discard_early, publish, tables_done
from uatmc_jax.preparation.interactions import choose
from uatmc_jax.preparation.items import gather, open_catalogue, write_items
from uatmc_jax.preparation.lines import Tally
from uatmc_jax.preparation.settings import AmazonSettings, GenericSettings, Settings
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
    with owned(settings.out.with_name(settings.out.name + ".lock")):
        return _prepare(settings)


def _prepare(settings: AmazonSettings | GenericSettings) -> dict:
    work, tables = begin(settings)
    try:
        if tables is None and isinstance(settings, GenericSettings):
            generic.check_columns(settings)
        # Loaded before the long reading: a wrong name should not cost an hour.
        text, image = _encoders(settings)
        if tables is None:
            tables = _write_tables(settings, work)
            tables_done(work, tables)
        rows = tables.get("items", {}).get("rows", 0)
        features = {
            "text": write_text(settings, work, rows, text),
            "image": write_image(settings, work, rows, image),
        }
        features = {modality: result for modality, result in features.items() if result}
        manifest = write_manifest(settings, work / "data", tables, features)  # type: ignore[arg-type]
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


def _write_tables(settings: AmazonSettings | GenericSettings, work: pathlib.Path) -> dict:
    """Interactions, ids and items; returns what the manifest says of them."""
    share, data = settings.max_malformed, work / "data"
    items = None
    if isinstance(settings, AmazonSettings):
        tallies = {"reviews": Tally(settings.reviews.name), "meta": Tally(settings.meta.name)}
        events = amazon.read_reviews(settings.reviews, tallies["reviews"], share)
        chosen = choose(events, settings, timed=True, rated=True, labelled=False)
        items = amazon.read_meta(settings.meta, tallies["meta"], share), tallies["meta"]
    else:
        tallies = {"interactions": Tally(settings.interactions.name)}
        chosen = choose(
            generic.read_events(settings, tallies["interactions"]),
            settings,
            timed=settings.time_column is not None,
            rated=settings.rating_column is not None,
            labelled=settings.split_column is not None,
        )
        if settings.items:
            tallies["items"] = Tally(settings.items.name)
            items = generic.read_items(settings, tallies["items"]), tallies["items"]
    write_inter(data / f"{settings.name}.inter", chosen.rows)
    write_names(data / NAMES_FILE, ("asin", "itemID"), chosen.items)
    write_names(data / USERS_FILE, ("user_id", "userID"), chosen.users)
    counts = {"interactions": chosen.counts, "split": chosen.n_each}
    if items:
        ids = {name: index for index, name in enumerate(chosen.items)}
        del chosen  # its columns make room for what follows
        records, tally = items
        counts["items"] = gather(records, ids, tally, work)
        catalogue = open_catalogue(work)
        with catalogue.file:
            write_items(catalogue, data)
    return {**counts, "tallies": {name: dataclasses.asdict(t) for name, t in tallies.items()}}
