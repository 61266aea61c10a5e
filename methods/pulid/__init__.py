"""PuLID-FLUX: an image of a person from one photo, on FLUX.1-dev.

Paper: "PuLID: Pure and Lightning ID Customization via Contrastive Alignment", arXiv 2404.16022; the
FLUX variant is documented by its official repository alone (ToTheBeginning/PuLID, Apache-2.0). None
of its code is used here; key names and shapes of its checkpoints are.

A photo becomes a raw ArcFace vector and EVA-CLIP features of the aligned, whitened, grey face; an
encoder (IDFormer) makes 32 tokens of them, and 20 cross-attention modules add these to the image
stream behind every second double and every fourth single block, by forward hooks.

Where diffusers and the official sampler differ, the sampler is followed: the noise level is rounded
once, true guidance has an identity of its own, T5 takes 128 tokens. README.md in this folder has
sources and licences of the weights, what was inferred, and how to reproduce the papers' rows.
"""
