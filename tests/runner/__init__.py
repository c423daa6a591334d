"""A small GitHub runner: it executes a composite action, or a job's steps, as actions/runner does on a machine.

What follows actions/runner's source: the order of steps and their conditions, env at every level, the shells'
command lines, workflow commands in what steps print, the files behind GITHUB_OUTPUT and its siblings, masks,
outcomes and conclusions. GitHub's own packages read the files and evaluate the expressions (``expressions``).
What cannot run here is replaced by stubs (``action_stubs``): actions written in JavaScript, and GitHub's services.
"""
