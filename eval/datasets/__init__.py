"""Datasets in their publishers' layouts: one module each."""
