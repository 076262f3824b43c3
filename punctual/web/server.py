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
from punctual_core.limits import ID, ID_RULE
from punctual_core.times import parse_date, zone
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..cancel import cancel
from ..moments import shown
from ..parked import Selection
from ..schedule import parked_message, scheduler_of
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
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
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
        templates.globals |= {"page": self, "shown": shown, "query": _query}
        templates.filters |= {"json": lambda value: json.dumps(value, ensure_ascii=False, indent=2), "ms": parts.ms}
        self._template = templates.get_template

    def route(self, method: str, path: str, template: str, answer: Callable[[Form], Data]) -> Route:
        """A part that is read in a thread. What it cannot read is said in its place."""

        def fragment(form: Form) -> str:
            try:
                return self._template(f"{template}.html").render(answer(form), form=form)
            except (*parts.PROBLEMS, ValueError) as error:
                problem = sentence_of(error)
            if method == "POST" and problem.startswith("permission denied"):
                self.denied[path] = problem
            again = f"/{path}?{_query(**form)}" if method == "GET" else ""
            return self._template("error.html").render(problem=problem, again=again)

        async def endpoint(request: Request) -> Response:
            fields = {name: "\n".join(values) for name, values in parse_qs((await request.body()).decode()).items()}
            action = {"action": path} if method == "POST" else {}
            return HTMLResponse(await run_in_threadpool(fragment, {**request.query_params, **fields, **action}))

        return Route(f"/{path}", endpoint, methods=[method])

    def shell(self, form: Form) -> Data:
        """The page, whose parts the browser asks for."""
        self.denied.clear()  # It may have been granted meanwhile.
        return {}

    def selection(self, form: Form) -> Selection:
        """The parked events that a form selects."""
        after, before = (datetime.fromisoformat(form[name]) if form.get(name) else None for name in ("after", "before"))
        target = self.stack.topic_arn(form["target"]) if form.get("target") else None
        return Selection(after, before, target, form.get("user") or None, form.get("id") or None)

    def histogram(self, form: Form) -> Data:
        """The parked events of a selection over time, out of one count of all times."""
        selection = self.selection(form)
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
        """One event's life."""
        id = form.get("id", "").strip()
        if not ID.fullmatch(id):
            raise ValueError(f"{id!r} {ID_RULE}")
        story = story_of(self.stack, id, ago(parts.DAY))
        return {"story": story, "verdict": story.verdict(), "message": parts.message_of(story)}

    def cancel(self, form: Form) -> Data:
        """Publish a cancel."""
        canceled = cancel(self.stack, scheduler_of(self.stack), form["id"])
        return self.event(form) | {"notice": f"{canceled.id}: {canceled.sentence}."}

    def reschedule(self, form: Form) -> Data:
        """Publish a parked event again, for a time in UTC or for now."""
        at = None if form.get("now") else parse_date(form.get("at", ""), zone("UTC"))
        fields = parked_message(self.stack, form["id"])
        scheduler_of(self.stack).schedule(**fields, at=at, delay=None if at else timedelta())
        notice = f"{form['id']} is published again, {f'for {shown(at)} UTC' if at else 'for now'}."
        return self.event(form) | {"notice": notice}

    def run(self, form: Form) -> Data:
        """Resend or redrive the chosen messages, or all."""
        chosen = None if form.get("all") else form.get("ids", "").split("\n")
        done, kept, has_more = parts.run(self.stack, form["action"], chosen)
        for sentence in (sentence for sentence in kept if "permission denied" in sentence):
            self.denied[form["action"]] = sentence
        return parts.messages(self.stack, form["action"]) | {"done": done, "kept": kept, "has_more": has_more}


def _query(**values: Any) -> str:
    return urlencode({name: value for name, value in values.items() if value})


def application(stack: Stack, host: str, token: str, is_read_only: bool = False) -> Starlette:
    """The page of a stack, for a browser that comes to `host` (address and port) with the token."""
    page, history = Page(stack, is_read_only), History(stack)
    reads: dict[str, Callable[[Form], Data]] = {
        "now": lambda form: parts.now(stack, history),
        "pending": lambda form: {},
        "histogram": page.histogram,
        "events": lambda form: parts.next_events(stack, page.selection(form), int(form.get("skip", 0))),
        "event": page.event,
        "lateness": lambda form: parts.lateness(history, parts.DAY if form.get("span") == "day" else parts.HOUR),
        "failed": lambda form: parts.failed(stack, history),
        "messages": lambda form: parts.messages(stack, form["action"]),
    }
    routes = [page.route("GET", "", "page", page.shell)]
    routes += [page.route("GET", name, name, answer) for name, answer in reads.items()]
    if not is_read_only:
        routes += [page.route("POST", action, "messages", page.run) for action in parts.QUEUES]
        routes += [
            page.route("POST", "cancel", "event", page.cancel),
            page.route("POST", "reschedule", "event", page.reschedule),
        ]
    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    guard = Middleware(BaseHTTPMiddleware, dispatch=Guard(host, token))
    return Starlette(routes=[*routes, static], middleware=[guard])
