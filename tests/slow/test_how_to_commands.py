"""The commands of docs/how-to do what the pages say of them."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_how_to import PACKAGE, PAGES, ROOT

COMPOSE_EACH = """
import json, os, sys
from launch.compose import compose_settings
compose_settings()
for overrides in json.load(sys.stdin):
    sys.stdout.flush()
    if os.fork():  # what one command imports, the next one has not
        os.wait()
        continue
    try:
        compose_settings(overrides)
        print(json.dumps(""))
    except ValueError as error:
        print(json.dumps(f"error: {error}"))
    sys.stdout.flush()
    os._exit(0)
"""


def commands(page: Path) -> list[tuple[list[str], str]]:
    """The overrides of each command of a page, with what it prints."""
    blocks = re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    parts = [part.partition("\n") for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(shlex.split(line.removeprefix("python -m launch.train ")), said.strip()) for line, _, said in parts]


@pytest.mark.timeout(600)
def test_the_commands_of_each_page_are_accepted_or_refused_with_its_sentence():
    given = [command for page in PAGES for command in commands(page)]
    assert [page for page in PAGES if {bool(said) for _, said in commands(page)} != {True, False}] == []
    done = subprocess.run(
        [sys.executable, "-c", COMPOSE_EACH],
        cwd=ROOT,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"},
        input=json.dumps([overrides for overrides, _ in given]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('"')]
    for (overrides, said), answer in zip(given, found, strict=True):
        assert re.fullmatch(re.escape(said).replace(r"\.\.\.", ".*"), answer, re.DOTALL), (overrides, answer)
