"""Vector instructions for compiled loops, written in LLVM's own notation.

Numba leaves vector instructions to LLVM's guesses, which reach a third of a core's rate in a matrix
product, and BLAS is at its best with large matrices only. Here they are written down: on vectors of
`LANES` numbers, which LLVM fits to the processor at hand, whatever its registers hold.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, no_type_check

from llvmlite import ir
from numba.core import cgutils

LANES = 8
"""Numbers of a vector."""

_FLOAT, _WORD, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)

_LEAST = -126.0  # 2 to the power of less is no normal float32
_POWER = (1.0, 0.693147004, 0.240222424, 0.0555073395, 0.00967151113, 0.00132646528)
"""Terms of `2ˣ` from -1/2 to 1/2, first 1: with the least relative error, 9e-8."""


@no_type_check
class Code:
    """Where an intrinsic puts its instructions: vectors of float32, or of 32-bit words."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any]):
        self.builder = builder
        self._context, self._types = context, signature.args
        self._arguments = arguments

    def pointer(self, k: int) -> Any:
        """Address of the first entry of the array that is argument `k`."""
        array = self._context.make_array(self._types[k])
        return array(self._context, self.builder, self._arguments[k]).data

    def index(self, *terms: Any) -> Any:
        """Sum of indices: numbers, values, and pairs of those that are multiplied first."""
        values = [self._term(term) for term in terms]
        return reduce(self.builder.add, values)

    def _term(self, term: Any) -> Any:
        if isinstance(term, tuple):
            return self.builder.mul(*(self._term(factor) for factor in term))
        return ir.Constant(_INDEX, term) if isinstance(term, int) else term

    def loop(
        self, count: Any, step: int, carried: Sequence[Any], body: Callable[..., Sequence[Any]]
    ) -> list[Any]:
        """`carried = body(at, *carried)` for `at` from 0 to below `count`, which is above 0."""
        builder, before = self.builder, self.builder.block
        inside, after = (builder.append_basic_block(name) for name in ("loop", "after"))
        builder.branch(inside)
        builder.position_at_end(inside)
        at = builder.phi(_INDEX)
        now = [builder.phi(value.type) for value in carried]
        new = body(at, *now)
        following = self.index(at, step)
        for phi, first, later in zip(
            (at, *now), (ir.Constant(_INDEX, 0), *carried), (following, *new), strict=True
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(later, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        return list(new)

    def either(self, condition: Any, make: Callable[[bool], Sequence[Any]]) -> list[Any]:
        """What the code `make(True)` gives where a condition holds, and `make(False)` elsewhere."""
        found = []
        with self.builder.if_else(condition) as branches:
            for branch, holds in zip(branches, (True, False), strict=True):
                with branch:
                    values = make(holds)
                    found.append((values, self.builder.block))
        joined = [self.builder.phi(value.type) for value in found[0][0]]
        for values, block in found:
            for phi, value in zip(joined, values, strict=True):
                phi.add_incoming(value, block)
        return joined

    def load(self, pointer: Any, at: Any) -> Any:
        """The `LANES` numbers from entry `at` on."""
        value = self.builder.load(self._vector_pointer(pointer, at))
        value.align = 4
        return value

    def store(self, value: Any, pointer: Any, at: Any) -> None:
        """Writes a vector to entry `at` and the next ones."""
        self.builder.store(value, self._vector_pointer(pointer, at)).align = 4

    def _vector_pointer(self, pointer: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [at]), _VECTOR.as_pointer())

    def pairs(self, pointer: Any, at: Any) -> tuple[Any, Any]:
        """Of the `2 LANES` numbers from entry `at` on, those at even and those at odd places."""
        halves = [self.load(pointer, self.index(at, k * LANES)) for k in range(2)]
        even, odd = (
            self.builder.shuffle_vector(*halves, ir.Constant(_WORDS, list(range(k, 2 * LANES, 2))))
            for k in range(2)
        )
        return even, odd

    def add_pairs(self, even: Any, odd: Any, pointer: Any, at: Any) -> None:
        """Adds to the numbers that `pairs` gives."""
        for k in range(2):
            order = [lane // 2 + LANES * (lane % 2) for lane in range(k * LANES, (k + 1) * LANES)]
            change = self.builder.shuffle_vector(even, odd, ir.Constant(_WORDS, order))
            place = self.index(at, k * LANES)
            self.store(self.builder.fadd(self.load(pointer, place), change), pointer, place)

    def below(self, at: Any, count: Any) -> Any:
        """Whether `at` and each of the following indices is below `count`."""
        builder = self.builder
        left = self.everywhere(builder.trunc(builder.sub(count, at), _WORD))
        return builder.icmp_signed("<", ir.Constant(_WORDS, list(range(LANES))), left)

    def entry(self, pointer: Any, at: Any) -> Any:
        """Entry `at`, in all lanes."""
        return self.everywhere(self.builder.load(self.builder.gep(pointer, [at])))

    def everywhere(self, value: Any) -> Any:
        """A number, given as such or as a value, in all lanes."""
        if isinstance(value, float):
            return ir.Constant(_VECTOR, [value] * LANES)
        if isinstance(value, int):
            return ir.Constant(_WORDS, [value] * LANES)
        empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        one = self.builder.insert_element(empty, value, ir.Constant(_WORD, 0))
        return self.builder.shuffle_vector(one, empty, ir.Constant(_WORDS, [0] * LANES))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """`a · b + c`, rounded once where the processor can."""
        return self._call("fmuladd", a, b, c)

    def _call(self, name: str, *values: Any) -> Any:
        """One of LLVM's own functions of vectors."""
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(values))
        function = cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.{name}.v{LANES}f32"
        )
        return self.builder.call(function, values)

    def larger(self, a: Any, b: Any) -> Any:
        """The larger one in each lane; `b` where either is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def smaller(self, a: Any, b: Any) -> Any:
        """The smaller one in each lane; `b` where either is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def across(self, operation: Callable[[Any, Any], Any], value: Any) -> Any:
        """All lanes of a vector joined, half with half."""
        half = LANES
        while half > 1:
            half //= 2
            order = [(lane + half) % LANES for lane in range(LANES)]
            other = self.builder.shuffle_vector(value, value, ir.Constant(_WORDS, order))
            value = operation(value, other)
        return self.builder.extract_element(value, ir.Constant(_WORD, 0))

    def power_of_two(self, x: Any) -> Any:
        """`2ˣ` for `x` up to 127, within 3 units in the last place; NaN stays NaN.

        Below -126 it stays 2⁻¹²⁶ = 1.2e-38.
        """
        builder, put = self.builder, self.everywhere
        x = self.larger(put(_LEAST), x)
        whole = self._call("rint", x)
        rest = builder.fsub(x, whole)
        square = builder.fmul(rest, rest)
        low, middle, high = (
            self.multiply_add(put(odd), rest, put(even))
            for even, odd in zip(_POWER[::2], _POWER[1::2], strict=True)
        )
        power = self.multiply_add(self.multiply_add(high, square, middle), square, low)
        exponent = builder.shl(builder.fptosi(whole, _WORDS), put(23))  # where its bits are
        return builder.bitcast(builder.add(builder.bitcast(power, _WORDS), exponent), _VECTOR)

    def random(self, seed: Any, at: Any) -> Any:
        """`psan.compiled.random` of a row's entries from `at` on."""
        builder, put = self.builder, self.everywhere
        first = builder.add(put(builder.trunc(at, _WORD)), ir.Constant(_WORDS, list(range(LANES))))
        h = builder.add(put(seed), builder.mul(first, put(0x9E3779B9)))
        for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
            h = builder.mul(builder.xor(h, builder.lshr(h, put(shift))), put(factor))
        return builder.xor(h, builder.lshr(h, put(15)))

    def kept(self, seed: Any, at: Any, drop: Any, value: Any) -> Any:
        """`value`, with 0 in the lanes whose random number is below `drop`."""
        stays = self.builder.icmp_unsigned(">=", self.random(seed, at), self.everywhere(drop))
        return self.builder.select(stays, value, self.everywhere(0.0))
