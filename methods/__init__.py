"""Image generation methods: pipelines, baselines and wrappers."""
