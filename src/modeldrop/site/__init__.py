"""Pages of a registry, as files: ``modeldrop site`` writes them, and publishing keeps them up to date.

    index.html                  the registry: every model, its channels, sizes and health
    m/<model>/index.html        a model: channels, charts, its newest versions
    m/<model>/versions-<n>.html older versions
    m/<model>/v<n>.html         a version
    m/<model>/data-<n>.js       what is known of some versions: for comparisons, and for the next update
    compare.html                two versions of a model beside each other
    style.<hash>.css, site.<hash>.js

They work from a folder, a bucket or a web server, and without JavaScript. What a registry holds is text of others:
Jinja2 escapes it, no value is marked as safe, and each page's policy lets no script run but the one beside it.
"""
