"""One way to open text: unpacked, in UTF-8, without marks; what is no text is named as what it is.

`.inter` files, mappings and the tables and reviews that `prepare` reads come through here.
"""

import codecs
import itertools
import pathlib
import zlib
from collections.abc import Callable, Iterator

from uatmc_jax.errors import InputError

BLOCK_BYTES = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Unpacked at once, so that a small file of nothing but zeros stays small.
_ZSTD_PIECE = 1 << 12
Watch = Callable[[bytes], object]
# How files begin that are taken for text, and what to do with them.
_UNPACK = "Unpack it, or pack it with gzip or zstd"
_MAGIC = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "Unpack it, or save the sheet as CSV"),
    b"BZh": ("packed with bzip2", _UNPACK),
    b"\x04\x22\x4d\x18": ("packed with lz4", _UNPACK),
    b"\xfd7zXZ\0": ("packed with xz", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"\xd0\xcf\x11\xe0": ("an old Excel or Word file", "Save it as CSV"),
    b"%PDF": ("a PDF", "Give a table"),
    b"\x89PNG": ("an image", "Give a table"),
    b"\xff\xd8\xff": ("an image", "Give a table"),
    b"GIF8": ("an image", "Give a table"),
    b"SQLite format 3": ("a database", "Export the table as CSV"),
    b"\x93NUMPY": ("a NumPy array", "Give a table"),
    b"\x89HDF": ("an HDF5 file", "Write the table as CSV or Parquet"),
    b"PAR1": ("a Parquet file", "Where text is wanted, write it as such"),
    b"ARROW1": ("an Arrow or Feather file", "Write it as Parquet"),
    b"Obj\x01": ("an Avro file", "Write it as Parquet or JSON lines"),
    b"ORC": ("an ORC file", "Write it as Parquet"),
    **{
        bytes((0x80, protocol)): ("a pickle, which is never loaded", "Write the table as Parquet")
        for protocol in range(2, 6)
    },
    b"\x7fELF": ("a program", "Give a table"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file", "Fetch it: git lfs pull"),
}
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
NOT_UTF8 = "not UTF-8 text; perhaps Latin-1, which iconv -f WINDOWS-1252 -t UTF-8 FILE recodes"
_TAR = slice(257, 262)
_SNIFFED = 1 << 12
_CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r\x1a\x1b"})
# More control characters than that among the first ones are no text's.
_MOST_CONTROLS = 0.05
# Of UTF-16 without a mark, nearly every other byte of Western text is zero.
_ZEROS = 0.8


def unpacked_blocks(path: pathlib.Path, watch: Watch = len) -> Iterator[bytes]:
    """Yields a file's content in blocks, unpacked if it is gzip or zstd (by its first bytes).

    Args:
      path: of the file.
      watch: is shown each block as it is stored.

    Raises:
      InputError: no such file, a packed one that is cut off or damaged, or zstandard is absent.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file. Check the path.")
    with open(path, "rb") as file:
        head, stored = file.peek(4), _watched(file, watch)
        if head.startswith(_GZIP):
            yield from _unpacked(stored, path)
        elif head.startswith(_ZSTD):
            yield from _unpacked_zstd(stored, path)
        else:
            yield from stored


def _watched(file, watch: Watch) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        watch(block)
        yield block


def _unpacked(blocks: Iterator[bytes], path: pathlib.Path) -> Iterator[bytes]:
    """A gzip file's content; it may consist of several members and end in zeros."""
    member = zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            while block:
                if member.eof:
                    block = block.lstrip(b"\0")
                    if not block:
                        break
                    member = zlib.decompressobj(wbits=31)
                yield member.decompress(block, BLOCK_BYTES)
                block = member.unused_data if member.eof else member.unconsumed_tail
        # What was held back by the limit on a block's size comes without further input.
        while not member.eof and (rest := member.decompress(b"", BLOCK_BYTES)):
            yield rest
    except zlib.error as error:
        raise InputError(f"{path}: damaged gzip file ({error}). Fetch it again.") from None
    if not member.eof:
        raise InputError(f"{path}: the gzip file is truncated. Fetch it again.")


def _unpacked_zstd(blocks: Iterator[bytes], path: pathlib.Path) -> Iterator[bytes]:
    """A zstd file's content; it may consist of several frames."""
    try:
        import zstandard
    except ImportError:
        raise InputError(
            f"{path}: reading zstd needs zstandard. pip install 'uatmc_jax[zstd]', or unpack it."
        ) from None
    frame = zstandard.ZstdDecompressor().decompressobj()
    pieces = (b[n : n + _ZSTD_PIECE] for b in blocks for n in range(0, len(b), _ZSTD_PIECE))
    try:
        for piece in pieces:
            while piece:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise InputError(f"{path}: damaged zstd file ({error}). Fetch it again.") from None
    if not frame.eof:
        raise InputError(f"{path}: the zstd file is truncated. Fetch it again.")


def text_blocks(path: pathlib.Path, watch: Watch = len) -> Iterator[bytes]:
    """Yields a text's content in blocks of UTF-8, lines ending in LF or CR LF.

    Gzip and zstd are unpacked; a byte order mark is left out; UTF-16 (with a mark or without) and
    UTF-32 are recoded; lines that end in CR alone end in LF. Bytes that are not UTF-8 are
    left to the reader, who knows their line.

    Args:
      path: of the file.
      watch: is shown each block as it is stored.

    Raises:
      InputError: no such file, damaged or truncated, an archive or another kind of file
        that is no text.
    """
    blocks = unpacked_blocks(path, watch)
    head = b""
    for block in blocks:
        head += block
        if len(head) >= _SNIFFED:
            break
    encoding, mark = _encoding(head)
    head = head[mark:]
    _refuse_others(path, head[:_SNIFFED] if encoding == "utf-8" else b"")
    old_mac = b"\r" in head and b"\n" not in head and encoding == "utf-8"
    if encoding != "utf-8":
        yield from _recoded(path, encoding, head, blocks)
        return
    yield head.replace(b"\r", b"\n") if old_mac else head
    for block in blocks:
        yield block.replace(b"\r", b"\n") if old_mac else block


def _encoding(head: bytes) -> tuple[str, int]:
    """The encoding of a text that begins so, and the length of its mark."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding, len(mark)
    sample = head[:_SNIFFED]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = sample[first::2], sample[1 - first :: 2]
        if len(sample) > 3 and zeros.count(0) > _ZEROS * len(zeros) and not others.count(0):
            return encoding, 0
    return "utf-8", 0


def _refuse_others(path: pathlib.Path, head: bytes) -> None:
    for magic, (kind, remedy) in _MAGIC.items():
        if head.startswith(magic):
            raise InputError(f"{path}: is {kind}, not text. {remedy}.")
    if head[_TAR] == b"ustar":
        raise InputError(f"{path}: is a tar archive, not text. Unpack it.")
    if head.lstrip()[:20].lower().startswith(_PAGES):
        raise InputError(
            f"{path}: is a page of HTML or XML, not a table. Fetch the file itself, not the page "
            "that links it."
        )
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > _MOST_CONTROLS * len(head) and len(head) > 32:
        raise InputError(f"{path}: is binary, not text. Give a table or JSON lines.")


def _recoded(
    path: pathlib.Path, encoding: str, head: bytes, blocks: Iterator[bytes]
) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in itertools.chain((head,), blocks):
            yield decoder.decode(block).encode("utf-8")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start} of a block"
        raise InputError(f"{path}: not {encoding} ({reason}). Save it as UTF-8.") from None


def read_text(path: pathlib.Path) -> str:
    """A whole text, opened as `text_blocks` does, lines ending in LF.

    Raises:
      InputError: see `text_blocks`; not UTF-8, with the line.
    """
    content = b"".join(text_blocks(path))
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: {NOT_UTF8}.") from None
