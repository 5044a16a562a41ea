"""One form of an id, whichever table, file name or command line it comes from."""

import re
import unicodedata

# What tables, databases and programs write where there is nothing.
_NULL_WORDS = frozenset(
    ("null", "none", "nan", "na", "n/a", "#n/a", "#null!", "nat", "nil", "\\n", "undefined")
)
_ENCLOSED = re.compile(r"<(.*)>|\((.*)\)|\[(.*)\]")
_WHOLE_FLOAT = re.compile(r"([+-]?)(\d+)\.0*")
_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d+)?[eE]\+\d+|[+-]?\d\.\d+[eE]\d+")
_EXACT = 2**53


def is_null(text: str) -> bool:
    """Whether a cell says that there is nothing: empty, a null word, or signs such as "-" alone.

    >>> is_null("<NA>"), is_null("--"), is_null("0"), is_null("Nils")
    (True, True, False, False)
    """
    text = text.strip().casefold()
    enclosed = _ENCLOSED.fullmatch(text)
    word = next(filter(None, enclosed.groups()), "") if enclosed else text
    return word in _NULL_WORDS or (text.isascii() and not any(map(str.isalnum, text)))


def canonical(text: str) -> str | None:
    """An id as it is compared: composed (Unicode NFC), trimmed, whole floats as integers.

    >>> canonical(" 12.0 "), canonical("007"), canonical("Cafe\\u0301")
    ('12', '007', 'Café')
    >>> canonical("NaN") is canonical("\\\\N") is canonical("") is None
    True

    Args:
      text: as read.

    Returns:
      None where there is nothing (`is_null`): a row without an id is nobody's, not all of one user.

    Raises:
      ValueError: a float that has lost digits, beyond 2^53 or in scientific notation.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if is_null(text):
        return None
    whole = _WHOLE_FLOAT.fullmatch(text)
    if whole:
        sign, digits = whole.groups()
        digits = digits.lstrip("0") or "0"
        if len(digits) > 16 or int(digits) > _EXACT:
            raise ValueError(
                "an id is a float beyond 2^53, which has lost digits: write it as text"
            )
        return ("-" if sign == "-" and digits != "0" else "") + digits
    if _SCIENTIFIC.fullmatch(text):
        raise ValueError("an id is in scientific notation, which loses digits: write it as text")
    return text
