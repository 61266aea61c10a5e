"""FlexIP: preservation and personalization adapters with a dynamic gate, on Stable Diffusion 1.5.

Paper: "FlexIP: Dynamic Control of Preservation and Personality for Customized Image Generation",
arXiv 2504.07405 (Huang, Lin, Zhou, Xiao; Tencent AIPD). No code and no weights are public; this is
an implementation from the paper, and what the paper leaves open is decided here.

The preservation adapter resamples learnable queries and CLIP class tokens against DINOv2 patches
of the reference (equation 2), the personalization adapter resamples text tokens against the class
tokens (equation 3), and a gate gamma weighs the two (equation 4): 1 is all preservation, 0 is all
personalization.

Decisions, each with a setting where another choice is worth a try:

- P has 17 tokens and S has 77, so the sum of equation 4 is not taken over tokens. Every
  cross-attention of the UNet gets two more branches beside its frozen text attention, and the sum
  is taken over their outputs: W_o (A_text + s (gamma A_P + (1 - gamma) A_S)) + b_o. The output is
  affine in gamma, s = 0 is Stable Diffusion to the last bit, and `text_branch="replace"` drops
  A_text.
- The resampler is the perceiver of IP-Adapter-Plus: 4 layers, 12 heads of 64, width 768, 16
  learnable queries. Its keys are the retrieval tokens and the queries, as in the paper's equation.
- Z_C is the projected image embedding of CLIP (`clip_cls="hidden"` is the class token before the
  projection). The reference is padded to a square with white and seen at 224 pixels.
- Several references of one subject: their patches are retrieved from together, and each adds one
  class query (`multi_reference="mean"` averages tokens instead).
- The unconditional half of the guidance has zero features in place of both encoders' outputs.
- In training gamma is 0.9 for images and 0.1 for video and multi-view samples; exact 1 and 0 would
  leave one adapter without gradient and every gamma between untrained.
"""
