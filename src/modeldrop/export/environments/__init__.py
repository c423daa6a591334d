"""Environments that modeldrop makes itself: to plan, to run graphs, and one for each exporter.

Standard library only: the action starts here before anything is installed.
"""
