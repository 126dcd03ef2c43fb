"""The JSON API, a router a noun, in parity with the pages.

May import the rooms of facts, models and images; no page.
"""
