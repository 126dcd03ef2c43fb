"""Sampling: a policy becomes a plan, images become a pack, and a stream reads the plan's draws from the pack."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samplers.pack.pack import Pack
    from samplers.pack.pack_writer import make_pack
    from samplers.plan.build import make_plan
    from samplers.plan.plan import Plan
    from samplers.policy.policy import Policy, TaskPolicy
    from samplers.streaming.batches import Batch
    from samplers.streaming.stream import Stream, stream


__all__ = ["Batch", "Pack", "Plan", "Policy", "Stream", "TaskPolicy", "make_pack", "make_plan", "stream"]

_MODULES = {
    "Pack": "samplers.pack.pack",
    "make_pack": "samplers.pack.pack_writer",
    "make_plan": "samplers.plan.build",
    "Plan": "samplers.plan.plan",
    "Policy": "samplers.policy.policy",
    "TaskPolicy": "samplers.policy.policy",
    "Batch": "samplers.streaming.batches",
    "Stream": "samplers.streaming.stream",
    "stream": "samplers.streaming.stream",
}
"""Where each name comes from: it is imported on first use, so that a command loads only what it needs."""


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
