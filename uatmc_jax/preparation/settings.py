"""What the command line asks for, as values."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What both commands share.

    Attributes:
      out: the folder to write; must not exist, or be empty.
      name: of the data set.
      core: users and items keep at least that many interactions; 0 or 1 for all.
      seed: of the split, where it is random.
      split: "random"; "user-time", each user's latest held out; "global-time", the latest of
        all held out.
      min_rating: interactions below it are left out; None takes all.
      max_malformed: the share of a source's records that may be unreadable.
      max_lost: the share of anything that may be left behind, unreadable or not (see `losses`).
      batch_size: texts or images an encoder takes at once.
      text_encoder: a sentence-transformers model's name or folder.
      text_features: `.npy` whose row i belongs to row i of the items' source; a row of NaN
        says that the item has none.
      image_features: the same for images; of `AmazonSettings`, the binary file.
    """

    out: pathlib.Path
    name: str
    core: int = 5
    seed: int = 999
    split: str = "random"
    min_rating: float | None = None
    max_malformed: float = 0.2
    max_lost: float = 0.2
    batch_size: int = 32
    text_encoder: str | None = None
    text_features: pathlib.Path | None = None
    image_features: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmazonSettings(Settings):
    """Sources of an Amazon collection.

    Attributes:
      reviews: one JSON object a line.
      meta: one JSON object or, of 2014, Python dict literal a line.
      layout: of `amazon.LAYOUTS`: amazon2014, amazon2018 or amazon2023.
    """

    reviews: pathlib.Path
    meta: pathlib.Path
    layout: str = "amazon2014"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenericSettings(Settings):
    """Sources of any other shop: tables, CSV, JSON lines or Parquet, and a folder of images.

    Attributes:
      interactions: a row per interaction.
      user_column: of `interactions`.
      item_column: of `interactions`.
      time_column: numbers or ISO 8601.
      rating_column: numbers.
      split_column: 0, 1, 2 or train, valid, test; None draws the splits.
      delimiter: of both tables; None goes by their names.
      columns: names of `interactions`' columns where it has no header.
      item_columns: the same of `items`.
      items: a row per item.
      id_column: of `items`; the item column's values.
      title_column: shown to people.
      brand_column: shown to people.
      category_column: shown to people.
      text_columns: what a text encoder reads; () for the three above.
      images: folder of images named by item id, or by `image_column`.
      image_column: paths below `images`.
      image_encoder: a transformers model's name or folder.
    """

    interactions: pathlib.Path
    user_column: str
    item_column: str
    time_column: str | None = None
    rating_column: str | None = None
    split_column: str | None = None
    delimiter: str | None = None
    columns: tuple[str, ...] = ()
    item_columns: tuple[str, ...] = ()
    items: pathlib.Path | None = None
    id_column: str | None = None
    title_column: str | None = None
    brand_column: str | None = None
    category_column: str | None = None
    text_columns: tuple[str, ...] = ()
    images: pathlib.Path | None = None
    image_column: str | None = None
    image_encoder: str | None = None
