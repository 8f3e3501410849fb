"""The sweep's report as a page."""

import json
import re
import subprocess
import sys
from pathlib import Path

from launch.report.sweep_page import write_sweep_report
from tests.run_factory import write_run
from tests.sweep_factory import write_sweep


def test_the_page_has_every_part_and_no_outside_asset(tmp_path: Path):
    folder = write_sweep(tmp_path / "sweep")
    write_run(folder / "reward.weights.complexity=0,trainer.seed=1" / "unrelated", steps=1)
    (folder / "reward.weights.complexity=0,trainer.seed=1" / "report.html").touch()
    page = write_sweep_report(folder).read_text()
    for needed in ("What each setting does", "Measures against reward.weights.complexity", "Pareto front", "9 of 10", "&lt;here&gt;"):
        assert needed in page, needed
    assert 'href="reward.weights.complexity=0,trainer.seed=1/report.html"' in page
    assert not re.search(r'(src|href)="(https?:)?//', page) and "<script" not in page


def test_the_effect_of_a_weight_is_signed_from_the_weakest_to_the_strongest(tmp_path: Path):
    page = write_sweep_report(write_sweep(tmp_path / "sweep")).read_text()
    row = page[page.index("What each setting does") :]
    assert "0 to -0.4" in row and re.search(r"<td>-[12]\.\d\d<br>", row)


def test_a_sweep_of_seeds_alone_and_one_of_many_values_have_pages_too(tmp_path: Path):
    seeds = write_sweep(tmp_path / "seeds", weights=(-0.1,))
    manifest = json.loads((seeds / "sweep.json").read_text())
    manifest["trials"] = [row | {"values": {"trainer.seed": row["values"]["trainer.seed"]}} for row in manifest["trials"]]
    (seeds / "sweep.json").write_text(json.dumps(manifest))
    assert "all trials" in write_sweep_report(seeds).read_text()
    many = tuple(-i / 50 for i in range(15))
    assert "Measures against" in write_sweep_report(write_sweep(tmp_path / "many", weights=many, seeds=(1,))).read_text()


def test_the_command_tells_a_sweep_from_a_run(tmp_path: Path):
    folder = write_sweep(tmp_path / "sweep", seeds=(1,))
    for place, title in ((folder, "FlowReasoner sweep sweep"), (folder / "reward.weights.complexity=0,trainer.seed=1", "FlowReasoner run")):
        done = subprocess.run([sys.executable, "-m", "launch.report", str(place)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert title in (place / "report.html").read_text()
