"""The demo, announced as any package announces what it adds: nano problems, the simulated worker and teacher, the nano policy."""

from rollout.policies import POLICIES
from workflow.tasks import TASK_SETS
from workflow.worker.providers import PROVIDERS

TASK_SETS.add("nano", "workflow.nano.task_set:NANO")
PROVIDERS.add("simulated", "workflow.nano.simulated.provider:simulated_worker")
POLICIES.add("nano", "rollout.nano.policy:nano_policy")
