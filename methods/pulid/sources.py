"""The released files of PuLID-FLUX and of the networks that read its reference photo."""

from idbench.methods.common.weight_sources import Source

SOURCES: dict[str, Source] = {
    "pulid": Source(
        path="pulid/pulid_flux_v0.9.1.safetensors",
        repository="https://huggingface.co/guozinan/PuLID",
        revision="main",
        licence="Apache-2.0",
        route="hf download guozinan/PuLID pulid_flux_v0.9.1.safetensors --local-dir {folder}",
    ),
    "eva": Source(
        path="eva-clip/EVA02_CLIP_L_336_psz14_s6B.pt",
        repository="https://huggingface.co/QuanSun/EVA-CLIP",
        revision="main",
        licence="MIT",
        route="hf download QuanSun/EVA-CLIP EVA02_CLIP_L_336_psz14_s6B.pt --local-dir {folder}",
    ),
    "antelopev2": Source(
        path="antelopev2",
        repository="https://github.com/deepinsight/insightface/releases/tag/v0.7",
        revision="v0.7",
        licence="non-commercial research only (the weights; the library is MIT)",
        route="idbench weights fetch antelopev2 puts scrfd_10g_bnkps.onnx and glintr100.onnx there",
    ),
    "facexlib": Source(
        path="facexlib",
        repository="https://github.com/xinntao/facexlib/releases",
        revision="v0.1.0 (detector), v0.2.0 (parser)",
        licence="MIT",
        route="download detection_Resnet50_Final.pth (v0.1.0) and parsing_bisenet.pth (v0.2.0) "
        "from {repository} to the folder facexlib of the weights",
    ),
}

# files of the entries that are folders: name in records -> file
MEMBERS: dict[str, dict[str, str]] = {
    "antelopev2": {"scrfd": "scrfd_10g_bnkps.onnx", "glintr100": "glintr100.onnx"},
    "facexlib": {
        "retinaface": "detection_Resnet50_Final.pth",
        "bisenet": "parsing_bisenet.pth",
    },
}
