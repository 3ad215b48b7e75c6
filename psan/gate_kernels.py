"""The gates of `psan.gate` in vector code, for matrices in a core's cache.

Of each matrix `[rows width]`, an array or a part of one, `…_at` is the entry of the array at which
it begins and `…_row` the entries from one row to the next. A call is for the outputs that see
`pairs`: `2 i` and `2 i + 1` are those of output `begin + i`. All have room for whole vectors of
outputs; what is written beyond `count` outputs is of no use, and what is added there is 0.
"""

from typing import Any, no_type_check

from numba.core import types
from numba.extending import intrinsic

from psan.vectors import LANES, Code

_AT = types.intp
_LOG2_E = 1.4426950408889634
_LARGEST = 126.0  # power of two of which 1 is nothing, and which is a float32


@no_type_check
def _sigmoid(code: Code, z: Any) -> Any:
    builder, one = code.builder, code.everywhere(1.0)
    x = code.smaller(code.everywhere(_LARGEST), builder.fmul(z, code.everywhere(-_LOG2_E)))
    return builder.fdiv(one, builder.fadd(one, code.power_of_two(x)))


@no_type_check
def _gates(code: Code, maps: Any, y: Any, z: Any) -> tuple[Any, Any]:
    """Share and candidate of outputs that see `y` and `z`."""
    a, b, p, c, e, q = maps
    share, candidate = (
        _sigmoid(code, code.multiply_add(left, y, code.multiply_add(right, z, constant)))
        for left, right, constant in ((a, b, p), (c, e, q))
    )
    return share, candidate


@no_type_check
def _blend(code: Code, s: Any, v: Any, own: Any) -> Any:
    return code.multiply_add(s, code.builder.fsub(own, v), v)


@intrinsic
@no_type_check
def gate(
    typing, pairs, pairs_at, pairs_row, maps, maps_at, maps_row,
    own, own_at, own_row, out, out_at, out_row, rows, begin, count,
):  # fmt: skip
    """Fills `out` with `s ⊙ own + (1 - s) ⊙ v`; `maps` are weight, weight, bias of `s` and `v`."""

    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        pairs, maps, own, out = (code.pointer(k) for k in (0, 3, 6, 9))
        _, pairs_at, pairs_row, _, maps_at, maps_row = arguments[:6]
        _, own_at, own_row, _, out_at, out_row, rows, begin, count = arguments[6:]

        def outputs(i):
            at = code.index(begin, i)
            numbers = [code.load(maps, code.index(maps_at, (maps_row, k), at)) for k in range(6)]

            def row(r):
                y, z = code.pairs(pairs, code.index(pairs_at, (pairs_row, r), (2, i)))
                mine = code.load(own, code.index(own_at, (own_row, r), at))
                result = _blend(code, *_gates(code, numbers, y, z), mine)
                code.store(result, out, code.index(out_at, (out_row, r), at))
                return []

            return code.loop(rows, 1, [], row)

        code.loop(count, LANES, [], outputs)
        return context.get_dummy_value()

    matrix = (_AT, _AT)
    return types.void(
        pairs, *matrix, maps, *matrix, own, *matrix, out, *matrix, _AT, _AT, _AT
    ), generate


@intrinsic
@no_type_check
def gate_backward(
    typing, pairs, pairs_at, pairs_row, maps, maps_at, maps_row,
    own, own_at, own_row, out, out_at, out_row, given, given_at, given_row,
    to_pairs, to_pairs_at, to_own, to_own_at, sums, rows, begin, count,
):  # fmt: skip
    """Fills `out` as `gate` does, and adds the gradients of inputs and maps.

    Those of `pairs` go to `to_pairs`, with as long rows, of `own` to `to_own`, of the maps to
    `sums`, which lies like them.
    """

    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        pairs, maps, own, out, given, to_pairs, to_own, sums = (
            code.pointer(k) for k in (0, 3, 6, 9, 12, 15, 17, 19)
        )
        _, pairs_at, pairs_row, _, maps_at, maps_row, _, own_at, own_row = arguments[:9]
        _, out_at, out_row, _, given_at, given_row = arguments[9:15]
        _, to_pairs_at, _, to_own_at, _, rows, begin, count = arguments[15:]
        one, none = code.everywhere(1.0), code.everywhere(0.0)

        def add(change, pointer, at):
            code.store(builder.fadd(code.load(pointer, at), change), pointer, at)

        def outputs(i):
            at = code.index(begin, i)
            places = [code.index(maps_at, (maps_row, k), at) for k in range(6)]
            numbers = [code.load(maps, place) for place in places]
            there = code.below(i, count)

            def row(r, *totals):
                y, z = code.pairs(pairs, code.index(pairs_at, (pairs_row, r), (2, i)))
                mine = code.load(own, code.index(own_at, (own_row, r), at))
                s, v = _gates(code, numbers, y, z)
                code.store(_blend(code, s, v, mine), out, code.index(out_at, (out_row, r), at))
                slope = code.load(given, code.index(given_at, (given_row, r), at))
                slope = builder.select(there, slope, none)
                to_mine = builder.fmul(slope, s)
                left = builder.fsub(slope, to_mine)  # slope · (1 - s)
                to_s = builder.fmul(
                    builder.fmul(to_mine, builder.fsub(one, s)), builder.fsub(mine, v)
                )
                to_v = builder.fmul(builder.fmul(left, v), builder.fsub(one, v))
                add(to_mine, to_own, code.index(to_own_at, (own_row, r), at))
                a, b, _, c, e, _ = numbers
                code.add_pairs(
                    code.multiply_add(a, to_s, builder.fmul(c, to_v)),
                    code.multiply_add(b, to_s, builder.fmul(e, to_v)),
                    to_pairs,
                    code.index(to_pairs_at, (pairs_row, r), (2, i)),
                )
                changes = (to_s, y), (to_s, z), (to_s, one), (to_v, y), (to_v, z), (to_v, one)
                return [
                    code.multiply_add(*change, total)
                    for change, total in zip(changes, totals, strict=True)
                ]

            for total, place in zip(code.loop(rows, 1, [none] * 6, row), places, strict=True):
                add(total, sums, place)
            return []

        code.loop(count, LANES, [], outputs)
        return context.get_dummy_value()

    matrix = (_AT, _AT)
    return types.void(
        pairs, *matrix, maps, *matrix, own, *matrix, out, *matrix, given, *matrix,
        to_pairs, _AT, to_own, _AT, sums, _AT, _AT, _AT,
    ), generate  # fmt: skip
