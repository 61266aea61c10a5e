"""The published metrics as rows of the registry's tables, and the sets that papers print."""

from collections.abc import Mapping

# Full name -> "module:callable"; the callable takes no arguments and gives the Metric.
METRICS: Mapping[str, str] = {
    name: f"idbench.metrics.{target}"
    for name, target in {
        "facesim@ibench[antelopev2]": "identity.facesim:FaceSimIBench",
        "facesim@strict[antelopev2]": "identity.facesim:facesim_antelopev2",
        "facesim@strict[buffalo_l]": "identity.facesim:facesim_buffalo_l",
        "facesim@strict[facenet]": "identity.facesim:facesim_facenet",
        "antifacesim@ibench[antelopev2]": "identity.antifacesim:AntiFaceSimIBench",
        "antifacesim@strict[antelopev2]": "identity.antifacesim:AntiFaceSimStrict",
        "facesim_gain@strict[antelopev2]": "identity.antifacesim:FaceSimGain",
        "id_sim@strict[antelopev2]": "identity.id_sim:id_sim_antelopev2",
        "id_sim@strict[buffalo_l]": "identity.id_sim:id_sim_buffalo_l",
        "multi_facesim@strict[antelopev2]": "identity.multi_facesim:multi_facesim_antelopev2",
        "multi_facesim@strict[buffalo_l]": "identity.multi_facesim:multi_facesim_buffalo_l",
        "multi_facesim_greedy@strict[facenet]": (
            "identity.multi_facesim:multi_facesim_greedy_facenet"
        ),
        "multi_facesim_greedy@strict[antelopev2]": (
            "identity.multi_facesim:multi_facesim_greedy_antelopev2"
        ),
        "copy_paste@strict[antelopev2]": "identity.copy_paste:copy_paste_antelopev2",
        "copy_paste@strict[buffalo_l]": "identity.copy_paste:copy_paste_buffalo_l",
        "facediv@ibench[antelopev2]": "identity.facediv:FaceDivIBench",
        "clip_i.vs_base@ibench[clip-l14]": "identity.image_similarity:clip_i_vs_base_ibench",
        "clip_i.vs_base@strict[clip-l14]": "identity.image_similarity:clip_i_vs_base_strict",
        "clip_i.vs_ref@strict[clip-b32]": "identity.image_similarity:clip_i_vs_ref",
        "clip_i.vs_gt@strict[clip-b16]": "identity.image_similarity:clip_i_vs_gt",
        "dino@ibench[dinov2-base]": "identity.image_similarity:dino_ibench",
        "dino@strict[dino-vits16]": "identity.image_similarity:dino_vits16",
        "dino@strict[dino-vits8]": "identity.image_similarity:dino_vits8",
        "dino@strict[dinov2-small]": "identity.image_similarity:dinov2_small",
        "fgis@ibench[dinov2-base]": "identity.image_similarity:FgisIBench",
        "fgis@strict[dinov2-base]": "identity.image_similarity:FgisStrict",
        "clip_i.vs_ref_masked@strict[clip-b32]": (
            "identity.subject_similarity:clip_i_vs_ref_masked"
        ),
        "dino_masked@strict[dino-vits8]": "identity.subject_similarity:dino_masked",
        "clip_i.vs_ref_masked@strict[clip-b32-masks]": (
            "identity.subject_similarity:clip_i_vs_ref_masks"
        ),
        "dino_masked@strict[dino-vits8-masks]": "identity.subject_similarity:dino_masks",
        "dreamsim@strict[ensemble]": "identity.image_similarity:DreamSimDistance",
        "posediv@ibench[hopenet]": "editability.posediv_hopenet:PosedivIBench",
        "posediv@strict[hopenet]": "editability.posediv_hopenet:PosedivStrict",
        "headpose@strict[hopenet]": "editability.posediv_hopenet:HeadPoseHopenet",
        "exprdiv@ibench[fer-vgg19]": "editability.exprdiv:ExprdivIBench",
        "exprdiv@strict[fer-vgg19]": "editability.exprdiv:ExprdivStrict",
        "expr@strict[resemotenet]": "editability.expr:expr_resemotenet",
        "expr@strict[fer-vgg19]": "editability.expr:expr_fer_vgg19",
        "expr@strict[hsemotion]": "editability.expr:expr_hsemotion",
        "pose@strict[insightface]": "editability.pose:Pose",
        "clip_t@ibench[clip-l14]": "text.clip_t:ClipTIBench",
        "clip_t@strict[clip-l14]": "text.clip_t:clip_t_l14",
        "clip_t@strict[clip-b32]": "text.clip_t:clip_t_b32",
        "clip_t@strict[clip-b16]": "text.clip_t:clip_t_b16",
        "clip_t@strict[clip-h14]": "text.clip_t:clip_t_h14",
        "clip_t_delta@strict[clip-l14]": "text.clip_t:ClipTGain",
        "clip_s@strict[clip-b16]": "text.clip_s:clip_s_b16",
        "clip_s@strict[clip-b32]": "text.clip_s:clip_s_b32",
        "i_reward@strict[image-reward]": "text.i_reward:IReward",
        "aesthetic@ibench[laion-linear]": "quality.aesthetic:AestheticIBench",
        "aesthetic@strict[laion-linear]": "quality.aesthetic:aesthetic_linear",
        "aesthetic@strict[laion-mlp]": "quality.aesthetic:aesthetic_mlp",
        "image_quality@ibench[musiq-spaq]": "quality.image_quality:image_quality_ibench",
        "image_quality@strict[musiq-spaq]": "quality.image_quality:image_quality_spaq",
        "image_quality@strict[musiq-koniq]": "quality.image_quality:image_quality_koniq",
        "clip_iqa@strict[clip-rn50]": "quality.clip_iqa:ClipIQAMetric",
        "sharpness@strict[laplacian]": "quality.sharpness:SharpnessLaplacian",
    }.items()
}

# The same for metrics of a set of images, which give a SetMetric.
SET_METRICS: Mapping[str, str] = {
    "fid@ibench[inception]": "idbench.metrics.quality.fid:fid_ibench",
    "fid@strict[inception]": "idbench.metrics.quality.fid:fid_strict",
    "kid@strict[inception]": "idbench.metrics.quality.fid:Kid",
    "expr_entropy@strict[fer-vgg19]": "idbench.metrics.editability.expr_entropy:ExprEntropy",
}

# What IBench's shipped configuration prints, and what its tables in the papers hold.
IBENCH: tuple[str, ...] = (
    "facesim@ibench[antelopev2]",
    "antifacesim@ibench[antelopev2]",
    "landmarkdiff@ibench[mtcnn]",
    "posediv@ibench[hopenet]",
    "exprdiv@ibench[fer-vgg19]",
    "clip_i.vs_base@ibench[clip-l14]",
    "clip_t@ibench[clip-l14]",
    "aesthetic@ibench[laion-linear]",
    "image_quality@ibench[musiq-spaq]",
    "fid@ibench[inception]",
)

GROUPS: Mapping[str, tuple[str, ...]] = {
    "ibench": IBENCH,
    "ibench_all": (
        *IBENCH,
        "dino@ibench[dinov2-base]",
        "fgis@ibench[dinov2-base]",
        "facediv@ibench[antelopev2]",
    ),
    "dynamicid": (
        "facesim@strict[facenet]",
        "multi_facesim_greedy@strict[facenet]",
        "expr@strict[resemotenet]",
        "pose@strict[insightface]",
        "clip_t@strict[clip-l14]",
    ),
    "editedid": (
        "id_sim@strict[antelopev2]",
        "clip_s@strict[clip-b16]",
        "i_reward@strict[image-reward]",
    ),
    "flexip": (
        "clip_t@strict[clip-b32]",
        "clip_i.vs_ref_masked@strict[clip-b32]",
        "dino_masked@strict[dino-vits8]",
        "clip_iqa@strict[clip-rn50]",
        "aesthetic@strict[laion-mlp]",
    ),
}
