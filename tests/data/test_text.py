"""Text is opened one way, whoever reads it: interactions, mappings, titles and tables."""

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pytest

from uatmc_jax.data.interactions import read_inter
from uatmc_jax.data.names import load_item_names, load_item_titles
from uatmc_jax.data.text import read_text, text_blocks
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.lines import Tally, read_lines

TEXT = "userID\titemID\tx_label\n0\t1\t0\n1\t0\t1\n1\t1\t2\n"
FORMS = {
    "plain": str.encode,
    "mark": lambda text: text.encode("utf-8-sig"),
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 BE": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 without mark": lambda text: text.encode("utf-16-le"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "gzip of UTF-16": lambda text: gzip.compress(text.encode("utf-16")),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_text_in_all_its_forms(tmp_path, form):
    (tmp_path / "x.inter").write_bytes(FORMS[form](TEXT))
    assert read_inter(tmp_path / "x.inter").tolist() == [[0, 1, 0], [1, 0, 1], [1, 1, 2]]
    (tmp_path / "i_id_mapping.csv").write_bytes(FORMS[form]("asin\titemID\nB1é\t0\nB2\t1\n"))
    assert load_item_names(tmp_path) == {"B1é": 0, "B2": 1}
    (tmp_path / "items.csv").write_bytes(FORMS[form]("itemID,title\n0,Café\n1,Thé\n"))
    assert load_item_titles(tmp_path) == {0: "Café", 1: "Thé"}
    lines = [line.rstrip(b"\r") for line in read_lines(tmp_path / "x.inter", Tally("x"))]
    assert b"\n".join(lines) + b"\n" == TEXT.encode()


def npy():
    with io.BytesIO() as file:
        np.save(file, np.zeros(3))
        return file.getvalue()


def archive():
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as content:
            content.writestr("x.csv", TEXT)
        return file.getvalue()


OTHERS = {
    "a ZIP archive": archive(),
    "packed with bzip2": bz2.compress(TEXT.encode(), 1),
    "packed with lz4": b"\x04\x22\x4d\x18" + TEXT.encode(),
    "an ORC file": b"ORC" + TEXT.encode(),
    "packed with xz": lzma.compress(TEXT.encode()),
    "a PDF": b"%PDF-1.4\n" + bytes(50),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "a NumPy array": npy(),
    "a Parquet file": b"PAR1" + bytes(50),
    "a tar archive": b"x.csv".ljust(257, b"\0") + b"ustar\x0000" + bytes(300),
    "a page of HTML": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n",
    "a ZIP archive or": gzip.compress(archive()),
    "is binary": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_text_is_named(tmp_path, kind):
    path = tmp_path / "x.inter"
    path.write_bytes(OTHERS[kind])
    for read in (read_inter, read_text, lambda path: list(text_blocks(path))):
        with pytest.raises(InputError, match=rf"x\.inter: is .*{kind.removeprefix('is ')}"):
            read(path)


def test_latin_1_has_its_hint_with_the_line(tmp_path):
    (tmp_path / "items.csv").write_bytes("itemID,title\n0,The\n1,Café\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"items\.csv, line 3: not UTF-8.*iconv"):
        load_item_titles(tmp_path)
