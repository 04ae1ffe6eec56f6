"""docs/aws.md, typed line by line by someone who has an account of moto's: what it says is what happens.

Not proved here: what `aws` and `docker` print, and runs, which need machines (`tests/integration/netns` has them).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from eo_assets.cli import main
from resources.bucket_requests import forget_clients
from resources.ec2.cluster_file import cluster_name
from resources.local_sentinel_hub.server import client_of
from tests.moto_server import Moto

from . import aws_cli
from .conftest import made_programs, made_push

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/aws.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE: Mapping[str, str] = {
    "make install": "it is how this test got its environment",
    ". .venv/bin/activate": "the same",
    "aws configure": "asks for a key; moto's is in the environment",
    "aws ecr get-login-password": "goes on to docker, which has no engine here",
    "docker build": "hadolint reads the Dockerfile; no engine here",
    "eo-assets run": "needs machines: tests/integration/netns",
    "eo-assets path": "what that run made",
}
"""Lines that nothing here answers, by how they begin, and why."""


@dataclass(frozen=True)
class Line:
    """A command of the page, and what stands beneath it."""

    command: str
    printed: tuple[str, ...]


def lines() -> Iterator[Line]:
    """The page's commands in order; one that goes on in the next line is one."""
    for _, block in BLOCK.findall(PAGE.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *printed = part.replace("\\\n", " ").splitlines()
            yield Line(command.partition("  #")[0].strip(), tuple(line for line in printed if line.strip()))


def project() -> str:
    """The page's project file."""
    (text,) = (block for language, block in BLOCK.findall(PAGE.read_text()) if language == "yaml")
    return str(text)


@dataclass
class Reader:
    """Somebody at a shell in a checkout: types a line, and is told what it printed, or why it was not typed."""

    moto: Moto
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    variables: dict[str, str] = field(default_factory=dict)

    def typed(self, command: str) -> str:
        table: Mapping[str, Callable[[str], str]] = {
            "export ": lambda line: "",
            "rm ": self.removed,
            "REPOSITORY=": self.assigned,
            "VERSION=": self.assigned,
            "docker push ": self.pushed,
            "eo-assets cluster down ": self.ended,
            "eo-assets ": self.printed,
            "aws cloudformation delete-stack ": self.deleted,
            "aws ": self.asked,
        }
        first = next((beginning for beginning in table if command.startswith(beginning)), None)
        assert first is not None, f"docs/aws.md: $ {command}: nobody answers this line; add it to a table of this test"
        return table[first](command)

    def printed(self, command: str) -> str:
        """`eo-assets ...`, with what it prints in a file if the line says so."""
        words, _, file = command.partition(" > ")
        said = CliRunner(env={"COLUMNS": "100"}).invoke(main, shlex.split(words)[1:])
        assert isinstance(said.exception, SystemExit | None), said.output
        if file:
            (self.folder / file).write_text(said.stdout)
            return ""
        return said.output

    def asked(self, command: str) -> str:
        return aws_cli.answer(self.moto, shlex.split(command)[1:], self.folder)

    def assigned(self, command: str) -> str:
        name, _, inner = command.partition("=$(")
        inner = inner.removesuffix(")")
        self.variables[name] = self.asked(inner) if inner.startswith("aws ") else version("eo-assets")
        return ""

    def pushed(self, command: str) -> str:
        """Where the line pushes to has to be where the cluster pulls from."""
        image = command.removeprefix("docker push ")
        for name, value in self.variables.items():
            image = image.replace(f"${name}", value)
        assert image == f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/eo-assets:{version('eo-assets')}"
        made_push(self.moto)
        return "..."

    def ended(self, command: str) -> str:
        """Two machines are there, as while a run is under way."""
        found = self.moto.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        tags = {"ray-cluster-name": cluster_name("west_africa"), "eo-assets:project": "west_africa"}
        held = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": tags[key]} for key in tags]}]
        self.moto.client("ec2").run_instances(ImageId=found, MinCount=2, MaxCount=2, TagSpecifications=held)
        return self.printed(command)

    def deleted(self, command: str) -> str:
        """AWS empties a repository of `EmptyOnDelete` by itself; moto refuses."""
        template = self.moto.client("cloudformation").get_template(StackName="eo-assets")["TemplateBody"]
        assert template["Resources"]["Repository"]["Properties"]["EmptyOnDelete"]
        ecr = self.moto.client("ecr")
        ecr.batch_delete_image(
            repositoryName="eo-assets", imageIds=ecr.list_images(repositoryName="eo-assets")["imageIds"]
        )
        return self.asked(command)

    def removed(self, command: str) -> str:
        for name in command.split()[1:]:
            (self.folder / name).unlink()
        return ""


@pytest.fixture
def reader(
    moto: Moto, hub: tuple[Path, str], ami: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """In a folder that looks like a checkout, with the page's project after what a reader replaces in it.

    That is their address; here also the services' addresses and the machine image, which moto's parameters lack.
    """
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "eo_assets").symlink_to(ROOT / "eo_assets")
    there = f"base_url: '{hub[1]}', token_url: '{hub[1]}/oauth/token'"
    replaced = {
        "203.0.113.7/32": "198.18.0.1/32",
        "services:\n": f"services:\n  creodias: {{{there}}}\n",
        "sentinel_hub: {": f"sentinel_hub: {{{there}, ",
        "cluster:\n": f"cluster:\n  ami: {ami}\n",
    }
    text = project()
    for what, by in replaced.items():
        assert what in text, what
        text = text.replace(what, by)
    (folder / "my.yaml").write_text(text)
    client = client_of(hub[0])
    for name, value in {
        "SH_CLIENT_ID": client.client_id,
        "SH_CLIENT_SECRET": client.client_secret,
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
        "EO_ASSETS_HOME": str(tmp_path / "kept"),
    }.items():
        monkeypatch.setenv(name, value)
    made_programs(tmp_path, monkeypatch)
    monkeypatch.chdir(folder)
    forget_clients()
    yield Reader(moto, folder, monkeypatch)
    forget_clients()


def test_whoever_types_the_page_sees_what_it_says(reader: Reader) -> None:
    typed = 0
    for line in lines():
        if any(line.command.startswith(beginning) for beginning in ELSEWHERE):
            continue
        said = reader.typed(line.command)
        typed += 1
        if line.printed and not line.command.startswith("aws s3 "):
            wanted = re.escape(_without_spaces("".join(line.printed))).replace(re.escape("..."), ".*")
            assert re.fullmatch(wanted, _without_spaces(said)), f"$ {line.command}\n{said}"
    assert typed > 20
    assert reader.moto.machines() == []
    roles = [role["RoleName"] for role in reader.moto.client("iam").list_roles()["Roles"]]
    assert [name for name in roles if not name.startswith("AWSServiceRole")] == [], "nothing is left"
    assert reader.moto.client("s3").list_buckets()["Buckets"] == []


def _without_spaces(text: str) -> str:
    """A line may have been folded to the terminal's width, in mid-word too."""
    return "".join(text.split())


def test_a_line_that_nobody_answers_fails(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="nobody answers this line; add it to a table"):
        reader.typed("terraform apply")


def test_every_line_that_is_not_typed_is_on_the_page() -> None:
    commands = [line.command for line in lines()]
    assert [beginning for beginning in ELSEWHERE if not any(one.startswith(beginning) for one in commands)] == []
