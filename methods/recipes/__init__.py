"""Methods that are data: YAML recipes for pipelines of diffusers and for programs of others."""
