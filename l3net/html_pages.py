"""How HTML pages are filled in: strangers' words are escaped, and a missing name is told."""

import jinja2


def environment(package: str) -> jinja2.Environment:
    """Makes what renders the templates of a package.

    Args:
        package: of ours, with a folder `templates`.

    Returns:
        The environment: autoescape on, undefined names raise.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
