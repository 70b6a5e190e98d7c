"""Figures of what networks learnt, a module for each figure of the papers."""
