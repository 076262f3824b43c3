"""The page's server: who may ask, and which part answers what. It listens on the loopback interface alone."""

import hmac
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, FileSystemLoader
from punctual_core.limits import ID, ID_RULE
from punctual_core.times import parse_date, zone
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from .. import InvalidEvent
from ..cancel import cancel
from ..moments import shown
from ..parked import Selection
from ..schedule import parked_message, scheduler_of
from ..stack import Stack
from ..story import ago, story_of
from . import parts
from .history import History

HERE = Path(__file__).parent
HEADERS = {
    # Neither inline scripts nor inline styles, nothing from elsewhere, in nobody's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MAX_BODY = 1_000_000
# How long a denied permission greys its button: it may be granted meanwhile.
DENIED_SECONDS = 300


class Guard:
    """Lets only the browser in that was given the token, and only the page's own requests. DNS rebinding comes with
    another Host; another site, or another port of this machine, with another Origin or Sec-Fetch-Site."""

    def __init__(self, app: ASGIApp, host: str, token: str):
        self._app, self._host, self._token = app, host, token
        self._session, self._cookie = secrets.token_urlsafe(32), f"punctual-{host.rpartition(':')[2]}"
        self._lock, self._is_open = threading.Lock(), False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        answer = self._refusal_of(request)
        if isinstance(answer, str):
            answer = PlainTextResponse(f"{answer}\n", status_code=403)

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *(pair for pair in message["headers"] if pair[0] != b"cache-control"),
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal_of(self, request: Request) -> str | Response | None:
        """Why a request is refused, or how it is answered before it comes to the page; None if it may."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if request.headers.get("host") != self._host:
            return "This is not the page's address."
        if origin not in (None, f"http://{self._host}") or (origin is None and request.method not in ("GET", "HEAD")):
            return "Another site must not ask this."
        token = request.query_params.get("token", "")
        if hmac.compare_digest(request.cookies.get(self._cookie, "").encode(), self._session.encode()):
            if site not in (None, "same-origin", "none"):
                return "Another site must not ask this."
            return RedirectResponse("/", 303) if token else None
        if request.url.path == "/" and hmac.compare_digest(token.encode(), self._token.encode()):
            with self._lock:
                is_first, self._is_open = not self._is_open, True
            if is_first:  # The address may be seen by others: in a list of processes, or a history.
                answer = RedirectResponse("/", 303)
                answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict")
                return answer
        return "The address opens the page once, in one browser: run punctual web again."


class Page:
    """The parts of the page. Each is a fragment that answers on its own, with data or with a sentence."""

    def __init__(self, stack: Stack, is_read_only: bool):
        self.stack, self.is_read_only = parts.SharedStack(stack), is_read_only
        self.history, self.counts = History(self.stack), dict[Selection, parts.Count]()
        self._denied: dict[str, tuple[float, str]] = {}
        self._templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True)
        self._templates.globals |= {
            "off": self.why_off,
            "shown": shown,
            "query": self._query,
            "page": self,
            "names": parts.QUEUES,
        }
        self._templates.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False, indent=2)
        self._templates.filters["ms"] = parts.ms
        self._templates.filters["ms"] = parts.ms

    @staticmethod
    def _query(**values: Any) -> str:
        return urlencode({name: value for name, value in values.items() if value})

    def why_off(self, action: str) -> str:
        """Why a button is grey; empty if it is not."""
        at, sentence = self._denied.get(action, (0.0, ""))
        is_denied = sentence and time.monotonic() < at + DENIED_SECONDS
        return "The page is read-only." if self.is_read_only else sentence if is_denied else ""

    def render(self, template: str, **values: Any) -> HTMLResponse:
        """A template, filled in."""
        return HTMLResponse(self._templates.get_template(template).render(values))

    def part(self, answer: Callable[[dict[str, str]], Response]) -> Callable[[Request], Awaitable[Response]]:
        """A part that is read in a thread. What it cannot read is said in its place."""

        async def endpoint(request: Request) -> Response:
            form = dict(request.query_params)
            if request.method == "POST":
                if self.is_read_only:
                    return self.render("error.html", problem="The page is read-only.", retry="")
                body = b""
                async for piece in request.stream():
                    body += piece
                    if len(body) > MAX_BODY:
                        return PlainTextResponse("too long", 413)
                form = {name: "\n".join(values) for name, values in parse_qs(body.decode()).items()}
                form["of"] = request.url.path[1:]
            try:
                return await run_in_threadpool(answer, form)
            except (*parts.PROBLEMS, InvalidEvent, ValueError) as error:
                problem = parts.sentence(error)
            if request.method == "POST" and problem.startswith("permission denied"):
                self._denied[request.url.path[1:]] = time.monotonic(), problem
            again = "" if request.method == "POST" else str(request.url.path) + "?" + request.url.query
            return self.render("error.html", problem=problem, retry=again)

        return endpoint

    def now(self, form: dict[str, str]) -> Response:
        """Whether the stack is punctual, in figures and in one sentence."""
        return self.render("now.html", figures=parts.now(self.stack, self.history))

    def _selection(self, form: dict[str, str]) -> Selection:
        after, before = (datetime.fromisoformat(form[name]) if form.get(name) else None for name in ("after", "before"))
        target = self.stack.topic_arn(form["target"]) if form.get("target") else None
        return Selection(after, before, target, form.get("user") or None, form.get("id") or None)

    def histogram(self, form: dict[str, str]) -> Response:
        """The parked events over time, of a count that goes on in the background."""
        selection = self._selection(form)
        all_times = Selection(None, None, selection.target, selection.user, selection.id_prefix)
        count = self.counts.get(all_times)
        if not count or form.get("again") or count.problem:
            for other in self.counts.values():
                other.stop()
            self.counts = {all_times: (count := parts.Count(self.stack, all_times))}
            count.done.wait(0.5)
        form.pop("again", None)
        bars, beyond = count.bars(selection.after, selection.before)
        return self.render("histogram.html", form=form, count=count, bars=bars, beyond=beyond)

    def pending(self, form: dict[str, str]) -> Response:
        """Both views of a selection, each of which loads on its own."""
        return self.render("pending.html", form=form)

    def events(self, form: dict[str, str]) -> Response:
        """The next events of a selection."""
        events, more = parts.next_events(self.stack, self._selection(form))
        return self.render("events.html", form=form, events=events, more=more)

    def event(self, form: dict[str, str], notice: str = "") -> Response:
        """One event's life."""
        id = form.get("id", "").strip()
        if not ID.fullmatch(id):
            raise ValueError(f"{id!r} {ID_RULE}")
        story = story_of(self.stack, id, ago(parts.DAY))
        verdict, message = story.verdict(), parts.message_of(story)
        return self.render("event.html", story=story, verdict=verdict, message=message, notice=notice)

    def cancel(self, form: dict[str, str]) -> Response:
        """Publish a cancel."""
        canceled = cancel(self.stack, scheduler_of(self.stack), form["id"])
        return self.event(form, f"{canceled.id}: {canceled.sentence}.")

    def reschedule(self, form: dict[str, str]) -> Response:
        """Publish a parked event again, for a time in UTC or for now."""
        at = None if form.get("now") else parse_date(form.get("at", ""), zone("UTC"))
        fields = parked_message(self.stack, form["id"])
        scheduler_of(self.stack).schedule(**fields, at=at, delay=None if at else timedelta())
        return self.event(form, f"{form['id']} is published again, {f'for {shown(at)} UTC' if at else 'for now'}.")

    def lateness(self, form: dict[str, str]) -> Response:
        """How late deliveries were."""
        span = form.get("span", "hour")
        found = parts.lateness(self.history, parts.DAY if span == "day" else parts.HOUR)
        return self.render("lateness.html", late=found, span=span)

    def failed(self, form: dict[str, str]) -> Response:
        """Why events failed, and what the queues keep."""
        reasons, until = parts.failures(self.history, parts.DAY)
        queues = {action: parts.waiting(self.stack, output) for action, (output, _) in parts.QUEUES.items()}
        return self.render("failed.html", reasons=reasons, until=until, queues=queues)

    def messages(self, form: dict[str, str]) -> Response:
        """The messages of a queue."""
        return self.render("messages.html", action=form["of"], rows=parts.messages(self.stack, form["of"]), result=None)

    def run(self, form: dict[str, str]) -> Response:
        """Resend or redrive the chosen messages, or all."""
        action, ids = form["of"], None if form.get("all") else set(form.get("ids", "").split("\n"))
        result = parts.run(self.stack, action, ids)
        denied = [reason for reason in result[1] if "permission denied" in reason]
        if denied:
            self._denied[action] = time.monotonic(), denied[0]
        return self.render("messages.html", action=action, rows=parts.messages(self.stack, action), result=result)


def application(stack: Stack, host: str, token: str, *, is_read_only: bool = False) -> ASGIApp:
    """The page of a stack, for a browser that comes to `host` (address and port) with the token."""
    page = Page(stack, is_read_only)

    async def shell(request: Request) -> Response:
        return page.render("page.html", id=request.query_params.get("event", ""))

    gets = page.now, page.histogram, page.pending, page.events, page.event, page.lateness, page.failed, page.messages
    routes = [Route(f"/{part.__name__}", page.part(part)) for part in gets]
    posts = {"cancel": page.cancel, "reschedule": page.reschedule, "resend": page.run, "redrive": page.run}
    routes += [Route(f"/{name}", page.part(part), methods=["POST"]) for name, part in posts.items()]
    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    return Guard(Starlette(routes=[Route("/", shell), *routes, static]), host, token)
