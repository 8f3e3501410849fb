"""report.html: complete, self-contained, legible, and also there for a run that was stopped."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from launch.report.page import write_report
from launch.report.run_data import band, read_run
from launch.report.tables import final_rows, heat_tables, sort_rows
from tests.run_factory import final_rows as made_up_rows
from tests.run_factory import write_run

FIGURES = (
    "Reward over training",
    "Parts of the reward",
    "How episodes ended",
    "Operators that workflows use",
    "Answers that pass each verifier",
    "Calls by difficulty",
    "Calls while training",
    "Reward against calls",
    "Time per step",
    "Learning curves",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(write_run(tmp_path_factory.mktemp("runs") / "seed-0")).read_text()


class Tags(HTMLParser):
    """Collects start tags and unbalanced ends."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_every_figure_is_there(page: str):
    assert [name for name in FIGURES if f'aria-label="{name}"' not in page] == []


def test_a_term_an_operator_and_a_verifier_of_a_users_own_are_shown(page: str):
    assert "-0.03 × politeness" in page and "<th>politeness</th>" in page
    in_a_figure = "</text>\n   </g>"  # a label as matplotlib writes it
    assert f">haggle{in_a_figure}" in page and f">unit{in_a_figure}" in page
    assert f">answer{in_a_figure}" not in page, "an operator that no workflow uses has no line"


def test_an_operator_that_this_process_does_not_know_is_drawn_with_its_code(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=4)
    (run / "episodes.jsonl").write_text((run / "episodes.jsonl").read_text().replace("self.review(", "self.haggle("))
    page = write_report(run).read_text()
    assert ">haggle</text>" in page and "self.haggle(problem, answer)" in page


def test_the_page_is_balanced_html_without_outside_assets(page: str):
    tags = Tags()
    tags.feed(page)
    assert tags.wrong == [] and tags.open == []
    assert [value for name, value in tags.attributes if name in ("src", "href", "xlink:href") and not value.startswith("#")] == []
    assert "<script" not in page and "@import" not in page


def test_ids_of_different_figures_do_not_clash(page: str):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert {name for name in ids if ids.count(name) > 1} <= {"head"}


def test_no_text_of_a_figure_is_below_eleven_pixels(page: str):
    sizes = [float(size) for size in re.findall(r"font: (?:bold )?([\d.]+)px", page)] + [
        float(s) for s in re.findall(r"font-size: ([\d.]+)px", page)
    ]
    assert len(sizes) > 100
    scale = 96 / 72  # matplotlib writes its sizes in the SVG's own units, which are points
    assert min(sizes) * scale >= 11


def test_the_headline_compares_with_the_best_fixed_workflow_and_the_best_per_level(page: str):
    assert "<b>0.768</b>" in page and "<b>+0.102</b>" in page and "<b>+0.004</b>" in page


def test_rows_come_policies_first_then_choices_then_workflows_by_reward():
    names = [row["name"] for row in sort_rows(made_up_rows())]
    assert names[:4] == ["SFT policy", "SFT policy (sampled)", "GRPO policy", "GRPO policy (sampled)"]
    assert names[4:8] == ["best fixed workflow", "best reference per level", "self-consistency at equal cost", "hindsight bound"]
    assert names[8:10] == ["self_refine_3", "test_and_revise_2"]
    assert names[-1] == "debate"


def test_the_final_table_has_every_measure_of_every_row():
    rows = {row.name: row for row in final_rows(made_up_rows())}
    assert len(rows) == len(made_up_rows())
    grpo = rows["GRPO policy"]
    assert (grpo.reward, grpo.reward_ci, grpo.pass_rate, grpo.calls, grpo.cost) == ("0.768", "0.738 to 0.798", "85.3%", "2.51", "0.276")
    assert rows["best fixed workflow"].detail == "self_refine_3"


def test_heat_tables_have_a_cell_per_level_also_with_and_without_examples():
    tables = heat_tables(made_up_rows())
    assert [table.queries for table in tables] == ["All queries", "Queries with examples", "Queries without examples"]
    assert all(len(cells) == 6 for table in tables for row in table.rows for cells in row.groups)


def test_a_level_without_queries_is_a_dash():
    row = made_up_rows()[0]
    row["by_level"]["3"]["with_examples"] = {"problems": 0}
    assert heat_tables([row])[1].rows[0].groups[0][2].text == "-"


def test_workflows_are_drawn_for_each_kind_of_query(page: str):
    for kind in ("Easy", "Medium", "Hard"):
        assert f"{kind} queries with examples" in page and f"{kind} queries without examples" in page
    assert page.count('class="flow"') == 6


def test_code_of_the_policy_is_escaped(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=4)
    rows = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    for row in rows:
        row["text"] = "<script>alert(1)</script>\n" + row["text"]
    (run / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(run).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_run_stopped_before_its_evaluation_has_a_report_that_says_so(tmp_path: Path):
    page = write_report(write_run(tmp_path / "run", steps=7, evaluated=False)).read_text()
    assert "no final table yet" in page and 'aria-label="Reward over training"' in page
    assert 'aria-label="Calls by difficulty"' not in page


def test_a_run_stopped_at_its_start_has_a_report(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=0, evaluated=False)
    for name in ("metrics.jsonl", "episodes.jsonl", "traces.jsonl"):
        (run / name).unlink()
    assert "no final table yet" in write_report(run).read_text()


def test_one_step_is_enough_for_every_figure_of_training(tmp_path: Path):
    assert 'aria-label="How episodes ended"' in write_report(write_run(tmp_path / "run", steps=1, evaluated=False)).read_text()


def test_tasks_without_levels_have_a_report(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=4)
    rows = [json.loads(line) | {"level": None} for line in (run / "episodes.jsonl").read_text().splitlines()]
    (run / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = json.loads((run / "results.json").read_text())
    results["rows"] = [row | {"by_level": {}} for row in results["rows"]]
    (run / "results.json").write_text(json.dumps(results))
    page = write_report(run).read_text()
    assert "Queries with examples" in page and "By difficulty" not in page


def test_the_examples_are_held_out_episodes_where_the_run_has_them(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=2)
    rows = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    assert "among its training episodes from step 2 on" in write_report(run).read_text()
    held_out = [row | {"row": name} for row, name in zip(rows, ["GRPO policy", "SFT policy"] * len(rows), strict=False)]
    (run / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))
    assert "among its episodes on held-out queries" in write_report(run).read_text()
    seen = [shape.seen for shapes in read_run(run).shapes.values() for shape in shapes]
    assert sum(seen) == sum(row["row"] == "GRPO policy" for row in held_out)


def test_benchmarks_differences_and_choices_are_shown(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=2)
    results = json.loads((run / "results.json").read_text())
    for row in results["rows"]:
        row["by_benchmark"] = {"humaneval": {"solved": 0.5}, "mbpp": {}}
    results["rows"][1]["pass_at_k"] = {"1": 0.71, "2": 0.8}
    (run / "results.json").write_text(json.dumps(results))
    page = write_report(run).read_text()
    assert "Minus best fixed workflow, query by query" in page and "+0.102 (+0.062 to +0.142; p 0.0012)" in page
    assert "Solved by all tests, by benchmark" in page and "<td>50.0%</td><td>-</td><td>84.3%</td>" in page
    assert "SFT policy (sampled): pass@1 71.0%, pass@2 80.0%." in page
    assert "chosen on 1200 validation queries, 12400 runs in all (its reward there minus here: +0.011)" in page
    assert "2 samples, for the dollars of GRPO policy" in page


def test_a_half_written_last_row_is_left_out(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=3)
    with (run / "metrics.jsonl").open("a") as out:
        out.write('{"stage": "grpo", "st')
    assert len(read_run(run).grpo) == 3


def test_levels_fall_into_thirds():
    assert [band(level, [1, 2, 3, 4, 5, 6]) for level in range(1, 7)] == ["easy", "easy", "medium", "medium", "hard", "hard"]
    assert band(None, []) == "all"


def test_the_command_writes_the_report_and_refuses_another_folder_in_one_sentence(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=2, evaluated=False)
    done = subprocess.run([sys.executable, "-m", "launch.report", str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and (run / "report.html").exists()
    (other := tmp_path / "other").mkdir()
    refused = subprocess.run([sys.executable, "-m", "launch.report", str(other)], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and "is not a run folder" in refused.stderr and refused.stderr.count("\n") == 1


def test_the_report_lists_the_alarms(tmp_path: Path):
    run = write_run(tmp_path / "run")
    (run / "alarms.jsonl").write_text(json.dumps({"step": 4, "text": "ALARM drift: actor/kl is 2 over 5 steps."}) + "\n")
    assert "Step 5: ALARM drift" in write_report(run).read_text()
