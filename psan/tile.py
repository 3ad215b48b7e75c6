"""A product of small matrices whose sums stay in a core's registers."""

from typing import no_type_check

from numba.core import types
from numba.extending import intrinsic

from psan.compiled import inlined
from psan.vectors import LANES, Code

ROWS, COLUMNS = 6, 2 * LANES
"""Of a tile. Arrays that tiles are read from or written to are padded to whole ones."""


@intrinsic
@no_type_check
def tile(
    typing, a, a_at, a_row, a_step, b, b_at, b_row, depth, base, base_at, base_row, c, c_at, c_row
):
    """Fills `ROWS × COLUMNS` entries of `c` with `base + a b`, all of them float32.

    Method: Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS
    34(3), 2008, with the tile that BLIS has for AVX2: 12 of 16 registers hold sums, two a row of
    `b`, one an entry of `a`.

    Args:
        a: array of the left matrix `[ROWS depth]`; so are `b` of the right one `[depth COLUMNS]`,
            `base`, and `c` of the result, which may be `base`.
        a_at: entry of the whole array at which the matrix begins, and so for the others.
        a_row: entries from one row to the next, and so for the others; 0 repeats one row.
        a_step: entries from one column of `a` to the next; the others' columns are neighbours.
        depth: length of the sums, at least 1.
    """
    at = types.intp
    signature = types.void(a, at, at, at, b, at, at, at, base, at, at, c, at, at)

    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        left, right, before, result = (code.pointer(k) for k in (0, 4, 8, 11))
        _, a_at, a_row, a_step, _, b_at, b_row, depth, _, base_at, base_row, _, c_at, c_row = (
            arguments
        )
        entries = [(i, j) for i in range(ROWS) for j in range(0, COLUMNS, LANES)]
        rows = [code.index(a_at, (a_row, i)) for i in range(ROWS)]

        def step(k, *sums):
            halves = {
                j: code.load(right, code.index(b_at, (b_row, k), j))
                for j in range(0, COLUMNS, LANES)
            }
            column = [code.entry(left, code.index(row, (a_step, k))) for row in rows]
            return [
                code.multiply_add(column[i], halves[j], total)
                for (i, j), total in zip(entries, sums, strict=True)
            ]

        first = [code.load(before, code.index(base_at, (base_row, i), j)) for i, j in entries]
        for (i, j), total in zip(entries, code.loop(depth, 1, first, step), strict=True):
            code.store(total, result, code.index(c_at, (c_row, i), j))
        return context.get_dummy_value()

    return signature, generate


@inlined
@no_type_check
def padded(count, multiple):
    """The next multiple of a number."""
    return -(-count // multiple) * multiple
