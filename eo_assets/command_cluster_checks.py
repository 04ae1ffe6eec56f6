"""What could only fail on a cluster's head, found here before a machine is started: minutes and cents earlier."""

from __future__ import annotations

from eo_assets.assets.area import project_grid
from eo_assets.assets.area_files import find_area
from eo_assets.cluster import service_secrets
from eo_assets.command_preflight import named_services
from eo_assets.errors import ClusterError
from eo_assets.project import LoadedProject, service_named
from jobs.graph import choose_tiles
from jobs.launches import Request

ASKING = frozenset({"tiffs", "reference", "byoc_collection"})
"""The assets that send requests to a service."""


def require_beginnable(loaded: LoadedProject, request: Request) -> None:
    """Refuse a run without its services' credentials, without an area, or of tiles that are none.

    Raises:
        ClusterError: credentials are not in this environment.
        ProjectError: there is no area, or it has no such tile.
    """
    if not request.only or ASKING & set(request.only):
        _require_credentials(loaded)
    area = find_area(loaded).area
    if request.tiles or request.rebuy:
        tiles = project_grid(loaded).tiles(area.geometry)
        choose_tiles(tiles, request.tiles)
        choose_tiles(tiles, [name for name in request.rebuy if name != "all"], "--rebuy")


def _require_credentials(loaded: LoadedProject) -> None:
    held = service_secrets(loaded)
    for name in named_services(loaded):
        service = service_named(loaded.project.services, name)
        wanted = [f"{service.credentials}{part}" for part in ("CLIENT_ID", "CLIENT_SECRET")]
        if service.base_url is not None and not set(wanted) <= set(held):
            raise ClusterError(
                f"{loaded.file}: service {name}: {' and '.join(wanted)} are not in this environment, from which the "
                f"cluster's machines have them; export both. No machine was started"
            )
