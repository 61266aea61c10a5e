"""FlexID (Li and Ding, arXiv 2602.07554), on FLUX.1-dev.

No code or weights of the authors are public. The semantic identity projector takes the fuser that
FaceCLIP (bytedance/FaceCLIP, Apache-2.0, weights CC BY-NC 4.0) released for FLUX, the visual
feature anchor is PuLID-FLUX, as in the paper. Where the paper gives no number (intent dictionary,
eta_up, eta_down, time unit, normalisation of the schedules and of the residual) the choice is this
project's: each is a parameter with its reason beside it.
"""
