"""What a compiled program sends between devices, and what it keeps on each, as XLA says."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import jax

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
_COLLECTIVE = re.compile(rf"^\s*(?:ROOT )?%?\S+ = (.*?) ({_KINDS})(?:-start)?\(.*$")
_ARRAY = re.compile(r"\b(?:pred|[sufb]f?\d+)\w*\[[\d,]*\]")
_PARTS = re.compile(r"(pred|[a-z]+)(\d*)\w*\[([\d,]*)\]")


class Collective(NamedTuple):
    """One operation between devices.

    Attributes:
      kind: as XLA names it.
      bytes: of its result, on each device.
      in_loop: it is run once an iteration of a loop, and not once.
    """

    kind: str
    bytes: int
    in_loop: bool


class Memory(NamedTuple):
    """Bytes on each device: of what is given, what results beside it, and what is between."""

    given: int
    results: int
    between: int


def collectives(program: jax.stages.Compiled) -> list[Collective]:
    """The operations between devices of a compiled program, in the order of its text."""
    found = []
    for line in (program.as_text() or "").splitlines():
        match = _COLLECTIVE.match(line)
        if match:
            sizes = map(_bytes, _ARRAY.findall(match[1]))
            found.append(Collective(match[2], sum(sizes), "/while/body" in line))
    return found


def sent(found: Iterable[Collective], *, in_loop: bool | None = None) -> int:
    """Bytes of those in loops, of those outside, or of all."""
    return sum(x.bytes for x in found if in_loop is None or x.in_loop == in_loop)


def memory(program: jax.stages.Compiled) -> Memory:
    """What it needs on each device; results that take the place of what is given are that."""
    found = program.memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(found.argument_size_in_bytes, results, found.temp_size_in_bytes)


def _bytes(array: str) -> int:
    """Of one array, as in "f32[64,16]"."""
    match = _PARTS.match(array)
    kind, bits, sides = match.groups()  # type: ignore[union-attr]
    size = 1
    for side in sides.split(","):
        size *= int(side or 1)
    return size * (1 if kind == "pred" else int(bits) // 8)
