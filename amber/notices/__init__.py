"""Notices: what happened that somebody may want to know, who wants to know it, and its delivery by webhook and mail.

    notice.py                            one notice, and whom it concerns
    events.py regressions.py losses.py   what happened after a commit, from the catalog and the files of a workspace
    choices.py settings.py               what each person chose; the mail server
    webhook.py mail.py conversation.py   the two channels
    outbox.py background.py              what is to be sent and was sent; sending it beside the service

It may import everything below `amber`, `amber.service.secret_files`, `amber.comparison_tables`, and nothing of
`amber.verbs`.
"""
