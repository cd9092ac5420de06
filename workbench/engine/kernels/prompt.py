"""The tokens of a prompt through all blocks, as one compiled function over panels of 32 tokens.

A team of threads takes shares of each phase: heads, blocks of 32 rows of a matrix, panels. The rows of a share are
read from the stored weights once, converted to the arithmetic of the product, and multiplied with all panels.
"""

from __future__ import annotations

from typing import Any

from workbench.engine.kernels import SOURCES, compiled, entry_point
from workbench.engine.kernels.memory_access import address
from workbench.engine.kernels.panels import PANEL, TILES
from workbench.engine.kernels.prompt_attention import attend_panel
from workbench.engine.kernels.prompt_heads import PAST_POSITIONS, finish_kept_head, load_values, project_head
from workbench.engine.kernels.prompt_norms import add_update, embed_panel, pack_norm
from workbench.engine.kernels.prompt_products import HALF, activate_rows, project_rows
from workbench.engine.kernels.shares import COUNTERS, shares
from workbench.engine.kernels.simd import GROUP
from workbench.engine.kernels.step_memory import DOWN, GATE, OUTPUT, PROJECTION_NORM, UP
from workbench.engine.kernels.synchronization import partition
from workbench.engine.kernels.tiles import configure_tiles, release_tiles

ENTER, PROJECT, FINISH_KEPT, ATTEND, OUTPUT_OF_ATTENTION, ENTER_MLP, ACTIVATE, OUTPUT_OF_MLP = range(8)
"""Phases of a block. After the last block, `ENTER` adds its last update."""

PHASES = 8


@compiled
def _enter_block(shape, weights, layer, prompt, scratch, thread, counters):
    """Finish the block before, or embed the tokens, and pack the input of attention."""
    for panel in shares(counters, len(scratch.hidden)):
        if layer == 0:
            embed_panel(shape, weights, prompt, panel, scratch, thread)
        else:
            add_update(shape, weights.norms[layer - 1, 3], panel, scratch, thread)
        if layer < shape.layers:
            pack_norm(shape, weights.norms[layer, 0], panel, prompt.arithmetic, scratch, thread)


@compiled
def _project_heads(shape, weights, layer, prompt, scratch, thread, counters):
    """Compute queries, keys and values, and load the values that were cached before."""
    heads, panels = (shape.heads + 2 * shape.kv_heads) * prompt.parts, len(scratch.hidden)
    past = (prompt.past + PAST_POSITIONS - 1) // PAST_POSITIONS * shape.kv_heads
    for share in shares(counters, heads + past):
        if share < heads:
            part = partition(panels, 1, share % prompt.parts, prompt.parts)
            project_head(shape, weights, layer, prompt, share // prompt.parts, part, scratch, thread)
        else:
            first, kv_head = divmod(share - heads, shape.kv_heads)
            load_values(shape, layer, prompt, kv_head, first * PAST_POSITIONS, scratch, thread)


@compiled
def _finish_kept_heads(shape, weights, layer, prompt, scratch, thread, counters):
    """Finish the queries and keys that a norm over all heads has kept."""
    heads, panels = shape.heads + shape.kv_heads, len(scratch.hidden)
    for share in shares(counters, heads * panels):
        finish_kept_head(shape, weights, layer, prompt, share // panels, share % panels, scratch, thread)


@compiled
def _attend(shape, weights, layer, prompt, scratch, thread, counters):
    """Compute attention of all heads and panels, those with the most positions first."""
    panels = len(scratch.hidden)
    for share in shares(counters, shape.heads * panels):
        panel = panels - 1 - share // shape.heads
        attend_panel(shape, weights, layer, prompt, share % shape.heads, panel, scratch, thread)


@compiled
def _project_update(shape, layer, x, columns, prompt, scratch, thread, counters):
    """Compute the output of attention or of the MLP; ``layer`` is a `Matrix.descriptor`."""
    panels, count = len(scratch.hidden), (shape.hidden + PANEL - 1) // PANEL * prompt.parts
    columns = (columns + GROUP - 1) // GROUP * GROUP
    for share in shares(counters, count):
        first, part = share // prompt.parts * PANEL, partition(panels, 1, share % prompt.parts, prompt.parts)
        last = min(first + PANEL, shape.hidden)
        project_rows(layer, x, columns, first, last, part, prompt.arithmetic, scratch, thread)


@compiled
def _enter_mlp(shape, weights, layer, prompt, scratch, thread, counters):
    """Add the output of attention, and pack the input of the MLP; a parallel block's is from before attention."""
    for panel in shares(counters, len(scratch.hidden)):
        if shape.is_parallel:
            pack_norm(shape, weights.norms[layer, 2], panel, prompt.arithmetic, scratch, thread)
        add_update(shape, weights.norms[layer, 1], panel, scratch, thread)
        if not shape.is_parallel:
            pack_norm(shape, weights.norms[layer, 2], panel, prompt.arithmetic, scratch, thread)


@compiled
def _activate(shape, gate, up, prompt, scratch, thread, counters):
    """Compute the input of the MLP's down projection; ``gate`` and ``up`` are like `Matrix.descriptor`."""
    panels, unit = len(scratch.hidden), HALF if shape.is_gated else PANEL
    count = (shape.inner + unit - 1) // unit * prompt.parts
    for share in shares(counters, count):
        first, part = share // prompt.parts * unit, partition(panels, 1, share % prompt.parts, prompt.parts)
        last = min(first + unit, shape.inner)
        activate_rows(shape, gate, up, first, last, part, prompt.arithmetic, scratch, thread)


@compiled
def _run_phase(shape, weights, layer, phase, prompt, scratch, thread, counters):
    """Compute one phase of a block."""
    linears, attended = weights.linears[layer], shape.heads * shape.head_dim
    if phase == PROJECT:
        _project_heads(shape, weights, layer, prompt, scratch, thread, counters)
    elif phase == FINISH_KEPT:
        if shape.qk_norm == PROJECTION_NORM:
            _finish_kept_heads(shape, weights, layer, prompt, scratch, thread, counters)
    elif phase == ATTEND:
        _attend(shape, weights, layer, prompt, scratch, thread, counters)
    elif phase == OUTPUT_OF_ATTENTION:
        _project_update(shape, linears[OUTPUT], scratch.attended, attended, prompt, scratch, thread, counters)
    elif phase == ENTER_MLP:
        _enter_mlp(shape, weights, layer, prompt, scratch, thread, counters)
    elif phase == ACTIVATE:
        _activate(shape, linears[GATE], linears[UP], prompt, scratch, thread, counters)
    else:
        _project_update(shape, linears[DOWN], scratch.active, shape.inner, prompt, scratch, thread, counters)


def _entries(sources: str) -> tuple[Any, Any]:
    @entry_point
    def read_prompt(shape, weights, prompt, scratch, tile_config, counters, first_phase, end_phase, thread, _threads):
        """Append tokens to a sequence; all threads of a team call this with the same arguments but ``thread``.

        Several calls with consecutive phases compute what one call with all of them does.

        Args:
            shape: a `Shape`.
            weights: a `Weights`.
            prompt: a `Prompt`; keys and values of its tokens are written to its cache.
            scratch: a `PromptScratch`; its ``hidden`` is the result.
            tile_config: `TILE_CONFIG`.
            counters: int64 (layers * PHASES + 1, COUNTERS), zeros; each phase has its own.
            first_phase: index of the first phase to compute.
            end_phase: index of the phase to stop before.
        """
        _ = sources
        if prompt.arithmetic == TILES:
            configure_tiles(address(tile_config))
        for index in range(first_phase, end_phase):
            layer, phase = divmod(index, PHASES)
            own = address(counters) + index * 8 * COUNTERS
            if phase == ENTER:
                _enter_block(shape, weights, layer, prompt, scratch, thread, own)
            else:
                _run_phase(shape, weights, layer, phase, prompt, scratch, thread, own)
        if prompt.arithmetic == TILES:
            release_tiles()

    @entry_point
    def pack_inputs(shape, weights, layer, norm, prompt, scratch, counters, thread, _threads):
        """Pack the input of attention or of the MLP again, after the hidden states were changed.

        Args:
            norm: index of the norm in `Weights.norms`.
            counters: int64 (COUNTERS,), zeros.
        """
        _ = sources
        for panel in shares(address(counters), len(scratch.hidden)):
            pack_norm(shape, weights.norms[layer, norm], panel, prompt.arithmetic, scratch, thread)

    return read_prompt, pack_inputs


read_prompt, pack_inputs = _entries(SOURCES)
