"""EditID: editable identity on PuLID-FLUX's weights; a reconstruction.

Paper: "EditID: Training-Free Editable ID Customization for Text-to-Image Generation", arXiv
2503.12526. No code was published. What is here follows from what EditIDv2's paper (arXiv
2509.05659, sections 1 and 3) says of it, and was compared with no output of the authors:

- soft integration: queries of the noise image, pooled to the shape of the identity tokens, are
  added to them and concatenated with them (`gamma`);
- mapping and shift features: gains on the five mapped scales of the encoder (`scale_gains`).

`gamma=0` with unit gains is PuLID. Records say what is reconstructed. README.md of
`idbench.methods.pulid` has weights, licences and commands.
"""
