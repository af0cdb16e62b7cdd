"""Sphinx's settings for the site, and how it shows a file of code as a page."""

from pathlib import Path

from docutils import nodes
from sphinx.parsers import Parser

project = "Distilling BERT into a BiLSTM"
html_title, root_doc, language = project, "README", "en"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
exclude_patterns = ["tools/site/*.md"]
html_theme = "furo"
html_favicon, html_css_files, html_js_files = "static/icon.svg", ["site.css"], ["drawings.js"]
html_copy_source = html_show_copyright = html_use_index = False
mathjax_path = "mathjax.js"
myst_enable_extensions = ["alert", "amsmath", "dollarmath", "html_image"]
myst_heading_anchors = 4
nb_execution_mode, nb_merge_streams = "off", True
nb_code_prompt_show, nb_code_prompt_hide = "Show code", "Hide code"
# drawings.js draws mermaid; pages of code, and pages that nobody lists, are reached by links.
suppress_warnings = ["misc.highlighting_failure", "toc.not_included", "myst.header"]


class Code(Parser):
    """Makes a page of a file of code."""

    supported = ("code",)

    def parse(self, inputstring, document):
        """Fill the document with a title and the code."""
        env = document.settings.env
        path = Path(env.doc2path(env.docname))
        section = nodes.section(ids=["code"])
        section += nodes.title(text=path.relative_to(env.srcdir).as_posix())
        section += nodes.literal_block(inputstring, inputstring, language=path.suffix[1:])
        document += section
        env.metadata[env.docname]["orphan"] = True


def setup(app):
    """Register the pages of code."""
    app.add_source_suffix(".py", "code")
    app.add_source_suffix(".yaml", "code")
    app.add_source_parser(Code)
