"""A product of small matrices whose sums stay in a core's registers."""

from typing import Any, no_type_check

from numba.core import types
from numba.extending import intrinsic

from psan.compiled import compiled, inlined
from psan.vectors import LANES, Code

ROWS, COLUMNS = 6, 2 * LANES
"""Of a tile. Arrays that tiles are read from or written to are padded to whole ones."""


def _sums(typing: Any, *arguments: Any, depthwise: bool) -> Any:
    """Typing and code of `tile` and `depthwise`."""
    at = types.intp
    left, _, _, _, right, _, _, _, base, _, _, result, _, _ = arguments
    signature = types.void(left, at, at, at, right, at, at, at, base, at, at, result, at, at)

    @no_type_check
    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        left, right, before, result = (code.pointer(k) for k in (0, 4, 8, 11))
        _, a_at, a_row, a_step, _, b_at, b_row, depth, _, base_at, base_row, _, c_at, c_row = (
            arguments
        )
        parts = range(0, COLUMNS, LANES)
        entries = [(i, j) for i in range(ROWS) for j in parts]
        rows = [code.index(a_at, (a_row, i)) for i in range(ROWS)]

        def step(k, *sums):
            across = {j: code.load(right, code.index(b_at, (b_row, k), j)) for j in parts}
            down = [code.index(row, (a_step, k)) for row in rows]
            if depthwise:
                factors = [code.load(left, code.index(down[i], j)) for i, j in entries]
            else:
                column = [code.entry(left, place) for place in down]
                factors = [column[i] for i, _ in entries]
            return [
                code.multiply_add(factor, across[j], total)
                for (_, j), factor, total in zip(entries, factors, sums, strict=True)
            ]

        first = [code.load(before, code.index(base_at, (base_row, i), j)) for i, j in entries]
        for (i, j), total in zip(entries, code.loop(depth, 1, first, step), strict=True):
            code.store(total, result, code.index(c_at, (c_row, i), j))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
@no_type_check
def tile(
    typing, a, a_at, a_row, a_step, b, b_at, b_row, depth, base, base_at, base_row, c, c_at, c_row
):
    """Fills `ROWS × COLUMNS` entries of `c` with `base + a b`, all of them float32.

    Method: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS
    34(3), 2008, with the tile that BLIS has for AVX2: 12 of 16 registers hold sums, two a row of
    `b`, one an entry of `a`.

    The arrays `a` `[ROWS depth]`, `b` `[depth COLUMNS]`, `base` and `c` `[ROWS COLUMNS]` may be
    parts of larger ones: `…_at` is the entry of the whole array at which one begins, `…_row` the
    entries from one row to the next (0 repeats one row), `a_step` those from one column of `a` to
    the next. Columns of the others are neighbours; `base` may be `c`; `depth` is at least 1.
    """
    return _sums(
        typing, a, a_at, a_row, a_step, b, b_at, b_row, depth, base, base_at, base_row, c, c_at,
        c_row, depthwise=False,
    )  # fmt: skip


@intrinsic
@no_type_check
def depthwise(
    typing, a, a_at, a_row, a_step, b, b_at, b_row, depth, base, base_at, base_row, c, c_at, c_row
):
    """The same with a number of `a` for each column: `c[i, j] = base + Σₖ a[i, k, j] b[k, j]`."""
    return _sums(
        typing, a, a_at, a_row, a_step, b, b_at, b_row, depth, base, base_at, base_row, c, c_at,
        c_row, depthwise=True,
    )  # fmt: skip


@compiled
@no_type_check
def product(
    a, a_at, a_row, a_step, b, b_at, b_row, depth,
    base, base_at, base_row, c, c_at, c_row, rows, columns,
):  # fmt: skip
    """`tile` for at least so many rows and columns of `c`, whole tiles of them."""
    for j in range(0, columns, COLUMNS):
        for i in range(0, rows, ROWS):
            tile(
                a, a_at + i * a_row, a_row, a_step, b, b_at + j, b_row, depth,
                base, base_at + i * base_row + j, base_row, c, c_at + i * c_row + j, c_row,
            )  # fmt: skip


@inlined
@no_type_check
def padded(count, multiple):
    """The next multiple of a number."""
    return -(-count // multiple) * multiple


@inlined
@no_type_check
def spaced(width):
    """Length of rows that hold whole tiles and one more.

    It is an odd number of cache lines: entries of a column are then in all places of a cache.
    """
    return (((width + COLUMNS - 1) // COLUMNS + 1) | 1) * COLUMNS
