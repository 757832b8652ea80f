"""The log of a service: one JSON object a line on standard error; every line of a request bears the request's id."""

import json
import logging
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from service.settings import Settings

# The loggers of this project; others are heard from warnings on.
OURS = ("polyseek", "retriever", "service")
# What every record has, and isn't shown by itself; the rest came by `extra`.
STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})

# Copied into the tasks and worker threads that a request starts; the threads of batches, which work for several at
# once, log their ids as `request_ids`.
request_id: ContextVar[str] = ContextVar("request_id", default="")
_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)

access = logging.getLogger("polyseek.access")


def configure(level: str) -> None:
    """Log to standard error as JSON from now on, the whole process: warnings and what ends a thread as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]), handlers=[handler])
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_ended


def begin(identifier: str) -> None:
    """A request begins: what is logged in its context, and in what starts from it, bears this id."""
    request_id.set(identifier)
    _noted.set({})


def note(**members: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
    """Add members to the access line of the request that this is called in; without one it does nothing."""
    if (noted := _noted.get()) is not None:
        noted.update(members)


def note_texts(text: str | list[str | None] | None, settings: Settings) -> None:
    """Add what is searched for to the access line, where the settings have it logged (`log_queries`)."""
    if settings.log_queries:
        note(text=text)


def answered(level: int, members: Mapping[str, Any]) -> None:
    """Write the access line of the request: these members and those that were noted."""
    if access.isEnabledFor(level):
        access.log(level, "answered", extra={**members, **(_noted.get() or {})})


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message, request_id, what came by `extra`, traceback."""

    # Escaped to ASCII, so that no text breaks a line or an encoding: not a lone surrogate, not U+2028.
    _encode = json.JSONEncoder(default=str, separators=(",", ":")).encode

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object without a line break."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        members: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identifier := request_id.get():
            members["request_id"] = identifier
        members.update((name, value) for name, value in vars(record).items() if name not in STANDARD)
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return self._encode(members)


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread else "a thread"
    logging.getLogger("polyseek.service").critical(
        "%s ended by what nobody caught", name, exc_info=ended.exc_value or ended.exc_type()
    )
