"""DynamicID: zero-shot multi-ID personalization with editable faces, on Stable Diffusion 1.5.

Paper: "DynamicID: Zero-Shot Multi-ID Image Personalization with Flexible Facial Editability",
ICCV 2025, arXiv 2503.06505. Official repository: ByteCat-bot/DynamicID (commit 0cd30a5); it states
no licence, and none of its code is used here. Its checkpoints are in meteorite2023/DynamicID.

A face encoder (ArcFace vector and CLIP-ViT-H tokens) gives 4 tokens per person; the
identity-motion reconfigurator (IMR) changes their expression and orientation; semantic-activated
attention (SAA) adds them to every cross-attention of the UNet through a gate per query.

Where the paper and the official code differ, weights trained with the code decide:

- gates below 0.3 are set to 0, LoRA of rank 128 sits on all 32 attentions, the gate sums over
  heads and over everybody's tokens, losses are means (the code);
- the layout term is on for alpha = 0.24 of the steps with beta = 2 (the paper; the code's call
  defaults are 3 steps, 4, and the gate off);
- the heads of the IMR are split as the code means to: its published forward raises.

What neither fixes is decided here, and each decision has a switch: the reference is cropped to a
square of 1.6 times the face box (`face_crop="none"` is the code), colours are BGR for every face
network (`legacy_rgb_embedding` is the code), one person without a box gets no layout term
(`legacy_full_frame_layout` is the code), overlapping boxes share their queries (the code gives
NaN), a constant gate is 0 (NaN), a reference without a face is an error (a zero vector).

Tables 1 and 2 of the paper, once the files are there (`idbench method check dynamicid` names what
is absent; the released weights were presumably trained with the two legacy switches):

    idbench run --suite dynamicid-single --method dynamicid --device cuda --dtype float16
    idbench run --suite dynamicid-multi --method dynamicid --device cuda --dtype float16 \
        --method-args legacy_rgb_embedding=true face_crop=none

Training: `idbench train dynamicid-saa` and then `dynamicid-imr`; `train_saa.py` and `train_imr.py`
show a configuration each. VariFace-10k and LAION-Face are not distributed here.
"""
