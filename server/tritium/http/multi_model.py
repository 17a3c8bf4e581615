"""SageMaker's multi-model endpoints: models that come and go by their URL on the container's disk.

    POST   /models                 {"model_name", "url"}: load what lies under /opt/ml/models/<hash>/model
    GET    /models                 those that are loaded
    GET    /models/{name}          one of them
    POST   /models/{name}/invoke   infer
    DELETE /models/{name}          unload

A model is known by the name that SageMaker gives it, and loaded as X-Amzn-SageMaker-Target-Model says, or else under
that name. Source: server/src/sagemaker_server.cc, 2.73.
"""

import asyncio
import os
import re
from pathlib import Path

import structlog

from tritium.compat.restrictions import Api
from tritium.compat.v2 import json_text
from tritium.compat.v2.refusal import Refusal, not_a, unparsable
from tritium.core.catalog import LoadParameters, Repositories
from tritium.core.errors import AlreadyExists, InferenceError, InvalidArgument
from tritium.core.model import State
from tritium.core.serving import error_of
from tritium.http import answer, infer, restriction
from tritium.http.front import Front
from tritium.http.routes import follow, route
from tritium.http.target import Target
from tritium.wire.http import Request, Response
from tritium.wire.prompt import in_task

log = structlog.get_logger("tritium")

TARGET = b"x-amzn-sagemaker-target-model"
UNLOADED_WITHIN_S = 350.0
"""SageMaker itself waits for 360."""
LOOK_EVERY_S = 0.1
HOME = "/opt/ml/models"

_PATH = re.compile(r"/models(?:/)?([^/]+)?(/invoke)?")
_NAME = "[0-9A-Za-z._]+"
_ENSEMBLE = re.compile(r'platform:\s*"ensemble"')
_NOT_SERVED = ("/dev/", "/proc/", "/sys/")
_NO_MEMORY = re.compile(
    "CUDA out of memory|CUDA_OUT_OF_MEMORY|[Oo]ut of memory|Out Of Memory|MemoryError|OutOfMemory|OOM"
    "|(Dst|Src) tensor is not initialized|CNMEM_STATUS_OUT_OF_MEMORY|CUDNN_STATUS_NOT_INITIALIZED"
    "|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)|[Ff]ailed to allocate memory|No space left on device"
)
_LOADING, _UNLOADING = "Loading SageMaker TargetModel: {}", "Unloading SageMaker TargetModel: {}"
"""What an endpoint's log is searched for."""
_UNKNOWN, _MISSING, _DONE = (Response(status, ((b"content-type", b"text/plain"),)) for status in (400, 404, 200))
_INVOKE = route(Api.INFERENCE, "/models/.*/invoke", post=infer.infer)


class MultiModel:
    """The models of an endpoint; `home` is where SageMaker unpacks them."""

    def __init__(self, front: Front, repositories: Repositories, home: str = HOME) -> None:
        self._front = front
        self._repositories = repositories
        self._url = re.compile(rf"({re.escape(home)}/{_NAME})/(model)/?({_NAME})?")
        self._folders: dict[str, str] = {}
        """The registered folders, by SageMaker's names of their models."""
        self._turn = asyncio.Lock()

    async def handle(self, request: Request) -> Response | None:
        """Answer a request for /models and below."""
        found = _PATH.fullmatch(request.path)
        if found is None:
            return _UNKNOWN
        name, action = found[1] or "", found[2] or ""
        target = request.header(TARGET).decode("latin-1")
        if request.method == "POST" and action:
            return await self._invoke(request, name, target or name)
        if (refused := self._refusal(request)) is not None:
            return refused
        await in_task()
        try:
            match request.method:
                case "GET":
                    return self._describe(name) if name else self._list()
                case "POST" if not action:
                    return await self._load(request, target)
                case "DELETE":
                    return await self._unload(name, target or name)
        except Refusal as refusal:
            return _refused(error_of(refusal), 400)
        except InferenceError as problem:
            return _refused(problem, 400)
        return _UNKNOWN

    def _refusal(self, request: Request) -> Response | None:
        rule = self._front.restricted.get(Api.MODEL_REPOSITORY)
        return None if rule is None else restriction.refusal(request, rule)

    async def _invoke(self, request: Request, name: str, target: str) -> Response | None:
        if name not in self._folders:
            return _MISSING
        return await follow(request, self._front, _INVOKE, Target(target))

    def _list(self) -> Response:
        ready = {entry.name for entry in self._front.server.catalog.index(ready_only=True)}
        return answer.json({"models": [self._row(name) for name in self._folders if name in ready]})

    def _describe(self, name: str) -> Response:
        return answer.json(self._row(name)) if name in self._folders else _MISSING

    def _row(self, name: str) -> dict[str, str]:
        return {"modelName": name, "modelUrl": self._folders[name]}

    async def _load(self, request: Request, target: str) -> Response:
        document = json_text.parse(request.body) if len(request.body) else {}
        if type(document) is not dict:
            raise unparsable("attempt to get members for non-object")
        name, url = (document.get(member, "") for member in ("model_name", "url"))
        if type(name) is not str or type(url) is not str:
            raise unparsable(not_a("string"))
        target = target or name
        log.info(_LOADING.format(target))
        folder, inner = self._place(url)
        async with self._turn:
            try:
                self._repositories.register(folder, {inner: target})
            except AlreadyExists as problem:
                return _refused(problem, 409)
            try:
                await self._front.server.catalog.load(target, LoadParameters())
            except BaseException as problem:
                self._repositories.unregister(folder)
                if isinstance(problem, InferenceError):
                    return _refused(problem, 507 if _NO_MEMORY.search(f"{problem.message} {problem.hint}") else 400)
                raise
            self._folders[name] = folder
        return _DONE

    def _place(self, url: str) -> tuple[str, str]:
        """Return the folder to take models from, and which of its subfolders is the model.

        Raises:
            InvalidArgument: the URL is none of SageMaker's.
        """
        path = os.path.abspath(url)  # noqa: PTH100  # resolve() would follow SageMaker's links
        found = self._url.fullmatch(path)
        if found is None or path.startswith(_NOT_SERVED):
            raise InvalidArgument(
                f"Invalid \"url\" '{url}': expected a path of the form {HOME}/<hash>/model[/<subdir>]"
            )
        if Path(path, "config.pbtxt").exists():
            return found[1], found[2]
        return path, _model_in(Path(path))

    async def _unload(self, name: str, target: str) -> Response:
        async with self._turn:
            folder = self._folders.get(name)
            if folder is None:
                return _MISSING
            log.info(_UNLOADING.format(target))
            await self._front.server.catalog.unload(target, dependents=True)
            give_up = asyncio.get_running_loop().time() + UNLOADED_WITHIN_S
            while self._serves(target) and asyncio.get_running_loop().time() < give_up:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(LOOK_EVERY_S)
            self._repositories.unregister(folder)
            del self._folders[name]
        return _DONE

    def _serves(self, name: str) -> bool:
        index = self._front.server.catalog.index()
        return any(entry.name == name and entry.state not in (None, State.UNAVAILABLE) for entry in index)


def _model_in(folder: Path) -> str:
    """Return the subfolder that is the model: the ensemble, where there is one, or else any."""
    found = ""
    for inner in sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else ():
        found = found or inner
        config = folder / inner / "config.pbtxt"
        if config.is_file() and _ENSEMBLE.search(config.read_text(errors="replace")):
            return inner
    return found


def _refused(problem: InferenceError, status: int) -> Response:
    """Answer with a problem under SageMaker's status for it, whatever KServe's would be."""
    return Response(status, (answer.JSON,), (answer.error_body(problem),))
