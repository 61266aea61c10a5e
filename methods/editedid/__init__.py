"""EditedID: restores facial identity in edited portraits, training-free, on SD 1.4.

Paper: "Optimizing ID Consistency in Multimodal Large Models: Facial Restoration via Alignment,
Entanglement, and Disentanglement", arXiv 2602.18752, ICLR 2026. Official repository:
NDYBSNDY/EditedID at 9670b5c (MIT; the attention utilities and the sequence aligner; the notebook
that drives them is not published). Base weights: CompVis/stable-diffusion-v1-4, CreativeML
OpenRAIL-M.

What is read in the released code is matched tensor for tensor: sequence alignment, word windows,
mask regions, the feature gate. What the paper lost or the notebook keeps is reconstructed and is
a parameter of `config.EditedIDConfig`: the learning rate of the mixing weight, the range of the
second-order solver, the branch and the layers of the gate, the null embedding of the target. The
driver of null-text optimisation follows null-text inversion (Mokady et al. 2023). Multi-person
restoration, which the paper describes as an external pipeline, runs all faces as one batch here.
"""
