"""Evaluations of both papers. Networks are seen only as SavedModels."""
