"""One form of an id, whichever table, file name or command line it comes from."""

import re
import unicodedata

# What tables, databases and programs write where there is nothing.
NULL_WORDS = frozenset(
    ("", "null", "(null)", "none", "nan", "<na>", "na", "n/a", "#n/a", "nat", "nil", "\\n")
)
_WHOLE_FLOAT = re.compile(r"([+-]?)(\d+)\.0*")
_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d+)?[eE]\+\d+|[+-]?\d\.\d+[eE]\d+")
_EXACT = 2**53


def canonical(text: str) -> str | None:
    """An id as it is compared: composed (Unicode NFC), trimmed, whole floats as integers.

    >>> canonical(" 12.0 "), canonical("007"), canonical("Cafe\\u0301")
    ('12', '007', 'Café')
    >>> canonical("NaN") is canonical("\\\\N") is canonical("") is None
    True

    Args:
      text: as read.

    Returns:
      None for a null word: a row without an id is nobody's, not all of one user.

    Raises:
      ValueError: a float that has lost digits, beyond 2^53 or in scientific notation.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if text.casefold() in NULL_WORDS:
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
