"""Who may ask for what, and how often: keys, their scopes, and a rate for each.

Without a key only this machine can connect, and a browser on it is the one stranger left: what another site's page
sends through it is refused, whatever name that page had for this address.
"""

import re
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers

from retriever.errors import InvalidSettings
from service.keys import Holder, Keys, Scope
from service.problems import Forbidden, RateLimited, Unauthorized
from service.settings import Settings, is_loopback

# Open without a key, and not counted: health checks, the pages' shells, and the API's description: none holds data.
OPEN = re.compile(r"/|/livez|/readyz|/status|/page/[^/]+|/openapi\.json|/docs(/[^/]+)?")
READING = frozenset({"GET", "HEAD"})
# What only reads although it is a POST. Whatever isn't named here, nor read by a method of its own, takes `write`.
READING_POSTS = re.compile(r"/v1/(embeddings|rerank|collections/[^/]+/search(/batch)?)")


def scope_of(method: str, path: str) -> Scope | None:
    """The scope that a request takes, None where it takes no key. path: as sent, or a route's pattern."""
    if method in READING:
        return None if OPEN.fullmatch(path) else "read"
    return "read" if method == "POST" and READING_POSTS.fullmatch(path) else "write"


def cross_origin(settings: Settings) -> dict[str, Any]:
    """What Starlette's CORSMiddleware takes. A key is a header of the page's own: no cookies, no credentials."""
    return {
        "allow_origins": settings.cors_origins,
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type", "X-Request-ID"],
        "expose_headers": ["Retry-After", "X-Request-ID"],
    }


class Guard:
    """Lets requests in or says why not.

    Raises InvalidSettings where others could connect and there is no key, StorageFailed where the file of keys is
    damaged.
    """

    def __init__(self, settings: Settings) -> None:
        api_key = settings.api_key
        self.keys = Keys(settings.root, None if api_key is None else api_key.get_secret_value())
        self._origins = frozenset(settings.cors_origins)
        self._rate = None if settings.rate_limit is None else RateLimit(settings.rate_limit)
        self._always = not settings.on_loopback
        if self._always and not self.keys.wanted:
            raise InvalidSettings(
                f"{settings.host} can be reached by others and there is no key",
                hint="make one with polyseek keys new, or set POLYSEEK_API_KEY; or listen on 127.0.0.1",
            )

    def admit(self, method: str, path: str, headers: Headers) -> Holder | None:
        """Whose request it is, None for nobody's where none is needed.

        Raises Unauthorized, RateLimited, Forbidden.
        """
        scope = scope_of(method, path)
        if scope is None:
            return None
        holder = self._holder(headers)
        if self._rate is not None:
            self._rate.take(holder.id if holder else "")
        if holder is not None and scope not in holder.scopes:
            raise Forbidden(
                f"the key {holder.id} lacks the scope {scope}", hint=f"polyseek keys new --scope {scope} makes another"
            )
        return holder

    def _holder(self, headers: Headers) -> Holder | None:
        self.keys.refresh()
        if not (self._always or self.keys.wanted):
            self._refuse_other_sites(headers)
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        holder = self.keys.holder(key.strip().encode("latin-1")) if scheme.lower() == "bearer" else None
        if holder is None:
            raise Unauthorized("no key, or not this service's", hint="send the header Authorization: Bearer KEY")
        return holder

    def _refuse_other_sites(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not is_loopback(_without_port(host)):
            raise Forbidden(
                f"without keys, the service answers to localhost, not to {host!r:.80}",
                hint="make a key with polyseek keys new; or have the proxy send Host: localhost",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}", f"https://{host}", *self._origins}:
            raise Forbidden(f"a page of {origin:.80} may not use this service", hint="allow its origin by cors_origins")


class RateLimit:
    """A bucket of tokens for each key: `rate` of them at first and at most, refilled at `rate` a second.

    clock: seconds that never go back.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        # When the bucket will be full again: one number says how many tokens are in it.
        self._full_at: dict[str, float] = {}

    def take(self, key: str) -> None:
        """Take one token. Raises RateLimited."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + 1 / self._rate
        if full_at - now > 1 + 1e-9:
            raise RateLimited(
                f"a key may make {self._rate} requests a second", hint="wait as long as the header Retry-After says"
            )
        self._full_at[key] = full_at


def _without_port(host: str) -> str:
    return host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
