"""The connection to Label Studio: push requests as items, pull annotations as labels. Its "task" is an *item* here.

May import every other room of curation but `fiftyone_app`.
"""
