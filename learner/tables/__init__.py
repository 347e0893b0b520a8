"""Embedding tables that grow, admit and evict."""
