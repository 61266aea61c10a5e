"""EditIDv2: PuLID-FLUX with lubricated cross-attention weights, for editable long prompts.

Paper: "EditIDv2: Editable ID Customization with Data-Lubricated ID Feature Integration for
Text-to-Image Generation", arXiv 2509.05659. Official repository: typemovie/EditIDv2; it publishes
training code and no weights. None of its code is used here.

Paper and repository describe two methods, and `mode` chooses:

- "released" is what the repository runs: PuLID-FLUX with other cross-attention weights;
- "paper" adds query decomposition (equations 6 to 8) and, with beta0 above 0, identity guidance
  (equation 11). Both are this project's reading, named as such in every record: the printed
  equation 6 exchanges query and key and does not fit the released shapes. A constant alpha of 1
  with beta0 = 0 is "released" to the last bit.

Training (`idbench train editidv2`) is the repository's flow matching with an identity term that
has a gradient (`id_loss="differentiable"`); the script's own has none, because it goes through
NumPy (`id_loss="official"`). `idbench fuse` joins trained files (equation 12). README.md of
`idbench.methods.pulid` has weights, licences and commands.
"""
