"""The pages of docs/how-to: their code is that of the package that tests install."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tests" / "plugin" / "flowreasoner_extras"
PAGES = sorted(path for path in (ROOT / "docs" / "how-to").glob("*.md") if path.name != "README.md")
PARTS = ["When you want it", "The code", "The command", "When it is wrong", "Where it shows"]
SHOWN = re.compile(r"^`tests/plugin/flowreasoner_extras/([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts_in_order_and_the_whole_code_to_the_byte(page: Path):
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    shown = SHOWN.findall(text)
    assert shown and [name for name, code in shown if (PACKAGE / name).read_text() != code] == []


def test_every_file_of_the_package_has_a_page_and_every_page_stands_in_the_table():
    shown = {name for page in PAGES for name, _ in SHOWN.findall(page.read_text())}
    assert shown == {path.name for path in PACKAGE.iterdir() if path.is_file()} - {"__init__.py"}
    table = (ROOT / "docs" / "how-to" / "README.md").read_text()
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", table)) == {page.name for page in PAGES}
    assert [link for link in re.findall(r"\]\((\.\./[^)]+)\)", table) if not (ROOT / "docs" / "how-to" / link).exists()] == []
