"""Encode, index and search documents, pictures and code in many languages."""
