"""What is known, and what people do: functions that routes and pages call alike.

May import the rooms of models and images, and the workspace (`access.py`); no route and no page.
"""
