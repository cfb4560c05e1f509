"""Counting words, and showing what was counted."""
