"""64 rows at a time through the trees: each node is one comparison of 64 bytes, whose result is a mask of 64 bits.

A node is handed the groups of rows that reach it, and hands on those with rows on either side, so that where pixels are
alike, as neighbours are, most nodes are never met. Importing this loads numba; only `evaluator.py` does, when it runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

ROWS = 64
"""Rows of a group: bits of a mask."""

MOST_NODES = 255
"""Nodes of a tree, and so the lists that wait at most."""

Bytes = NDArray[np.uint8]
Masks = NDArray[np.uint64]

_BYTE, _LANE, _MASK = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES, _BITS = ir.VectorType(_BYTE, ROWS), ir.VectorType(ir.IntType(1), ROWS)


def _all(builder: Any, byte: Any) -> Any:
    """A vector of one byte over and over."""
    unset = ir.Constant(_BYTES, ir.Undefined)
    first = builder.insert_element(unset, byte, ir.Constant(_LANE, 0))
    return builder.shuffle_vector(first, unset, ir.Constant(ir.VectorType(_LANE, ROWS), None))


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), _BYTES.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def above(_typing: Any, array: Any, _place: Any, _cut: Any) -> Any:
    """above(array, place, cut): the mask of those of 64 bytes of a flat uint8 array, from `place`, above `cut`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        exceeds = builder.icmp_unsigned(">", builder.load(address, align=1), _all(builder, arguments[2]))
        return builder.bitcast(exceeds, _MASK)

    return types.uint64(array, types.uint64, types.uint8), generate


@intrinsic  # type: ignore[untyped-decorator]
def put(_typing: Any, array: Any, _place: Any, _mask: Any, _byte: Any) -> Any:
    """put(array, place, mask, byte): set those of 64 bytes of a flat uint8 array that a mask chooses."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        chosen = builder.bitcast(arguments[2], _BITS)
        kept = builder.load(address, align=1)
        builder.store(builder.select(chosen, _all(builder, arguments[3]), kept), address, align=1)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64, types.uint8), generate


ONE, NONE, ROWS_OF_GROUP = np.uint64(1), np.uint64(0), np.uint64(ROWS)


@register_jitable
def _part(bins, cut, masks, firsts, start, end, top):  # type: ignore[no-untyped-def]
    """Both children are nodes: the left one's list comes in place of the node's, the right one's on top of all."""
    left_end, right_end = start, top
    for entry in range(start, end):
        mask, first = masks[entry], firsts[entry]
        higher = above(bins, first, cut)
        lower = mask & ~higher
        higher &= mask
        masks[left_end], firsts[left_end] = lower, first
        left_end += np.uint64(lower != NONE)
        masks[right_end], firsts[right_end] = higher, first
        right_end += np.uint64(higher != NONE)
    return left_end, right_end


@register_jitable
def _part_leaf(bins, cut, masks, firsts, start, end, flip, leaf, leaf_of):  # type: ignore[no-untyped-def]
    """One child is a leaf, the right one where `flip` is 0 and the left one where it is all ones."""
    kept_end = start
    for entry in range(start, end):
        mask, first = masks[entry], firsts[entry]
        to_leaf = above(bins, first, cut) ^ flip
        kept = mask & ~to_leaf
        put(leaf_of, first, mask & to_leaf, leaf)
        masks[kept_end], firsts[kept_end] = kept, first
        kept_end += np.uint64(kept != NONE)
    return kept_end


@register_jitable
def _part_leaves(bins, cut, masks, firsts, start, end, left, right, leaf_of):  # type: ignore[no-untyped-def]
    """Both children are leaves."""
    for entry in range(start, end):
        mask, first = masks[entry], firsts[entry]
        higher = above(bins, first, cut)
        put(leaf_of, first, mask & ~higher, left)
        put(leaf_of, first, mask & higher, right)


def add_trees(
    bins: Bytes,
    groups: int,
    columns: NDArray[np.uint32],
    cuts: Bytes,
    left: NDArray[np.int16],
    right: NDArray[np.int16],
    values: NDArray[np.float64],
    roots: NDArray[np.int64],
    leaves: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> None:
    """Set `scores` (output, row) to the sum of the trees' leaves, tree after tree, of `groups` times 64 rows.

    `bins` (column, row). Lists of (mask, first row of the group) lie in one stack: that of the node at hand, from
    `start`, is the last but for the lists of right children, which wait above those of the nodes before them. Unsigned
    indices spare the machine code the look for negative ones.
    """
    size = np.uint64(groups)
    masks, firsts = np.empty((MOST_NODES + 2) * groups, np.uint64), np.empty((MOST_NODES + 2) * groups, np.uint64)
    waiting, starts = np.empty(MOST_NODES, np.int64), np.empty(MOST_NODES, np.uint64)
    ends = np.empty(MOST_NODES, np.uint64)
    leaf_of = np.empty(groups * ROWS, np.uint8)
    scores[:, :] = 0.0
    for tree in range(len(leaves) - 1):
        own, own_values = scores[tree % len(scores)], values[leaves[tree] : leaves[tree + 1]]
        if roots[tree] == roots[tree + 1]:
            for row in range(size * ROWS_OF_GROUP):
                own[row] += own_values[0]
            continue
        for group in range(size):
            masks[group], firsts[group] = ~NONE, np.uint64(group) * ROWS_OF_GROUP
        node, start, end, top, depth = np.int64(0), NONE, size, size, NONE
        while True:
            place = np.uint64(roots[tree] + node)
            cut, own_bins = cuts[place], bins[np.uint64(columns[place])]
            lower, higher = np.int64(left[place]), np.int64(right[place])
            if lower >= 0 and higher >= 0:
                end, right_end = _part(own_bins, cut, masks, firsts, start, end, top)
                if end == start:
                    node, start, end = higher, top, right_end
                else:
                    waiting[depth], starts[depth], ends[depth] = higher, top, right_end
                    depth += np.uint64(right_end != top)
                    node = lower
                top = right_end
                continue
            if lower >= 0:
                end = _part_leaf(own_bins, cut, masks, firsts, start, end, NONE, np.uint8(~higher), leaf_of)
                node = lower
            elif higher >= 0:
                end = _part_leaf(own_bins, cut, masks, firsts, start, end, ~NONE, np.uint8(~lower), leaf_of)
                node = higher
            else:
                _part_leaves(own_bins, cut, masks, firsts, start, end, np.uint8(~lower), np.uint8(~higher), leaf_of)
                end = start
            if end != start:
                continue
            if depth == NONE:
                break
            depth -= ONE
            node, start, end = waiting[depth], starts[depth], ends[depth]
            top = end
        for row in range(size * ROWS_OF_GROUP):
            own[row] += own_values[leaf_of[row]]
