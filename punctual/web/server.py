"""The page's server: who may ask, and which part answers what. It listens on the loopback interface alone."""

import json
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..cancel import cancel
from ..moments import shown, to_moment
from ..parked import Selection
from ..schedule import parked_message, scheduler_of
from ..show import to_id
from ..stack import Stack, sentence_of
from ..story import ago, story_of
from . import parts
from .reading import Count, History

HERE = Path(__file__).parent
HEADERS = {
    # Neither inline scripts nor inline styles, nothing from elsewhere, in nobody's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

type Form = dict[str, str]
type Data = dict[str, Any]


class Guard:
    """Lets in only the browser that was given the token, and only the page's own requests. DNS rebinding comes with
    another Host; another site, or another port of this machine, with another Origin or Sec-Fetch-Site."""

    def __init__(self, host: str, token: str):
        self._host, self._token, self._session, self._is_open = host, token, secrets.token_urlsafe(32), False
        self._cookie = f"punctual-{host.rpartition(':')[2]}"  # A cookie goes to all ports.

    async def __call__(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer a request, or refuse it."""
        answer = self._answer_to(request) or await call_next(request)
        answer.headers.update(HEADERS)
        return answer

    def _answer_to(self, request: Request) -> Response | None:
        """The answer to a request that does not come to the page; None if it may."""
        own, headers, token = f"http://{self._host}", request.headers, request.query_params.get("token", "")
        origin = headers.get("origin", own if request.method in ("GET", "HEAD") else "")
        if headers.get("host") != self._host:
            return PlainTextResponse("This is not the page's address.\n", 403)
        if origin != own or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Another site must not ask this.\n", 403)
        if secrets.compare_digest(request.cookies.get(self._cookie, "").encode(), self._session.encode()):
            return RedirectResponse("/", 303) if token else None
        is_first = secrets.compare_digest(token.encode(), self._token.encode()) and not self._is_open
        if request.url.path != "/" or not is_first:
            return PlainTextResponse("The address opens the page once, in one browser: run punctual web again.\n", 403)
        self._is_open = True  # The address may be seen by others: in a list of processes, or a history.
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict")
        return answer


class Page:
    """The parts of the page. Each is a fragment that answers on its own, with data or with a sentence."""

    def __init__(self, stack: Stack, is_read_only: bool):
        self.stack, self.is_read_only, self.denied = stack, is_read_only, dict[str, str]()
        self._counts = dict[Selection, Count]()
        templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True)
        templates.globals |= {"page": self, "shown": shown}
        templates.filters |= {"json": lambda value: json.dumps(value, ensure_ascii=False, indent=2), "ms": parts.ms}
        templates.globals["m"] = templates.get_template("macros.html").module
        self._template = templates.get_template

    def route(self, method: str, path: str, template: str, answer: Callable[[Form], Data]) -> Route:
        """A part that is read in a thread. What it cannot read is said in its place."""

        def fragment(form: Form) -> str:
            try:
                data, name = answer(form), template
            except (*parts.PROBLEMS, ValueError) as error:
                data, name = {"problems": [sentence_of(error)]}, "error"
            for problem in data.get("problems", []):
                if "permission denied" in problem:
                    self.denied[path] = problem
            again = f"/{path}?{urlencode(form)}" if method == "GET" else ""
            return self._template(f"{name}.html").render(data, form=form, again=again)

        async def endpoint(request: Request) -> Response:
            fields = {name: "\n".join(values) for name, values in parse_qs((await request.body()).decode()).items()}
            action = {"action": path} if method == "POST" else {}
            return HTMLResponse(await run_in_threadpool(fragment, {**request.query_params, **fields, **action}))

        return Route(f"/{path}", endpoint, methods=[method])

    def shell(self, form: Form) -> Data:
        """The page, whose parts the browser asks for."""
        self.denied.clear()  # It may have been granted meanwhile.
        return {}

    def select(self, form: Form) -> Selection:
        """The parked events that a form selects."""
        after, before = (datetime.fromisoformat(form[name]) if form.get(name) else None for name in ("after", "before"))
        target = self.stack.topic_arn(form["target"]) if form.get("target") else None
        return Selection(after, before, target, form.get("user") or None, form.get("id") or None)

    def histogram(self, form: Form) -> Data:
        """The parked events of a selection over time, out of one count of all times."""
        selection = self.select(form)
        counted = replace(selection, after=None, before=None)
        if form.pop("again", "") or counted not in self._counts:
            self._counts[counted] = Count(self.stack, counted)
        count = self._counts[counted]
        try:
            minutes = count.minutes()
        except parts.PROBLEMS:
            self._counts.pop(counted, None)  # Another try counts anew.
            raise
        bars, later = parts.bars(minutes or Counter(), selection)
        return {"count": count, "minutes": minutes, "bars": bars, "later": later}

    def event(self, form: Form) -> Data:
        """One event's life, and its message: that of the parked one, or of its last execution."""
        story = story_of(self.stack, to_id(form.get("id", "").strip()), ago(parts.DAY))
        inputs = [execution.input for execution in story.executions if "event" in execution.input]
        inputs += [event.input for event in story.parked]
        message = {**inputs[-1]["event"], "payload": inputs[-1]["publish"]["Message"]} if inputs else None
        return {"story": story, "verdict": story.verdict(), "message": message}

    def cancel(self, form: Form) -> Data:
        """Publish a cancel."""
        canceled = cancel(self.stack, scheduler_of(self.stack), form["id"])
        return self.event(form) | {"notice": f"{canceled.id}: {canceled.sentence}."}

    def reschedule(self, form: Form) -> Data:
        """Publish a parked event again, for a time in UTC or for now."""
        at = None if form.get("now") else to_moment(form.get("at", ""))
        fields = parked_message(self.stack, form["id"])
        scheduler_of(self.stack).schedule(**fields, at=at, delay=None if at else timedelta())
        notice = f"{form['id']} is published again, {f'for {shown(at)} UTC' if at else 'for now'}."
        return self.event(form) | {"notice": notice}

    def run(self, form: Form) -> Data:
        """Resend or redrive the chosen messages, or all."""
        chosen = None if form.get("all") else form.get("ids", "").split("\n")
        return parts.run(self.stack, form["action"], chosen)


def application(stack: Stack, host: str, token: str, is_read_only: bool = False) -> Starlette:
    """The page of a stack, for a browser that comes to `host` (address and port) with the token."""
    page, history = Page(stack, is_read_only), History(stack)
    answers: list[tuple[str, str, str, Callable[[Form], Data]]] = [
        ("GET", "", "page", page.shell),
        ("GET", "now", "now", lambda form: parts.now(stack, history)),
        ("GET", "pending", "pending", lambda form: {}),
        ("GET", "histogram", "histogram", page.histogram),
        ("GET", "events", "events", lambda form: parts.next_events(stack, page.select(form), int(form.get("skip", 0)))),
        ("GET", "event", "event", page.event),
        ("GET", "lateness", "lateness", lambda form: parts.lateness(history, form.get("span", "hour"))),
        ("GET", "failed", "failed", lambda form: parts.failed(history)),
        ("GET", "messages", "messages", lambda form: parts.messages(stack, form["action"])),
        ("POST", "resend", "messages", page.run),
        ("POST", "redrive", "messages", page.run),
        ("POST", "cancel", "event", page.cancel),
        ("POST", "reschedule", "event", page.reschedule),
    ]
    routes = [page.route(*row) for row in answers if row[0] == "GET" or not is_read_only]
    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    guard = Middleware(BaseHTTPMiddleware, dispatch=Guard(host, token))
    return Starlette(routes=[*routes, static], middleware=[guard])
