"""What is drawn: a policy becomes a plan, images become packs, and both become one weighted stream."""

from samplers.batches import Batch
from samplers.pack import Pack, make_pack
from samplers.plan import Plan
from samplers.planning import make_plan
from samplers.policy import Policy, TaskPolicy
from samplers.stream import Stream, stream

__all__ = ["Batch", "Pack", "Plan", "Policy", "Stream", "TaskPolicy", "make_pack", "make_plan", "stream"]
