"""Keyword count: how many times a keyword is queried in two streams of search queries."""

from .program import KEYWORD, build

__all__ = ["KEYWORD", "build"]
