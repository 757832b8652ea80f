"""Evaluation of encoders and collections."""
