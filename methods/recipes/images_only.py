"""Methods of the papers' tables that nobody but their owners can run: their images, and why."""

from idbench.methods.protocol import MethodInfo

_IMAGES = "idbench.methods.wrappers.images:Images"


def _entry(
    name: str, summary: str, *, licence: str, rows: tuple[str, ...], reason: str
) -> MethodInfo:
    return MethodInfo(
        name=name,
        target=_IMAGES,
        summary=summary,
        kinds=("edit_restoration",),
        licence=licence,
        route="images",
        rows=rows,
        reason=reason,
        given=(("label", name),),
    )


IMAGES_ONLY: tuple[MethodInfo, ...] = (
    _entry(
        "dreamid",
        "DreamID, face swapping by diffusion: images that its owners made",
        licence="not released",
        rows=("editedid:table3:DreamID", "editedid:table8:DreamID"),
        reason="neither code nor weights of the image model are released",
    ),
    _entry(
        "deepswap",
        "DeepSwap, a face-swapping service: images made there",
        licence="terms of the service",
        rows=("editedid:table3:DeepSwap", "editedid:table8:DeepSwap"),
        reason="a commercial service without a documented interface or version",
    ),
    _entry(
        "ip-adapter-swap",
        "IP-Adapter as a way to restore a face: images made so",
        licence="Apache-2.0 (adapter), CreativeML OpenRAIL-M (base)",
        rows=("editedid:table3:IP-Adapter", "editedid:table8:IP-Adapter"),
        reason="the paper does not say how an adapter that makes images was made to restore one; "
        "the adapters themselves are diffusers:ip-adapter-*",
    ),
    _entry(
        "gpt-4o",
        "GPT-4o Plus, image editing in the chat: images made there",
        licence="terms of the service",
        rows=("editedid:table6:GPT-4o Plus",),
        reason="a chat product whose model changes without a version; http: asks the model that "
        "its provider offers by interface, which may be another one",
    ),
    _entry(
        "doubao",
        "Doubao, image editing in the chat: images made there",
        licence="terms of the service",
        rows=("editedid:table6:Doubao", "editedid:table6:Doubao w/ EditedID"),
        reason="a chat product whose model changes without a version; for the row with EditedID "
        "give its images to editedid as the edited ones",
    ),
    _entry(
        "dreamina",
        "Dreamina AI, image editing as a service: images made there",
        licence="terms of the service",
        rows=("editedid:table6:Dreamina AI",),
        reason="a service whose model changes without a version",
    ),
)
