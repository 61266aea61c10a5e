"""The released files of the semantic identity projector."""

from idbench.methods.common.weight_sources import Source

SOURCES: dict[str, Source] = {
    "face_t5": Source(
        path="faceclip/face_t5_encoder.pt",
        repository="https://huggingface.co/ByteDance/FaceCLIP",
        revision="main",
        licence="CC BY-NC 4.0",
        route="hf download ByteDance/FaceCLIP model/face_t5_encoder.pt --local-dir {folder}, then "
        "move it to {path}",
    ),
    "clip": Source(
        path="clip-vit-large-patch14",
        repository="https://huggingface.co/openai/clip-vit-large-patch14",
        revision="main",
        licence="MIT (code of OpenAI CLIP); research use by its model card",
        route="hf download openai/clip-vit-large-patch14 config.json model.safetensors "
        "--local-dir {path}",
    ),
}
