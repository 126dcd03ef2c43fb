"""The edge to Label Studio: items are pushed, annotations are pulled. Its "task" is an *item* here.

May import every other room of curation but `fiftyone_app`.
"""
