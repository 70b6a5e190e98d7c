"""How HTML pages are filled in: strangers' words are escaped, and a missing name is an error."""

from typing import TYPE_CHECKING

from l3net.errors import needs_extra

if TYPE_CHECKING:
    import jinja2


def environment(package: str, *, extra: str) -> "jinja2.Environment":
    """Returns what renders the files in the folder `templates` of one of our packages.

    Raises:
        UserError: if Jinja is not installed, which the extra brings.
    """
    with needs_extra(extra, "an HTML page"):
        import jinja2
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
