"""Kixo's Batch API: accept product-analytics events, keep them, and answer questions about them."""

__version__ = "0.1.0"
