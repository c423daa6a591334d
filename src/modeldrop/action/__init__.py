"""The GitHub Action: ``action.yml`` at the repository's root runs ``python -m modeldrop.action STEP``.

``check`` and ``install`` need nothing but the standard library: they run before anything is installed.

    check     read the inputs; refuse wrong ones before anything is installed or downloaded
    install   make the small environment: the client of the source, the registries' SDKs, no exporter
    plan      find out whether anything is to be built; publish what needs no build, or was built by an earlier step
    exporter  make the exporter's environment: torch, optimum
    build     build; publish too, unless that is a phase of its own
    report    the outputs, whatever happened before; the job summary too, unless
    show      is to write it, with the address of what was uploaded meanwhile, and the comment on the pull request
"""
