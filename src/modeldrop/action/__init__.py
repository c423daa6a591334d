"""The GitHub Action: ``action.yml`` at the repository's root runs ``python -m modeldrop.action STEP``.

``check`` and ``install`` need nothing but the standard library: they run before anything is installed.

    check     read the inputs; refuse wrong ones before anything is installed or downloaded
    install   make the small environment: the client of the source, the registries' SDKs, no exporter
    plan      is anything to be built? If not, publish what needs no build; if a build was made before, publish it
    exporter  make the exporter's environment: torch, optimum
    build     build; publish, if that is wished in the same go
    report    the outputs and the job summary, whatever happened before
"""
