"""The demo, announced as any package announces what it adds: nano problems, the simulated worker and teacher, the nano policy."""

from rollout.policies import POLICIES
from workflow.tasks import TASKS
from workflow.worker.providers import PROVIDERS

TASKS.add("nano", "workflow.nano.problems:nano_tasks")
PROVIDERS.add("simulated", "workflow.nano.simulated.provider:simulated_worker")
POLICIES.add("nano", "rollout.nano.policy:nano_policy")
