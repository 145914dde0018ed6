"""The rollout: a cell applied for a number of steps, as a pure function of state and memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cellgraph.cone import LightCone
from cellgraph.nn import Cell, Surface
from cellgraph.nn.memory import memory_of, with_memory
from cellgraph.numbers import integer


@dataclass
class Rollout:
    """What a rollout returns.

    Attributes:
        x: Final state, ``[batch, num_nodes, channels]``, its last channels the memory.
        memory: The memory to pass to the next call, ``[batch, num_nodes, memory_channels]``; ``None`` where the cell
            has none. It carries the graph of this call: ``detach`` it between updates.
        num_steps: Steps taken.
        trajectory: States before the first step and after each, ``[num_steps + 1, batch, num_nodes, channels]``, when
            asked for.
    """

    x: Tensor
    memory: Tensor | None
    num_steps: int
    trajectory: Tensor | None = None


def rollout(
    cell: Cell,
    x: Tensor,
    memory: Tensor | None = None,
    *,
    num_steps: int,
    context: Tensor | None = None,
    clamped: Surface | None = None,
    remat_every: int = 0,
    tolerance: float = 0.0,
    trajectory: bool = False,
    generator: torch.Generator | None = None,
    cone: LightCone | None = None,
    lent: Tensor | None = None,
) -> Rollout:
    """Apply a cell ``num_steps`` times.

    Nothing is kept between calls and nothing is written in place: what the caller wants to outlive the call goes in
    and comes out as ``memory``. Random update masks are drawn before the steps, so a checkpointed chunk that runs
    again sees the same ones.

    Args:
        cell: The cell, called as ``cell(x, update_mask, context)``.
        x: State at the start, ``[batch, num_nodes, channels]``; where the cell has memory channels, what ``x`` holds in
            them is ignored.
        memory: Memory of the call before, ``[batch, num_nodes, memory_channels]``; zero when absent.
        num_steps: Number of steps.
        context: What the cells are given at every step beside their state, see :meth:`Cell.forward
            <cellgraph.nn.Cell.forward>`.
        clamped: A surface whose cells are set back to their values in ``x`` after each step.
        remat_every: Keep for backward the state at every so many steps only and run the steps between again
            (Chen et al. 2016, `arXiv 1604.06174 <https://arxiv.org/abs/1604.06174>`_); 0 keeps everything.
        tolerance: Without gradients, stop once no value changes by more than this in a step: a fixed point. Where
            cells update at random it is not looked for.
            0 never stops early.
        trajectory: Also return the states of all steps.
        generator: Source of the random update masks.
        cone: Compute the cells that can reach its target and no others. Then ``x`` is the state of its first own cells,
            ``[batch, len(cone.own[0]), channels]``, and what is returned that of its target cells, in node order.
        lent: With a cone, the state of its first lent cells, ``[len(cone.lent[0]), channels]``; zero when absent.

    Raises:
        ValueError: If ``num_steps`` or ``remat_every`` is negative, the memory or the context does not fit the cell, or
            the cone does not fit the rest.
    """
    if not torch.compiler.is_compiling():
        num_steps, remat_every = integer("num_steps", num_steps), integer("remat_every", remat_every)
        # Ways to take several steps at once do not ask for it.
        cell.check_context(x, context)
    if num_steps < 0 or remat_every < 0:
        raise ValueError(f"num_steps and remat_every must not be negative, got {num_steps} and {remat_every}")
    if cone is not None:
        looks_at_all = trajectory or tolerance > 0 or memory is not None
        _check_cone(cell, cone, x, num_steps, context, clamped, looks_at_all=looks_at_all)
        if num_steps:
            cell.settle(x, cone=cone, context=context is not None)
        return _rollout_in(cone, cell, x, lent, context, clamped, remat_every, generator)
    if lent is not None:
        raise ValueError(f"lent cells are a cone's, got {list(lent.shape)} without one")
    x = _remembering(cell, x, memory)
    injected = x if clamped is not None else None
    masks = _update_masks(cell, x, x.size(1), num_steps, generator)
    chunk = remat_every if remat_every and torch.is_grad_enabled() else 1
    states = [x]
    # Where cells draw whether they update, a step that changes nothing says nothing.
    stops_early = tolerance > 0 and not torch.is_grad_enabled() and masks is None
    done = 0
    if num_steps:
        cell.settle(x, context=context is not None)
    whole = clamped is None and context is None and not trajectory and not stops_early
    if num_steps and whole and cell.fuses(x):
        x, _ = cell.walk(x, masks, num_steps=num_steps, remat_every=remat_every)
        done = num_steps
    while done < num_steps:
        steps = min(chunk, num_steps - done)
        part = None if masks is None else masks[done : done + steps]
        before = x
        if remat_every and torch.is_grad_enabled() and not trajectory:
            # Masks are drawn above, so there is no random state for the checkpoint to keep.
            walked = (cell, x, steps, part, context, clamped, injected)
            x = checkpoint(_walk, *walked, use_reentrant=False, preserve_rng_state=False)
        else:
            x = _walk(cell, x, steps, part, context, clamped, injected, states if trajectory else None)
        done += steps
        if stops_early and bool(((x - before).abs() <= tolerance).all()):
            break
    return Rollout(
        x=x,
        memory=memory_of(x, cell.memory_channels),
        num_steps=done,
        trajectory=torch.stack(states) if trajectory else None,
    )


def _walk(
    cell: Cell,
    x: Tensor,
    steps: int,
    masks: Tensor | None,
    context: Tensor | None,
    clamped: Surface | None,
    injected: Tensor | None,
    states: list[Tensor] | None = None,
) -> Tensor:
    for step in range(steps):
        x = cell(x, None if masks is None else masks[step], context)
        if clamped is not None and injected is not None:
            x = clamped.clamp(x, injected)
        if states is not None:
            states.append(x)
    return x


def _rollout_in(
    cone: LightCone,
    cell: Cell,
    x: Tensor,
    lent: Tensor | None,
    context: Tensor | None,
    clamped: Surface | None,
    remat_every: int,
    generator: torch.Generator | None,
) -> Rollout:
    num_steps = cone.num_steps
    wanted = [len(cone.lent[0]), x.size(-1)]
    lent = x.new_zeros(wanted) if lent is None else lent
    if list(lent.shape) != wanted:
        raise ValueError(f"lent must be {wanted} with this cone, got {list(lent.shape)}")
    masks = _update_masks(cell, x, cone.graph.num_nodes, num_steps, generator)
    if num_steps and clamped is None and context is None and cell.fuses(x):
        own, others = cell.walk(x, masks, num_steps=num_steps, remat_every=remat_every, cone=cone, lent=lent)
        others = others[None]
    else:
        own, others = x, lent[None]
        chunk = remat_every if remat_every and torch.is_grad_enabled() else num_steps
        injected = x if clamped is not None else None
        for first in range(0, num_steps, chunk or 1):
            steps = range(first, min(first + chunk, num_steps))
            walked = (cone, cell, own, others, steps, masks, context, clamped, injected)
            if chunk < num_steps:
                own, others = checkpoint(_walk_in, *walked, use_reentrant=False, preserve_rng_state=False)
            else:
                own, others = _walk_in(*walked)
    last = torch.cat([own, others.expand(x.size(0), -1, -1)], dim=1) if others.size(1) else own
    return Rollout(x=last.index_select(1, cone.order.to(x.device)), memory=None, num_steps=num_steps)


def _walk_in(
    cone: LightCone,
    cell: Cell,
    own: Tensor,
    lent: Tensor,
    steps: range,
    masks: Tensor | None,
    context: Tensor | None,
    clamped: Surface | None,
    injected: Tensor | None,
) -> tuple[Tensor, Tensor]:
    for step in steps:
        tables = cone.steps_on(own.device)[step]
        own, lent = cell.step_in_cone(own, lent, tables, None if masks is None else masks[step], context)
        if clamped is not None and injected is not None:
            # The clamped cells are the first own ones, as far as they are still heard.
            place = torch.full((cone.graph.num_nodes,), -1, device=own.device)
            place[cone.own[0].to(own.device)] = torch.arange(injected.size(1), device=own.device)
            found = place[tables[0].target]
            among = (found >= 0) & clamped.mask.to(own.device)[tables[0].target]
            theirs = among[:, None] & (torch.arange(own.size(-1), device=own.device) < clamped.channels)
            own = torch.where(theirs, injected.index_select(1, found.clamp(min=0)), own)
    return own, lent


def _check_cone(
    cell: Cell,
    cone: LightCone,
    x: Tensor,
    num_steps: int,
    context: Tensor | None,
    clamped: Surface | None,
    *,
    looks_at_all: bool,
) -> None:
    if looks_at_all or cell.memory_channels:
        raise ValueError("a cone leaves cells out: memory, a trajectory or a fixed point needs the full rollout")
    if not cell.fits_cone:
        raise ValueError(f"{type(cell).__name__} cannot compute some of its cells alone: it needs the full rollout")
    if num_steps != cone.num_steps:
        raise ValueError(f"num_steps must be the cone's {cone.num_steps}, got {num_steps}")
    if x.dim() != 3 or x.size(1) != len(cone.own[0]):
        raise ValueError(f"x must be [batch, {len(cone.own[0])}, channels] with this cone, got {list(x.shape)}")
    if cone.source is None:
        return
    if cell.updates_at_random or (context is not None and context.size(0) > 1):
        raise ValueError(
            "random updates, or a context for each sample, make all cells differ: use a cone without source"
        )
    if clamped is not None and bool((clamped.mask & ~cone.source).any()):
        raise ValueError("the cells of a clamped surface differ by sample: they must be sources of the cone")


def _remembering(cell: Cell, x: Tensor, memory: Tensor | None) -> Tensor:
    wanted = [x.size(0), x.size(1), cell.memory_channels]
    if memory is None:
        memory = x.new_zeros(wanted)
    elif list(memory.shape) != wanted:
        raise ValueError(f"memory must be {wanted}, got {list(memory.shape)}")
    return with_memory(x, memory) if cell.memory_channels else x


def _update_masks(
    cell: Cell, x: Tensor, num_nodes: int, num_steps: int, generator: torch.Generator | None
) -> Tensor | None:
    return cell.dynamics.draw(x, num_nodes, num_steps, generator) if cell.updates_at_random else None
