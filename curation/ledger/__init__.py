"""The ledger: commits of label events, and what they say at any of them."""
