"""`eo-assets preflight`: would the deployments of a project let it run? Asks them, orders nothing, spends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sentinelhub import BatchProcessClient

from eo_assets.definitions import open_project
from eo_assets.errors import EoAssetsError
from eo_assets.project import CollectionReference, LoadedProject
from eo_assets.stages.build import project_store, sentinel_hub
from resources.deployments import probe_delivery
from resources.sentinel_hub import SentinelHub, http_status, service_errors

REQUIRED_UNITS = 1000
"""What an account must hold when a batch request is created: https://docs.planet.com/develop/apis/batch-processing"""
TRIES = 3
NOT_TOLD = "not told by its API"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked of a service; `good` is None where it can't be known beforehand."""

    service: str
    what: str
    good: bool | None
    found: str


def preflight(project: str) -> list[Check]:
    """Every check of every deployment that the project names, those of imagery first."""
    loaded = open_project(project)
    return [check for name in named_services(loaded) for check in service_checks(loaded, name)]


def print_preflight(checks: list[Check], console: Console) -> bool:
    """A table for people; returns whether nothing would stop a run."""
    table = Table("service", "check", "", "found", box=None, pad_edge=False)
    signs = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}
    for check in checks:
        table.add_row(check.service, check.what, signs[check.good], escape(check.found))
    console.print(table)
    return all(check.good is not False for check in checks)


def named_services(loaded: LoadedProject) -> list[str]:
    """The deployments that a project sends requests to, each once."""
    project = loaded.project
    names = [collection.service for collection in project.imagery.collections]
    if isinstance(project.reference.source, CollectionReference):
        names.append(project.reference.source.service)
    return list(dict.fromkeys([*names, project.byoc.service]))


def service_checks(loaded: LoadedProject, name: str, *, writes: bool = True) -> Iterator[Check]:
    """The checks of one deployment. `writes`: a small object is written where deliveries go, and deleted."""
    orders = any(collection.service == name for collection in loaded.project.imagery.collections)
    try:
        service = sentinel_hub(loaded, name)
        # A person waits for this: a service that is down is told soon.
        policy = replace(service.pace.policy, tries=TRIES)
        service = replace(service, own_pace=replace(service.pace, policy=policy))
        life_s = service.token_life_s()
    except EoAssetsError as error:
        yield Check(name, "signs in", False, str(error))
        return
    yield Check(name, "signs in", True, f"the token is good for {life_s / 60:.0f} min")
    if not orders:
        return
    yield _entitled(service)
    yield _balance(service)
    if writes:
        yield _delivery(loaded, service)


def _entitled(service: SentinelHub) -> Check:
    """May this account use Batch? Listing its requests is the question that costs nothing."""
    client = service.api(BatchProcessClient)
    try:
        with service_errors(service.name):
            client.client.get_json_dict(f"{client.service_url}/process?count=1", use_session=True)
    except EoAssetsError as error:
        hint = ": Batch is for enterprise plans, and for Copernicus Service accounts on CDSE" if _refused(error) else ""
        return Check(service.name, "may use Batch", False, f"{error}{hint}")
    return Check(service.name, "may use Batch", True, "it lists the account's batch requests")


def _refused(error: EoAssetsError) -> bool:
    return http_status(error) in (401, 403)


def _balance(service: SentinelHub) -> Check:
    """What is left this month, and whether it is what the service asks for when a batch request is created."""
    if service.local is not None:
        return Check(service.name, "units left", None, "the local service counts units and asks for none")
    needed = f"{REQUIRED_UNITS} {service.unit} have to be left when a batch request is created"
    left = _units_left(service)
    if left is None:
        return Check(service.name, "units left", None, f"{NOT_TOLD}; {needed}")
    return Check(service.name, "units left", left >= REQUIRED_UNITS, f"{left:,.0f} {service.unit}; {needed}")


def _units_left(service: SentinelHub) -> float | None:
    """What CDSE answers at an address that its documentation does not name; None wherever there is no such answer."""
    config = service.config()
    try:
        with service_errors(service.name):
            url = f"{config.sh_base_url.rstrip('/')}/api/v1/accounting/usage"
            said = service.client(config).get_json_dict(url, use_session=True)
        return float(said["processingUnitsMonthly"]["remaining"])
    except (EoAssetsError, KeyError, TypeError, ValueError):
        return None


def _delivery(loaded: LoadedProject, service: SentinelHub) -> Check:
    """Can it be named to the service, and can we write, read and delete there?"""
    folder = loaded.project.folder("tiffs")
    try:
        service.bucket_access(folder)
        probe_delivery(project_store(loaded), folder)
    except EoAssetsError as error:
        return Check(service.name, "delivery", False, str(error))
    kind = service.delivery.kind
    more = "" if kind == "folder" else f"; what its {kind} may do there, only the service can tell, when it delivers"
    return Check(service.name, "delivery", True, f"we can write, read and delete under {folder}{more}")
