"""The HTTP surface: what each route does."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resources.local_sentinel_hub import catalog
from resources.local_sentinel_hub.api import ApiError, not_found
from resources.local_sentinel_hub.byoc import public
from resources.local_sentinel_hub.control import CONTROLS
from resources.local_sentinel_hub.endpoint import (
    Call,
    Handler,
    NoAnswer,
    control_endpoint,
    guarded_endpoint,
    open_endpoint,
)
from resources.local_sentinel_hub.paging import page
from resources.local_sentinel_hub.process_request import parse_process_request
from resources.local_sentinel_hub.render import Job, render
from resources.local_sentinel_hub.service import Service
from resources.local_sentinel_hub.settings import HEALTH_PATH, HOST, TOKEN_PATH
from resources.local_sentinel_hub.tokens import LIFETIME_S, basic_credentials

TOKEN_PATHS = (TOKEN_PATH, "/oauth/token")
GRIDS: tuple[dict[str, Any], ...] = tuple(
    {"id": i, "name": name, "properties": {"tileWidth": size, "tileHeight": size, "resolutions": steps, "unit": unit}}
    for i, name, size, steps, unit in (
        (0, "UTM 20km grid", 20040, [10, 20, 30, 60], "METRE"),
        (1, "UTM 10km grid", 10000, [10, 20], "METRE"),
        (2, "UTM 100km grid", 100080, [30, 60, 120, 240, 360], "METRE"),
        (3, "WGS84 1 degree grid", 1, [0.0001, 0.0002], "DEGREE"),
    )
)


def make_app(service: Service, identity: Mapping[str, Any]) -> Starlette:
    """The application. `identity` is what the health page answers: by it a client knows the service as its own."""

    async def token(request: Request) -> Response:
        form = {key: values[0] for key, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
        pair = basic_credentials(request.headers.get("authorization", ""))
        try:
            client = pair or (form.get("client_id", ""), form.get("client_secret", ""))
            lifetime_s = service.faults.now.token_lifetime_s or LIFETIME_S
            return JSONResponse(service.tokens.issue(*client, lifetime_s, service.faults.token_generation))
        except ApiError as error:
            return JSONResponse({"error": error.code, "error_description": error.message}, error.status)

    async def health(request: Request) -> Response:
        service.touch()
        return JSONResponse({**identity, "busy": service.busy})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.resume()
        yield
        await run_in_threadpool(service.close)

    routes = [Route(path, open_endpoint(service, token), methods=["POST"]) for path in TOKEN_PATHS]
    routes.append(Route(HEALTH_PATH, health))
    routes += [Route(path, guarded_endpoint(service, handler), methods=[method]) for method, path, handler in ROUTES]
    if service.faults.allowed:
        controls = ((path, control_endpoint(service, handler), method) for method, path, handler in CONTROLS)
        routes += [Route(path, endpoint, methods=[method]) for path, endpoint, method in controls]
    # A page in a browser on this machine must not reach the service by a host name of its own.
    known_hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    refusals: dict[Any, Any] = {404: _no_route, 405: _no_route}
    app = Starlette(routes=routes, lifespan=lifespan, middleware=[known_hosts], exception_handlers=refusals)
    app.state.connections = ()  # those of the server that runs it; a call that shall get no answer is cut off there
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = (
        f"{request.method} {request.url.path} is not offered by the local Sentinel Hub; see docs/local-sentinel-hub.md"
    )
    return JSONResponse(ApiError(status, "COMMON_NOT_FOUND", message).body(), status)


def _process(service: Service, call: Call) -> Response:
    request = parse_process_request(call.body)
    job = Job(request, request.grid, service.collections(), request.geometry)
    responses = request.output.responses
    with service.renderers, tempfile.TemporaryDirectory(prefix="local-sentinel-hub-") as folder:
        units = render(job, Path(folder), service.limits.of_response)
        call.note["units"] = round(units, 6)
        service.charge(units)
        headers = {"x-processingunits-spent": f"{units:.4f}"}
        if len(responses) == 1 and "tar" not in call.accept:
            content = (Path(folder) / f"{responses[0].identifier}.{responses[0].extension}").read_bytes()
            return Response(content, media_type=responses[0].format.mime_type, headers=headers)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for response in responses:
                name = f"{response.identifier}.{response.extension}"
                tar.add(Path(folder) / name, arcname=name)
    return Response(archive.getvalue(), media_type="application/x-tar", headers=headers)


def _batch_create(service: Service, call: Call) -> Response:
    document = service.batch.create(call.body)
    call.note.update(service.batch.summary(document["id"]))
    if service.faults.loses_answer():
        call.note["fault"] = "lose_create_answer"
        return NoAnswer()
    return JSONResponse(public(document), 201)


def _batch_get(service: Service, call: Call) -> Response:
    identity = call.path["id"]
    document = service.batch.get(identity)
    if service.faults.hides(identity):
        raise not_found(f"Batch request {identity} does not exist")
    return JSONResponse(public(document))


def _batch_list(service: Service, call: Call) -> Response:
    return JSONResponse(page([public(document) for document in service.batch.all()], call.query))


def _batch_describe(service: Service, call: Call) -> Response:
    return JSONResponse(public(service.batch.describe(call.path["id"], call.body)))


def _batch_action(action: str) -> Handler:
    def act(service: Service, call: Call) -> Response:
        service.batch.act(call.path["id"], action)
        return Response(status_code=204)

    return act


def _grid(service: Service, call: Call) -> Response:
    for grid in GRIDS:
        if str(grid["id"]) == call.path["id"]:
            return JSONResponse(grid)
    raise not_found(f"tiling grid {call.path['id']} does not exist here; there are 0, 1, 2, 3")


def _nothing(change: Callable[[Service, Call], None]) -> Handler:
    """A handler that changes something and answers 204."""

    def handle(service: Service, call: Call) -> Response:
        change(service, call)
        return Response(status_code=204)

    return handle


def _data(read: Callable[[Service, Call], Any], status: int = 200) -> Handler:
    """A handler that answers {data: ...}."""
    return lambda service, call: JSONResponse({"data": public(read(service, call))}, status)


def _catalog_collection(service: Service, call: Call) -> Any:
    collection = service.collections().get(call.path["id"])
    if collection is None:
        raise not_found(f"Collection {call.path['id']!r} does not exist")
    return collection


def _catalog_item(service: Service, call: Call) -> Response:
    collection = _catalog_collection(service, call)
    for scene in collection.scenes:
        if scene.id == call.path["item"]:
            return JSONResponse(catalog.feature(collection, scene))
    raise not_found(f"{call.path['item']} does not exist in {collection.type}")


BATCH = "/api/v2/batch"
BYOC = "/api/v1/byoc/collections"
TILES = f"{BYOC}/{{id}}/tiles"
CATALOG = "/api/v1/catalog/1.0.0"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/api/v1/process", _process),
    ("POST", f"{BATCH}/process", _batch_create),
    ("GET", f"{BATCH}/process", _batch_list),
    ("GET", f"{BATCH}/process/{{id}}", _batch_get),
    ("PUT", f"{BATCH}/process/{{id}}", _batch_describe),
    ("POST", f"{BATCH}/process/{{id}}/analyse", _batch_action("analyse")),
    ("POST", f"{BATCH}/process/{{id}}/start", _batch_action("start")),
    ("POST", f"{BATCH}/process/{{id}}/stop", _batch_action("stop")),
    ("GET", f"{BATCH}/tilinggrids", lambda s, c: JSONResponse(page(list(GRIDS), c.query))),
    ("GET", f"{BATCH}/tilinggrids/{{id}}", _grid),
    ("POST", BYOC, _data(lambda s, c: s.byoc.create_collection(c.body), 201)),
    ("GET", BYOC, lambda s, c: JSONResponse(page(s.byoc.collections(c.query.get("search")), c.query))),
    ("GET", f"{BYOC}/{{id}}", _data(lambda s, c: s.byoc.collection(c.path["id"]))),
    ("PUT", f"{BYOC}/{{id}}", _nothing(lambda s, c: s.byoc.update_collection(c.path["id"], c.body))),
    ("DELETE", f"{BYOC}/{{id}}", _nothing(lambda s, c: s.byoc.delete_collection(c.path["id"]))),
    ("POST", TILES, _data(lambda s, c: s.byoc.create_tile(c.path["id"], c.body), 201)),
    ("GET", TILES, lambda s, c: JSONResponse(page(s.byoc.tiles(c.path["id"], c.query.get("path")), c.query))),
    ("GET", f"{TILES}/{{tile}}", _data(lambda s, c: s.byoc.tile(c.path["id"], c.path["tile"]))),
    ("PUT", f"{TILES}/{{tile}}", _nothing(lambda s, c: s.byoc.update_tile(c.path["id"], c.path["tile"], c.body))),
    ("DELETE", f"{TILES}/{{tile}}", _nothing(lambda s, c: s.byoc.delete_tile(c.path["id"], c.path["tile"]))),
    ("POST", f"{TILES}/{{tile}}/reingest", _nothing(lambda s, c: s.byoc.reingest(c.path["id"], c.path["tile"]))),
    (
        "GET",
        f"{CATALOG}/collections",
        lambda s, c: JSONResponse({"collections": [catalog.describe(x) for x in s.collections().values()]}),
    ),
    ("GET", f"{CATALOG}/collections/{{id}}", lambda s, c: JSONResponse(catalog.describe(_catalog_collection(s, c)))),
    ("GET", f"{CATALOG}/collections/{{id}}/items/{{item}}", _catalog_item),
    ("POST", f"{CATALOG}/search", lambda s, c: JSONResponse(catalog.search(s.collections(), c.body))),
)
