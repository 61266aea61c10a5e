"""The key of a hosted service: read from the environment when it is needed, repeated nowhere."""

import base64
import json
import os
import re
from urllib.parse import quote

from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers.hosted_mapping import KEY_ENV

SHORTEST = 8  # characters; replacing shorter ones would tear words apart


def require_name(key_env: str) -> None:
    """Checks the name of an environment variable; the message does not repeat it.

    Raises:
        ValueError: If it does not look like a name, but perhaps like a key.
    """
    if not re.fullmatch(KEY_ENV, key_env):
        raise ValueError(
            "key_env must be the name of an environment variable, in upper case, such as "
            "OPENAI_API_KEY; the key itself goes into that variable"
        )


def read_key(key_env: str) -> str:
    """The key; empty where the service needs none.

    Raises:
        StoppedError: If there is none, or one that no header can carry.
    """
    if not key_env:
        return ""
    key = os.environ.get(key_env, "").strip()
    if not key:
        raise StoppedError(f"set {key_env} to the key of the service")
    if not (key.isascii() and key.isprintable()):
        raise StoppedError(f"the key in {key_env} has characters that no header can carry")
    return key


def without_key(text: str, key: str) -> str:
    """The text with the key blackened, however it is spelled: a service may repeat it."""
    if len(key) < SHORTEST:
        return text
    encoded = base64.b64encode(key.encode()).decode().rstrip("=")
    spelled = (key, quote(key, safe=""), json.dumps(key)[1:-1], encoded)
    for spelling in spelled:
        text = text.replace(spelling, "***")
    return text
