"""Answers as bytes: what the library returns is serialised once and never validated on its way out."""

from typing import Any

import orjson
from starlette.responses import Response


def json_bytes(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - any JSON value or dataclass
    """A JSON response; dataclasses are written as objects, numpy arrays as lists."""
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")
