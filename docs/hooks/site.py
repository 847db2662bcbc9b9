"""What mkdocs cannot know by itself: the API reference, the changelog, MathJax, links to names.

The pages of the API reference follow from the lists `__all__` (of `__init__.pyi` for `hdjax`).
They are read and not imported: a new public name is on the site without an edit.
"""

import ast
import importlib.util
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
# Modules without a name in `hd.` that users import: those of authors of families, and of configs.
MORE = ("hdjax.clocks", "hdjax.config", "hdjax.registry", "hdjax.system")
# Pages of the site that are files of the root.
OF_THE_ROOT = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}


def file_of(module):
    """The source file of a module, or None if there is no such module."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path / "__init__.pyi", path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.exists()), None)


def parse(module):
    """The statements of a module."""
    return ast.parse(file_of(module).read_text()).body


def public(module):
    """The public names of a module: `__all__`, or else what it defines without an underscore."""
    for node in parse(module):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    names = [n.name for n in parse(module) if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return [name for name in names if not name.startswith("_")]


def origin(module, name):
    """The full name of what a module shows as `name`: a definition, or a module."""
    for node in parse(module):
        if isinstance(node, ast.ImportFrom) and name in [a.asname or a.name for a in node.names]:
            package = "hdjax." * bool(node.level) + (node.module or "")
            source = package.rstrip(".")
            # `from . import streaming`, and `from hdjax.streaming import losses` in it.
            return f"{module}.{name}" if source == module else origin(source, name)
    return f"{module}.{name}"


def is_module(name):
    """Whether a full name is that of a module, where a function may have the name of its file."""
    return file_of(name) is not None


def reference():
    """{module as users write it: {name: its definition}}, in the order of the navigation."""
    pages, waiting = {}, [("hdjax", "hdjax")]
    while waiting:
        shown, module = waiting.pop(0)
        found = {name: origin(module, name) for name in public(module)}
        pages[shown] = {name: path for name, path in found.items() if not is_module(path)}
        inner = [(f"{shown}.{n}", path) for n, path in found.items() if is_module(path)]
        waiting = inner + waiting
    known = {path for names in pages.values() for path in names.values()}
    for module in MORE:
        found = {name: origin(module, name) for name in public(module)}
        pages[module] = {name: path for name, path in found.items() if path not in known}
    return pages


REFERENCE = reference()


def entry_of(module, name):
    """The name by which mkdocstrings finds what `module` shows as `name`."""
    shown, path = f"{module}.{name}", REFERENCE[module][name]
    # What is defined in a file of its own name goes by its definition, as does `hd.paths`, which
    # is a module of the engine.
    return path if file_of(shown) or not file_of(module) else shown


ENTRIES = {
    f"{module}.{name}": entry_of(module, name) for module in REFERENCE for name in REFERENCE[module]
}


def page_of(module):
    """The address of the page of a module."""
    return f"api/{module.removeprefix('hdjax.')}.md"


def title_of(module):
    """A module as users write it."""
    return module if module in MORE else module.replace("hdjax", "hd", 1)


def text_of(module):
    """The Markdown of the page of a module: its docstring, then each of its names."""
    source = module if file_of(module) else origin("hdjax", module.removeprefix("hdjax."))
    hidden = "members: false, show_root_heading: false, show_root_toc_entry: false"
    entries = [f"::: {entry_of(module, name)}\n" for name in REFERENCE[module]]
    return "\n".join(
        [f"# `{title_of(module)}`\n\n::: {source}\n    options: {{ {hidden} }}\n", *entries]
    )


def on_config(config):
    """Put the pages of the reference into the navigation, those of a family together."""
    groups = {}
    for module in REFERENCE:
        groups.setdefault((module + ".").split(".")[1], []).append(module)
    entries = [{"Overview": "api.md"}]
    for modules in groups.values():
        pages = [{title_of(module): page_of(module)} for module in modules]
        entries += [{title_of(modules[0]): pages}] if len(pages) > 1 else pages
    place = [next(iter(entry)) for entry in config.nav].index("Help")
    config.nav.insert(place, {"API": entries})
    return config


def of_the_root(file):
    """A page that lies in the root of the repository, with its links as they are in the site."""
    text = (ROOT / file).read_text().replace("](docs/", "](")
    for page, other in OF_THE_ROOT.items():
        text = text.replace(f"]({other})", f"]({page})")
    return text.replace("[LICENSE](LICENSE)", "LICENSE")


def on_files(files, config):
    """Add the pages of the reference, the changelog and MathJax to the files of the site."""
    made = {page_of(module): text_of(module) for module in REFERENCE}
    made |= {page: of_the_root(file) for page, file in OF_THE_ROOT.items()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    # A wheel with the files of MathJax, of which Django is no part.
    package = Path(importlib.util.find_spec("mathjax").origin).parent
    source = package / "static" / "mathjax" / "es5" / "tex-svg.js"
    files.append(File.generated(config, "mathjax.js", abs_src_path=str(source)))
    return files


def on_page_markdown(markdown, page, config, files):
    r"""Write escapes such as `\<`, which Python-Markdown does not know, as entities."""
    return markdown.replace("\\<", "&lt;").replace("\\>", "&gt;")


CODE = re.compile(r"(<a [^>]*>)?<code>([A-Za-z][\w.]*)(\([^<]*\))?</code>")


def entry(name, called, module):
    """The entry that a name in code means on a page about `module`, or None.

    `hd.streaming.OnePassSGD.theta` means its class.  A class, or a function with its arguments, may
    lack its module on the pages of this module and of its family, if one entry alone has the name.
    """
    name = re.sub(r"^hd\.", "hdjax.", name)
    if name.startswith("hdjax."):
        while name not in ENTRIES and "." in name:
            name = name.rpartition(".")[0]
        return ENTRIES.get(name)
    if module not in REFERENCE or not (called or name[0].isupper()):
        return None
    for inside in (module, ".".join(module.split(".")[:2])):
        if f"{inside}.{name}" in ENTRIES:
            return ENTRIES[f"{inside}.{name}"]
        same = re.compile(rf"{inside}\.\w+\.{name}")
        found = {path for shown, path in ENTRIES.items() if same.fullmatch(shown)}
        if len(found) == 1:
            return found.pop()
    return ENTRIES.get(f"hdjax.{name}")


# Code and formulas, which are left as they are, and tags.
KEPT = re.compile(
    r"(<pre.*?</pre>|<code.*?</code>"
    r"|<(?:span|div) class=\"arithmatex\">.*?</(?:span|div)>|<[^>]*>)",
    re.DOTALL,
)
GREEK = "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|xi|rho|sigma|tau|phi|omega"
INDEX = re.compile(rf"(?<![\w.])({GREEK}|[^\W\d_])_(?:\{{([^}}]*)\}}|([a-z0-9]{{1,4}})(?![\w(]))")
POWER = re.compile(r"(?<=[\w)\]|⟩*>])\^(?:\{([^}]*)\}|(-\d+/\d+|-?\d+|[a-zA-Z*])(?!\w))")


def raised(text):
    """Plain text with its indices and powers, such as x_0 and d^{-1/2}, as HTML shows them."""
    text = INDEX.sub(lambda m: f"{m[1]}<sub>{m[2] or m[3]}</sub>", text)
    return POWER.sub(lambda m: f"<sup>{m[1] or m[2]}</sup>", text)


def on_page_content(html, page, config, files):
    """Link names to their entries, and typeset what is written as in plain text."""
    parts = KEPT.split(html)
    parts[::2] = map(raised, parts[::2])
    module = f"hdjax.{Path(page.file.src_uri).stem}".replace("hdjax.hdjax", "hdjax")

    def link(match):
        found = None if match[1] else entry(match[2], match[3], module)
        return f'<autoref identifier="{found}">{match[0]}</autoref>' if found else match[0]

    return CODE.sub(link, "".join(parts))
