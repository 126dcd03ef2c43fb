"""The JSON API, a router a noun: for machines, and in parity with the pages."""
