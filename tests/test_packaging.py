"""What a package index shows of the package."""

import configparser
import pathlib
import re

from l3net import cli

ROOT = pathlib.Path(__file__).parents[1]


def metadata() -> configparser.SectionProxy:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["metadata"]


def test_links_in_the_metadata_work_from_anywhere():
    description = ROOT / metadata()["long_description"].removeprefix("file: ")
    links = re.findall(r"\]\(([^)]+)\)", description.read_text())
    links += [line.partition("= ")[2] for line in metadata()["project_urls"].strip().splitlines()]
    assert len(links) >= 4 and all(link.startswith("https://") for link in links)


def test_the_description_names_commands_that_there_are():
    description = (ROOT / metadata()["long_description"].removeprefix("file: ")).read_text()
    named = set(re.findall(r"`l3net\s+(\w+)`", description))
    assert len(named) >= 5 and named <= set(cli.commands())
