"""Plans: which images are drawn, in which order and with which weights, and what each task gets.

May import `samplers.pack` and the rooms below it.
"""
