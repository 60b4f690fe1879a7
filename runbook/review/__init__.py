"""Joins history, prices, questions and charts: for a notebook of analysis, and for the page of the cost review."""
