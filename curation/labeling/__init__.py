"""The edge to Label Studio: what is asked of people, and what comes back. Its "task" is an *item* here."""
