"""The suites that need no download: pictures derived from photographs that packages install."""
