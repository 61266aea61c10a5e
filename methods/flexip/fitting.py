"""Refuses an adapter that was not made for the networks it is used with."""

from idbench.methods.flexip.adapter import FlexIPAdapter
from idbench.methods.flexip.config import FlexIPConfig
from idbench.methods.flexip.references import ReferenceEncoder


def check_belongs(
    adapter: FlexIPAdapter, references: ReferenceEncoder, config: FlexIPConfig
) -> None:
    """Compares names and widths of encoders; that of the UNet is compared on injection.

    Raises:
        ValueError: If the adapter was made for other encoders; the message names the first
            difference and what to do.
    """
    made_for = adapter.config
    names = {"base": config.base_name, "clip": config.clip_name, "dino": config.dino_name}
    if made_for["retrieval"] == "clip":
        del names["dino"]
    for part, name in names.items():
        if made_for[part] != name:
            raise ValueError(
                f"the adapter was made for {part} {made_for[part]!r}, but {name!r} is in use; load "
                f"that one, or another adapter, or say {part}_name={made_for[part]!r} if it is the "
                "same network under another name"
            )
    for part, need, have in (
        ("class tokens of CLIP", made_for["class_dim"], references.class_dim),
        ("patches of the reference", made_for["patch_dim"], references.patch_dim),
    ):
        if need != have:
            raise ValueError(
                f"the adapter was made for {part} of width {need}, but theirs is {have}; the files "
                "do not belong together"
            )
