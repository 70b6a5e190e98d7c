"""How HTML pages are filled in: strangers' words are escaped, and a missing name is an error."""

import jinja2


def environment(package: str) -> jinja2.Environment:
    """Returns what renders the files in the folder `templates` of one of our packages."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
