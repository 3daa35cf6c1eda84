"""Buttons that lead to the repository, once its address is in the configuration."""

from sphinx.application import Sphinx
from sphinx.config import Config


def add_buttons(app: Sphinx, config: Config) -> None:
    """Set the theme's options from the address; without one there are no buttons."""
    if config.repository_address:
        config.html_theme_options |= {
            "repository_url": config.repository_address,
            "repository_branch": config.repository_branch,
            "path_to_docs": "book",
            "use_repository_button": True,
            "use_issues_button": True,
            "use_edit_page_button": True,
            "launch_buttons": {
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
                "notebook_interface": "jupyterlab",
            },
        }


def to_source(buttons: list[dict]) -> None:
    """Let buttons that lead to an executed copy lead to its source, from which it is made."""
    for button in buttons:
        if "url" in button:
            button["url"] = button["url"].replace("/book/executed/", "/notebooks/")
        to_source(button.get("buttons", []))


def point_to_sources(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Mend the buttons of a chapter."""
    if app.config.repository_address and page.startswith("executed/"):
        to_source(context.get("header_buttons", []))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the two settings."""
    app.add_config_value("repository_address", "", "html", str)
    app.add_config_value("repository_branch", "main", "html", str)
    app.connect("config-inited", add_buttons)
    app.connect("html-page-context", point_to_sources, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
