"""What a run says and reports of its endpoints."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from launch.report.page import write_report
from tests.run_factory import write_run
from trainer.settings import RunSettings
from trainer.stages import describe
from workflow.settings import WorkerSettings

URL = "https://user:SECRET@x/v1?api-key=SECRET"


def test_a_run_names_its_endpoint_without_the_key():
    system: Any = SimpleNamespace(worker=WorkerSettings(base_url=URL, model="m"), tasks=SimpleNamespace(describe=lambda: "3 problems"))
    said = describe(RunSettings(worker=WorkerSettings(base_url=URL, model="m")), system)
    assert "worker m at https://x/v1 |" in said and "SECRET" not in said


def test_a_report_shows_no_key(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=7, evaluated=False)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["worker"]["base_url"] = URL
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    page = write_report(run).read_text()
    assert "https://x/v1" in page and "SECRET" not in page
