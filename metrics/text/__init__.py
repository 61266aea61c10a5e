"""Metrics of what the prompt asked for: is it in the image?"""
