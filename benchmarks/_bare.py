"""A bare FastAPI route beside the service: it answers bytes that it was given, under the same uvicorn settings.

    python -P benchmarks/_bare.py PORT FILE

FILE: a JSON list of answers; answer i is what `POST /?i` gets.
"""

import sys
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from service.server import listen
from service.settings import Settings


def bare(answers: dict[bytes, bytes]) -> FastAPI:
    """The application. answers: by query string."""
    app = FastAPI()

    @app.get("/livez")
    async def alive() -> Response:
        return Response()

    @app.post("/")
    async def answer(request: Request) -> Response:
        return Response(answers[request.scope["query_string"]], media_type="application/json")

    return app


if __name__ == "__main__":
    port, file = int(sys.argv[1]), Path(sys.argv[2])
    answers = {str(i).encode(): answer.encode() for i, answer in enumerate(orjson.loads(file.read_bytes()))}
    config = uvicorn.Config(bare(answers), http="h11", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listen(Settings(port=port))])
