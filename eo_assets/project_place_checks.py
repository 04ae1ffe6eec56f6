"""Checks of places: folders that stay inside the project folder and apart from each other, files, services."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from eo_assets.project import (
    SERVICES,
    Area,
    Byoc,
    CollectionReference,
    CustomGridSettings,
    Folders,
    Imagery,
    Model,
    Reference,
    S3Settings,
    Service,
    Storage,
    service_named,
)
from eo_assets.project_problems import MISSING, UNSAID, Finding, KeyPath, did_you_mean, listed
from eo_assets.project_request_checks import reference_collections

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_structure(storage: Storage, year: int) -> Iterator[Finding]:
    """Each stage has a folder of its own inside the project folder."""
    folders: dict[str, PurePosixPath] = {}
    for stage in Folders.model_fields:
        key, template = ("storage", "structure", stage), getattr(storage.structure, stage)
        faults = [*_check_placeholders(key, template), *_check_inside(key, template, "the project folder")]
        yield from faults
        if not faults:
            folders[stage] = PurePosixPath(template.replace("{year}", str(year)))
    yield from _check_apart(storage.structure, folders)


def check_project_folder(storage: Storage) -> Iterator[Finding]:
    """A local folder, or an S3 address with a bucket."""
    key, folder = ("storage", "project_folder"), storage.project_folder
    scheme, separator, rest = folder.partition("://")
    if separator and scheme != "s3":
        yield Finding(key, folder, f"no storage of kind {scheme}", "use a local folder or s3://bucket/prefix")
    elif separator and not re.match(r"[a-z0-9][a-z0-9.-]+(/|$)", rest):
        yield Finding(key, folder, "not the name of a bucket", "write s3://bucket/prefix, the bucket in lower case")
    elif separator and any(part in ("", ".", "..") for part in rest.rstrip("/").split("/")):
        yield Finding(key, folder, "an empty or dotted part of the prefix", "write s3://bucket/prefix with plain names")
    elif not separator and storage.s3 != S3Settings():
        what = "a local folder, which needs no storage.s3"
        yield Finding(key, folder, what, "take storage.s3 out, or name s3://bucket/prefix")


def check_files(area: Area, reference: Reference, model: Model) -> Iterator[Finding]:
    """Files that a project names lie in its own folders, so that the project folder can move as a whole."""
    yield from _check_inside(("area", "files"), area.files, "input-data")
    if isinstance(area.grid, CustomGridSettings):
        yield from _check_inside(("area", "grid", "file"), area.grid.file, "input-data")
    if not isinstance(reference.source, CollectionReference):
        yield from _check_inside(("reference", "source", "file"), reference.source.file, "input-data")
    if isinstance(model.source, str) and not model.trained_here:
        yield from _check_inside(("model", "source"), model.source, "the project folder")


def check_services(services: Mapping[str, Service]) -> Iterator[Finding]:
    """A remote service has two addresses, a local one a collections file; each has its own ways of delivery."""
    for name in services:
        key, service = ("services", name), service_named(services, name)
        # A known deployment's token must not go to another host because one of its two addresses was replaced.
        if name in SERVICES and ("base_url" in services[name].model_fields_set) != (
            "token_url" in services[name].model_fields_set
        ):
            missing = "token_url" if "base_url" in services[name].model_fields_set else "base_url"
            yield Finding((*key, missing), MISSING, "one of a known service's two addresses", "give both, or neither")
            continue
        if service.base_url is None:
            yield from _check_local(key, service)
        else:
            yield from _check_remote(key, service)


def check_named_services(
    services: Mapping[str, Service], imagery: Imagery, reference: Reference, byoc: Byoc
) -> Iterator[Finding]:
    """Nothing is sent to a service that is neither known nor declared in the project file."""
    named: list[tuple[KeyPath, str]] = [
        (("imagery", "collections", index, "service"), collection.service)
        for index, collection in enumerate(imagery.collections)
    ]
    if isinstance(reference.source, CollectionReference):
        asked = reference_collections(reference.source)
        named += [((*key, "service"), collection.service) for key, collection in asked]
    named.append((("byoc", "service"), byoc.service))
    known = sorted({*services, *SERVICES})
    for key, name in named:
        if name not in known:
            remedy = f"{did_you_mean(name, known)}use one of {listed(known)}, or declare it under services"
            yield Finding(key, name, "no such service", remedy)


def _check_placeholders(key: KeyPath, template: str) -> Iterator[Finding]:
    others = [word for word in re.findall(r"\{[^}]*\}?|\}", template) if word != "{year}"]
    if others:
        yield Finding(key, template, f"{others[0]} is no placeholder", "{year} is the only one")


def _check_inside(key: KeyPath, path: str, folder: str) -> Iterator[Finding]:
    """A relative path with forward slashes that never climbs out, and hides nothing."""
    parts = path.split("/")
    if "://" in path or "\\" in path or path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path) or ".." in parts:
        yield Finding(key, path, f"leads out of {folder}", f"write a path relative to {folder}, with / and without ..")
    elif not path.strip("./") or any(part.startswith(".") for part in parts if part != "."):
        yield Finding(key, path, "empty or hidden", f"name a place in {folder} that does not start with a dot")


def _check_apart(structure: Folders, folders: Mapping[str, PurePosixPath]) -> Iterator[Finding]:
    stages = list(folders)
    for index, stage in enumerate(stages):
        for other in stages[:index]:
            mine, theirs = folders[stage], folders[other]
            key, written = ("storage", "structure", stage), getattr(structure, stage)
            if mine == theirs:
                yield Finding(key, written, f"also the folder of {other}", "give every stage a folder of its own")
            elif mine in theirs.parents or theirs in mine.parents:
                inside = "around" if mine in theirs.parents else "inside"
                what = f"lies {inside} the folder of {other}, {theirs}"
                yield Finding(key, written, what, "put the two side by side")


def _check_local(key: KeyPath, service: Service) -> Iterator[Finding]:
    if service.token_url is not None:
        yield Finding((*key, "base_url"), MISSING, "a token_url without a base_url", "give both, or neither")
    elif service.collections is None:
        remedy = (
            f"{did_you_mean(str(key[-1]), sorted(SERVICES))}give base_url and token_url of a remote service, or the "
            "collections file of a local one"
        )
        yield Finding((*key, "collections"), MISSING, "neither a remote nor a local service", remedy)
    else:
        yield from _check_inside((*key, "collections"), service.collections, "the project folder")
    if service.delivery not in (None, "folder"):
        yield Finding((*key, "delivery"), service.delivery, "a local service delivers to its folder", "remove it")


def _check_remote(key: KeyPath, service: Service) -> Iterator[Finding]:
    if service.collections is not None:
        remedy = "remove it, or remove base_url and token_url"
        yield Finding((*key, "collections"), service.collections, "only a local service has collections", remedy)
    if service.token_url is None:
        yield Finding((*key, "token_url"), MISSING, "a base_url without a token_url", "add the address of its tokens")
    for name in ("base_url", "token_url"):
        if (url := getattr(service, name)) is not None:
            yield from _check_url((*key, name), url)
    if service.delivery == "folder":
        yield Finding((*key, "delivery"), "folder", "only a local service delivers to a folder", "use role or keys")
    elif service.iam_role_arn is not None and service.delivery == "keys":
        remedy = "set delivery: role, or remove it"
        yield Finding((*key, "iam_role_arn"), service.iam_role_arn, "a role where delivery is not by role", remedy)


def _check_url(key: KeyPath, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.username or parts.password:
        yield Finding(key, UNSAID, "holds credentials", "remove them: credentials come from the environment")
    elif parts.scheme not in ("http", "https") or not parts.hostname:
        yield Finding(key, url, "not an address", "write https://host")
    elif parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        yield Finding(key, url, "would send credentials in clear text", "use https")
