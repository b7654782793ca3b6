"""Asynchronous TAP queries as jobs of UWS 1.1 (IVOA Recommendation 2016-10-24)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from deblend_assets.vo.server.adql import TIME_LIMIT_S, QueryError, SkyDatabase
from deblend_assets.vo.server.parameters import parameters, whole_number
from deblend_assets.vo.server.tap import answer
from deblend_assets.vo.server.votable import MEDIA_TYPE, document, error_votable, writable

_ACTIVE = ("PENDING", "QUEUED", "EXECUTING")
_LONGEST_WAIT_S = 60.0
_LIFETIME = timedelta(days=1)
_MOST_JOBS = 500
_NAMESPACES = {
    "xmlns:uws": "http://www.ivoa.net/xml/UWS/v1.0",
    "xmlns:xlink": "http://www.w3.org/1999/xlink",
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
}


@dataclass
class Job:
    """One query: its parameters, phase, times and, at the end, its result or error."""

    id: str
    parameters: dict[str, str]
    phase: str = "PENDING"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    ended: datetime | None = None
    result: bytes | None = None
    error: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def enter(self, phase: str) -> None:
        """Change the phase and wake those that wait for it."""
        self.phase = phase
        if phase == "EXECUTING":
            self.started = datetime.now(UTC)
        elif phase not in _ACTIVE:
            self.ended = datetime.now(UTC)
        self.changed.set()
        self.changed = asyncio.Event()

    def document(self, url: str) -> bytes:
        """The job as XML; `url` is the job's own."""
        root = ET.Element("uws:job", {**_NAMESPACES, "version": "1.1"})
        destroyed = self.created + _LIFETIME
        ET.SubElement(root, "uws:jobId").text = self.id
        ET.SubElement(root, "uws:ownerId", {"xsi:nil": "true"})
        ET.SubElement(root, "uws:phase").text = self.phase
        ET.SubElement(root, "uws:quote", {"xsi:nil": "true"})
        times = {"creationTime": self.created, "startTime": self.started, "endTime": self.ended}
        for tag, time in times.items():
            element = ET.SubElement(root, f"uws:{tag}", {} if time else {"xsi:nil": "true"})
            element.text = _iso(time) if time else None
        ET.SubElement(root, "uws:executionDuration").text = str(int(TIME_LIMIT_S))
        ET.SubElement(root, "uws:destruction").text = _iso(destroyed)
        given = ET.SubElement(root, "uws:parameters")
        for name, value in self.parameters.items():
            ET.SubElement(given, "uws:parameter", {"id": writable(name.lower())}).text = writable(value)
        results = ET.SubElement(root, "uws:results")
        if self.result is not None:
            link = {"xlink:type": "simple", "xlink:href": f"{url}/results/result", "mime-type": MEDIA_TYPE}
            ET.SubElement(results, "uws:result", {"id": "result", **link})
        if self.error is not None:
            summary = ET.SubElement(root, "uws:errorSummary", {"type": "fatal", "hasDetail": "true"})
            ET.SubElement(summary, "uws:message").text = writable(self.error)
        return document(root)


class Jobs:
    """The jobs of one service and the resources below /tap/async that show them."""

    def __init__(self, database: SkyDatabase) -> None:
        self._database = database
        self._jobs: dict[str, Job] = {}

    def routes(self) -> list[Route]:
        path = "/tap/async"
        return [
            Route(path, self._list, methods=["GET"]),
            Route(path, self._create, methods=["POST"]),
            Route(f"{path}/{{job}}", self._show, methods=["GET"]),
            Route(f"{path}/{{job}}", self._act, methods=["POST"]),
            Route(f"{path}/{{job}}", self._delete, methods=["DELETE"]),
            Route(f"{path}/{{job}}/phase", self._change_phase, methods=["POST"]),
            Route(f"{path}/{{job}}/parameters", self._change_parameters, methods=["POST"]),
            Route(f"{path}/{{job}}/results/result", self._result, methods=["GET"]),
            Route(f"{path}/{{job}}/{{part}}", self._part, methods=["GET"]),
        ]

    def _find(self, request: Request) -> Job:
        job = self._jobs.get(request.path_params["job"])
        if job is None:
            raise HTTPException(404, "there is no such job")
        return job

    def _see_other(self, request: Request, job: Job | None = None) -> Response:
        url = f"{request.base_url}tap/async"
        return RedirectResponse(f"{url}/{job.id}" if job else url, status_code=303)

    async def _list(self, request: Request) -> Response:
        root = ET.Element("uws:jobs", {**_NAMESPACES, "version": "1.1"})
        for job in self._jobs.values():
            link = {"id": job.id, "xlink:type": "simple", "xlink:href": f"{request.base_url}tap/async/{job.id}"}
            ET.SubElement(ET.SubElement(root, "uws:jobref", link), "uws:phase").text = job.phase
        return Response(document(root), media_type="text/xml")

    async def _create(self, request: Request) -> Response:
        given = await parameters(request)
        for old in [job for job in self._jobs.values() if job.phase not in _ACTIVE][: len(self._jobs) - _MOST_JOBS + 1]:
            del self._jobs[old.id]
        if len(self._jobs) >= _MOST_JOBS:
            raise HTTPException(503, "too many jobs under way")
        phase = given.pop("PHASE", "")
        job = Job(secrets.token_hex(8), given)
        self._jobs[job.id] = job
        if phase == "RUN":
            self._start(job)
        return self._see_other(request, job)

    async def _show(self, request: Request) -> Response:
        job = self._find(request)
        wait = whole_number((await parameters(request)).get("WAIT", "0"))
        if job.phase in _ACTIVE and wait is not None:
            seconds = _LONGEST_WAIT_S if wait < 0 else min(wait, _LONGEST_WAIT_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(job.changed.wait(), seconds)
        return Response(job.document(f"{request.base_url}tap/async/{job.id}"), media_type="text/xml")

    async def _act(self, request: Request) -> Response:
        if (await parameters(request)).get("ACTION") != "DELETE":
            raise HTTPException(400, "ACTION=DELETE is all that may be posted to a job")
        return await self._delete(request)

    async def _delete(self, request: Request) -> Response:
        job = self._find(request)
        if job.phase in _ACTIVE:
            job.enter("ABORTED")
        del self._jobs[job.id]
        return self._see_other(request)

    async def _change_phase(self, request: Request) -> Response:
        job, wanted = self._find(request), (await parameters(request)).get("PHASE", "")
        if wanted == "RUN" and job.phase == "PENDING":
            self._start(job)
        elif wanted == "ABORT":
            if job.phase in _ACTIVE:
                job.enter("ABORTED")
        else:
            raise HTTPException(400, f"PHASE={wanted} is not possible in phase {job.phase}")
        return self._see_other(request, job)

    async def _change_parameters(self, request: Request) -> Response:
        job = self._find(request)
        if job.phase != "PENDING":
            raise HTTPException(400, f"the parameters are settled in phase {job.phase}")
        job.parameters |= await parameters(request)
        return self._see_other(request, job)

    async def _result(self, request: Request) -> Response:
        job = self._find(request)
        if job.result is None:
            raise HTTPException(404, f"there is no result in phase {job.phase}")
        return Response(job.result, media_type=MEDIA_TYPE)

    async def _part(self, request: Request) -> Response:
        job, part = self._find(request), request.path_params["part"]
        if part == "error" and job.error is not None:
            return Response(error_votable(job.error), media_type=MEDIA_TYPE)
        if part in ("parameters", "results"):
            root = ET.fromstring(job.document(f"{request.base_url}tap/async/{job.id}"))
            element = root.find(f"{{{_NAMESPACES['xmlns:uws']}}}{part}")
            assert element is not None
            return Response(document(element), media_type="text/xml")
        texts = {
            "phase": job.phase,
            "executionduration": str(int(TIME_LIMIT_S)),
            "destruction": _iso(job.created + _LIFETIME),
            "quote": "",
            "owner": "",
        }
        if part not in texts:
            raise HTTPException(404, f"a job has no {part} now")
        return PlainTextResponse(texts[part])

    def _start(self, job: Job) -> None:
        job.enter("QUEUED")
        # The job keeps a reference: the event loop keeps none, and the task could be garbage-collected while it runs.
        job.task = asyncio.get_running_loop().create_task(self._run(job))

    async def _run(self, job: Job) -> None:
        job.enter("EXECUTING")
        try:
            result, error = await asyncio.to_thread(answer, self._database, job.parameters), None
        except QueryError as refused:
            result, error = None, str(refused)
        if job.phase != "EXECUTING":  # aborted meanwhile
            return
        job.result, job.error = result, error
        job.enter("ERROR" if error is not None else "COMPLETED")


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
