"""What Schemathesis cannot read out of the service's OpenAPI document. Not responsible for: which checks there are."""

import base64
import itertools
import re
import struct

import schemathesis
from hypothesis import strategies

# Points on the curve: the public keys of RFC 8032, 7.1.
POINTS = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
]
COUNTER = itertools.count()


def line(point):
    fields = [b"ssh-ed25519", bytes.fromhex(point)]
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


# A pattern cannot say what a key is.
schemathesis.openapi.format("ssh-public-key", strategies.sampled_from([line(point) for point in POINTS]))


@schemathesis.hook
def before_call(context, case, kwargs):
    """A key names one request for ever: each sound one is new."""
    headers = case.headers or {}
    key = headers.get("Idempotency-Key")
    if case.method.upper() == "POST" and isinstance(key, str) and re.fullmatch(r"[!-~]{1,128}", key):
        case.headers["Idempotency-Key"] = f"case-{next(COUNTER)}"
