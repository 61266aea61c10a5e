"""Metrics of editability: did pose, expression and geometry move?"""
