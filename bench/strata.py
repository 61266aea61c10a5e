"""Scores split by a tag: each value of the tag becomes a table of its own (pure)."""

import json

import pandas as pd

UNTAGGED = "(none)"


def tag_names(frame: pd.DataFrame) -> list[str]:
    """Names of the tags that occur in a frame of scores with its column `tags`."""
    found: set[str] = set()
    for text in frame["tags"].unique():
        found.update(json.loads(text))
    return sorted(found)


def stratify(frame: pd.DataFrame, tag: str) -> pd.DataFrame:
    """A frame in which the suite is named `suite, tag = value`.

    A sample with several values of the tag counts in each of them, one without the tag under
    "(none)", so no sample is lost.

    Raises:
        LookupError: If no sample has this tag; the message lists those that occur.
    """
    known = tag_names(frame)
    if tag not in known:
        raise LookupError(f"no sample has the tag {tag!r}; known: {', '.join(known) or 'none'}")
    values = {
        text: tuple(json.loads(text).get(tag) or (UNTAGGED,)) for text in frame["tags"].unique()
    }
    split = frame.assign(_value=frame["tags"].map(values)).explode("_value", ignore_index=True)
    suite = split["suite"] + f", {tag} = " + split["_value"].astype(str)
    return split.assign(suite=suite).drop(columns="_value")
