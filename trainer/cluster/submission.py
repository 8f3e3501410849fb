"""Whether this process drives a submitted Ray job, or joins a cluster otherwise. Imports nothing of Ray."""

import json
import os

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray's job supervisor, and by a sweep for its trials."""


def in_submitted_job() -> bool:
    """True below ``ray job submit``: this process runs in a copy of the submitter's working directory, which goes with the job."""
    try:
        config = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
    except ValueError:
        return False
    return "job_submission_id" in (config.get("metadata") or {})


def joins_cluster(address: str | None) -> bool:
    """True where a cluster is joined that may have other machines: a submitted job's, ``cluster.address``, RAY_ADDRESS.

    Args:
        address: ``cluster.address``.
    """
    return in_submitted_job() or bool(address) or ("RAY_ADDRESS" in os.environ and JOB_VARIABLE not in os.environ)
