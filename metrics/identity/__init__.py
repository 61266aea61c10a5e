"""Metrics of preservation: is it still the same person?"""
