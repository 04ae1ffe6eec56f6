"""What the documents say of AWS is as true as the logs beside them; and they name commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from eo_assets.cli import main

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/cluster.md", "docs/aws.md")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_never_run_on_aws_until_a_log_is_committed(page: str) -> None:
    passed = [log for log in (ROOT / "docs/aws-runs").glob("????-??-??*.md") if log.read_text().startswith("# Passed")]
    assert ("never run on aws" in (ROOT / page).read_text().lower()) == (not passed), passed


def test_the_page_from_an_account_to_a_map_names_commands_and_options_that_there_are() -> None:
    lines = re.findall(r"^\$ eo-assets (.*)$", (ROOT / "docs/aws.md").read_text(), re.MULTILINE)
    assert len(lines) > 10
    for line in lines:
        words = line.partition("#")[0].partition(">")[0].split()
        command: click.Command = main
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        known = {option for one in command.params for option in one.opts}
        assert {word for word in words if word.startswith("-")} <= known, line
