"""What happens to a row of attention scores while it is in a core's nearest cache.

Rows lie in arrays `[rows k]`, `k` a multiple of `psan.vectors.LANES`; `at` is the entry of the
whole array at which one begins. Scores are for powers of two: the textbook's times `log₂ e`.
"""

from typing import no_type_check

from numba.core import types
from numba.extending import intrinsic

from psan.vectors import LANES, Code

_AT, _FLOAT, _WORD = types.intp, types.float32, types.uint32


@intrinsic
@no_type_check
def maximum(typing, rows, at, length):
    """The largest entry of a row."""

    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        row, (_, at, length) = code.pointer(0), arguments
        (top,) = code.loop(
            length,
            LANES,
            [code.load(row, at)],
            lambda j, top: [code.larger(code.load(row, code.index(at, j)), top)],
        )
        return code.across(code.larger, top)

    return _FLOAT(rows, _AT, _AT), generate


@intrinsic
@no_type_check
def powers(typing, rows, at, length, highest, seed, drop):
    """Turns a row of scores into `2` to the power of score less `highest`; returns their sum.

    After the sum, those go whose random number is below `drop`; with 0 none does, and it is faster.
    """

    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        row, (_, at, length, highest, seed, drop) = code.pointer(0), arguments
        highest, none = code.everywhere(highest), code.everywhere(0.0)

        def loop(drops):
            def part(j, total):
                here = code.index(at, j)
                weight = code.power_of_two(builder.fsub(code.load(row, here), highest))
                kept = code.kept(seed, j, drop, weight) if drops else weight
                code.store(kept, row, here)
                return [builder.fadd(total, weight)]

            return code.loop(length, LANES, [none], part)

        (total,) = code.either(builder.icmp_unsigned("!=", drop, drop.type(0)), loop)
        return code.across(builder.fadd, total)

    return _FLOAT(rows, _AT, _AT, _FLOAT, _WORD, _WORD), generate


@intrinsic
@no_type_check
def back_to_scores(
    typing, rows, slopes, at, length, shift, mean, seed, drop, keep, shares, shares_at
):
    """Turns a row of scores into weights, and their gradient into that of the scores.

    Both are those after dropout. A weight is 2 to the power of `score - shift`; with its gradient
    `g` after dropout, the scores' is `weight (kept g - mean)`, where `kept` is 0 or `keep`.

    Args:
        typing: Numba's.
        rows: scores, then weights.
        slopes: gradient of the weights, then of the scores.
        at: begin of the row in both.
        length: of the row.
        shift: logarithm to base 2 of the sum of all powers of two.
        mean: of the weights' gradient, weighted with them.
        seed: of the random numbers.
        drop: as for `powers`.
        keep: factor of the weights that are kept.
        shares: to which the scores' gradient is also added.
        shares_at: begin of the row there.
    """

    def generate(context, builder, signature, arguments):
        code = Code(context, builder, signature, arguments)
        row, slope, share = (code.pointer(k) for k in (0, 1, 9))
        _, _, at, length, shift, mean, seed, drop, keep, _, shares_at = arguments
        shift, mean, keep = (code.everywhere(x) for x in (shift, mean, keep))

        def loop(drops):
            def part(j):
                here, there = code.index(at, j), code.index(shares_at, j)
                weight = code.power_of_two(builder.fsub(code.load(row, here), shift))
                kept = code.kept(seed, j, drop, keep) if drops else keep
                change = builder.fsub(builder.fmul(code.load(slope, here), kept), mean)
                change = builder.fmul(weight, change)
                code.store(builder.fmul(weight, kept), row, here)
                code.store(change, slope, here)
                code.store(builder.fadd(code.load(share, there), change), share, there)
                return []

            return code.loop(length, LANES, [], part)

        code.either(builder.icmp_unsigned("!=", drop, drop.type(0)), loop)
        return context.get_dummy_value()

    words = (_AT, _AT, _FLOAT, _FLOAT, _WORD, _WORD, _FLOAT)
    return types.void(rows, slopes, *words, shares, _AT), generate
