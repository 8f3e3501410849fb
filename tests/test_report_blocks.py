"""From a workflow's source to the flow chart."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.report.blocks import Branch, Call, End, Loop, workflow_blocks
from launch.report.graph import workflow_svg
from tests.run_factory import ENSEMBLE, REVIEW_LOOP, SINGLE, TEST_LOOP

REFERENCES = sorted((Path(__file__).parent.parent / "workflow" / "reference").glob("[!_]*.py"))


def workflow(body: str) -> str:
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return f"class Workflow:\n    async def __call__(self, problem):\n{lines}"


def test_a_loop_with_a_way_out_runs_up_to_its_count():
    draft, loop, end = workflow_blocks(TEST_LOOP.format(rounds=2))
    assert draft == Call("generate", "") and end == End("return", "return answer")
    assert isinstance(loop, Loop) and loop.label == "up to 2 times"
    assert loop.body == (Call("test", ""), Branch("report.passed", (End("break", "leave the loop"),), ()), Call("revise", ""))


def test_a_loop_without_a_way_out_runs_its_count():
    (loop,) = workflow_blocks(workflow("for _ in range(1):\n    x = await self.generate(problem)"))
    assert isinstance(loop, Loop) and loop.label == "1 time"


def test_calls_side_by_side_are_one_node_with_a_count():
    assert workflow_blocks(ENSEMBLE)[0] == Call("generate", "×3")
    pair = workflow("a, b = await asyncio.gather(self.generate(problem), self.generate(problem, 'x'))")
    assert workflow_blocks(pair) == (Call("generate", "×2"),)
    assert workflow_blocks(workflow("xs = [await self.generate(p) for p in parts]")) == (Call("generate", "×n"),)


def test_arguments_come_before_the_call_that_takes_them():
    nested = workflow("return await self.revise(problem, await self.generate(problem), 'x')")
    assert workflow_blocks(nested) == (Call("generate", ""), Call("revise", ""), End("return", "return"))


def test_a_call_inside_a_condition_is_a_node_before_the_decision():
    asked, branch = workflow_blocks(workflow("if (await self.test(problem, x)).passed:\n    return x"))
    assert asked == Call("test", "") and branch == Branch("test.passed", (End("return", "return x"),), ())


def test_what_is_no_workflow_has_no_chart():
    assert workflow_svg("def broken(") == workflow_svg("x = 1") == ""


@pytest.mark.parametrize("source", [TEST_LOOP.format(rounds=3), REVIEW_LOOP.format(rounds=1), SINGLE, ENSEMBLE])
def test_the_chart_is_well_formed_and_inside_its_frame(source: str):
    root = ElementTree.fromstring(workflow_svg(source))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = root.findall("{http://www.w3.org/2000/svg}rect")
    assert boxes
    for box in boxes:
        x, y, w, h = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height


@pytest.mark.parametrize("file", REFERENCES, ids=lambda file: file.stem)
def test_every_reference_workflow_can_be_drawn(file: Path):
    ElementTree.fromstring(workflow_svg(file.read_text()))


STATEMENTS = st.recursive(
    st.sampled_from(["x = await self.generate(problem)", "x = await self.custom(x, 'a < b & c')", "return x", "y = 1"]),
    lambda inner: st.tuples(
        st.sampled_from(["for _ in range(2):", "if x:", "while x:", "if not x.passed:"]), st.lists(inner, min_size=1, max_size=3)
    ).map(lambda block: block[0] + "\n" + "\n".join(f"    {line}" for part in block[1] for line in part.splitlines())),
    max_leaves=8,
)


@given(st.lists(STATEMENTS, min_size=1, max_size=4))
def test_any_nesting_gives_a_well_formed_chart(statements: list[str]):
    chart = workflow_svg(workflow("\n".join(statements)))
    if chart:
        ElementTree.fromstring(chart)
