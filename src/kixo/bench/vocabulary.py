"""What apps send: event types by how common they are, their names, and properties that look like theirs.

Weights and sizes are made up to resemble a consumer app: views and taps are most of the traffic, a few names are most
of the names (Zipf), and properties are 60 to 200 bytes of JSON.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from random import Random

Properties = dict[str, object]

SCREENS = ("Home", "ProductList", "ProductDetail", "Search", "Cart", "Checkout", "Profile", "Orders", "Settings")
PATHS = ("/", "/pricing", "/products", "/products/running-shoes", "/cart", "/checkout", "/blog/spring-sale", "/docs")
TARGETS = ("AddToCart", "BuyNow", "SearchField", "MenuButton", "Favourite", "ShareButton", "ApplyCoupon", "LoadMore")
CUSTOM = (
    "purchase",
    "signup_completed",
    "coupon_applied",
    "video_played",
    "item_favourited",
    "level_up",
    "überweisung",
)
ERRORS = ("TypeError: undefined is not a function", "NetworkError: timeout after 30000 ms", "OutOfMemory", "HTTP 502")
CALLS = ("GET /api/v2/products", "POST /api/v2/cart", "GET /api/v2/recommendations", "GET /api/v2/user/me")
CAMPAIGNS = ("spring_sale", "cart_reminder", "weekly_digest", "order_shipped")
REFERRERS = ("https://google.com", "https://news.example.org/a/2026", "android-app://com.example.mail", "")
COUNTRIES = ("DE", "US", "FR", "BR", "IN", "JP", "TR", "NG")
VERSIONS = ("4.12.0", "4.12.1", "4.11.7", "5.0.0-beta.2")


@dataclass(frozen=True)
class Kind:
    """A type of event: its weight among all, the names it has, most common first, and its properties."""

    event_type: str
    weight: float
    names: tuple[str, ...]
    properties: Callable[[Random], Properties]


def skewed(random: Random, choices: tuple[str, ...]) -> str:
    """One of the choices, the n-th about 1/n as often as the first."""
    weights = accumulate(1 / rank for rank in range(1, len(choices) + 1))
    return random.choices(choices, cum_weights=list(weights))[0]


def _app(random: Random) -> Properties:
    return {"app_version": random.choice(VERSIONS), "country": skewed(random, COUNTRIES)}


def _view(random: Random) -> Properties:
    return {**_app(random), "referrer": skewed(random, REFERRERS), "load_ms": random.randrange(40, 2400)}


def _touch(random: Random) -> Properties:
    place = {"x": random.randrange(0, 1170), "y": random.randrange(0, 2532)}
    return {**_app(random), **place, "element": skewed(random, TARGETS), "screen": skewed(random, SCREENS)}


def _session(random: Random) -> Properties:
    return {**_app(random), "os": "17.4.1", "model": "iPhone15,3", "locale": "de-DE", "cold": random.random() < 0.3}


def _scroll(random: Random) -> Properties:
    return {**_app(random), "depth": round(random.random(), 3), "max_depth": 1, "screen": skewed(random, SCREENS)}


def _network(random: Random) -> Properties:
    answer = {"status": random.choice((200, 200, 200, 304, 404, 502)), "bytes": random.randrange(90, 90_000)}
    return {**_app(random), **answer, "duration_ms": round(random.expovariate(1 / 180), 2), "retry": None}


def _failure(random: Random) -> Properties:
    frames = [f"app.js:{random.randrange(1, 9000)}:{random.randrange(1, 120)}" for _ in range(4)]
    return {**_app(random), "fatal": False, "stack": frames, "thread": "main"}


def _purchase(random: Random) -> Properties:
    item = {"sku": f"SKU-{random.randrange(100_000):05}", "quantity": random.randrange(1, 4)}
    return {**_app(random), "value": round(random.uniform(3, 400), 2), "currency": "EUR", "items": [item]}


def _push(random: Random) -> Properties:
    return {**_app(random), "campaign": skewed(random, CAMPAIGNS), "message": f"m_{random.getrandbits(48):012x}"}


KINDS = (
    Kind("screen_view", 24, SCREENS, _view),
    Kind("tap", 20, TARGETS, _touch),
    Kind("page_view", 12, PATHS, _view),
    Kind("click", 10, TARGETS, _touch),
    Kind("scroll_depth", 8, SCREENS, _scroll),
    Kind("network", 8, CALLS, _network),
    Kind("custom", 6, CUSTOM, _purchase),
    Kind("performance", 3, ("cold_start", "time_to_interactive", "frame_drop"), _network),
    Kind("session_start", 2.5, ("session_start",), _session),
    Kind("session_end", 2, ("session_end",), _session),
    Kind("heatmap_click", 1.5, PATHS, _touch),
    Kind("error", 1, ERRORS, _failure),
    Kind("push_received", 0.6, CAMPAIGNS, _push),
    Kind("dead_click", 0.5, TARGETS, _touch),
    Kind("push_silent", 0.4, ("sync",), _push),
    Kind("rage_click", 0.3, TARGETS, _touch),
    Kind("push_open", 0.2, CAMPAIGNS, _push),
)
KIND_WEIGHTS = tuple(accumulate(kind.weight for kind in KINDS))


def pick_kind(random: Random) -> Kind:
    """A kind of event, the common ones more often."""
    return random.choices(KINDS, cum_weights=KIND_WEIGHTS)[0]
