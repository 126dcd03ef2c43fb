"""Sampling: a policy becomes a plan, images become a pack, and a stream reads the plan's draws from the pack."""

from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy, TaskPolicy
from samplers.stream.batches import Batch
from samplers.stream.stream import Stream, stream

__all__ = ["Batch", "Pack", "Plan", "Policy", "Stream", "TaskPolicy", "make_pack", "make_plan", "stream"]
