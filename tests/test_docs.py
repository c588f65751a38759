"""Test that the links of the documentation work, its site can be built, and its reference has all public names."""

from __future__ import annotations

import io
import re
import shlex
import warnings
from contextlib import redirect_stderr
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

import probebench
from probebench import errors, probes
from probebench.plugin import hookspecs

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

PUBLIC = {
    *(f"probebench.{name}" for name in probebench.__all__),
    *(f"probebench.probes.{name}" for name in probes.__all__),
    *(
        f"probebench.errors.{name}"
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
    *(f"probebench.plugin.hookspecs.{name}" for name in vars(hookspecs) if name.startswith("pytest_")),
}
# The reference has it among the other errors.
PUBLIC.discard("probebench.ProbebenchError")


def anchors(page: Path) -> set[str]:
    """Compute the anchors that a code host gives the headings of a page."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in (tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"):
        slug = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        found.add(next(name for n in range(100) if (name := f"{slug}-{n}" if n else slug) not in found))
    return found


def broken(page: Path, root: Path) -> list[str]:
    """Find the links and pictures of a page that lead to no file or heading below `root`."""
    blocks = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    found = []
    for token in (part for block in blocks for part in block.children or ()):
        link = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if not link or re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not (target.is_relative_to(root) and target.exists()) or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert not broken(page, ROOT)


def test_links_that_lead_nowhere_are_found(tmp_path):
    root = tmp_path / "here"
    (root / "docs").mkdir(parents=True)
    (tmp_path / "out.md").touch()
    (root / "docs" / "b.md").write_text("# B: it's `b`\n## Twice\n## Twice\n", encoding="utf-8")
    page = root / "a.md"
    good = "[](docs/b.md) [](docs/b.md#b-its-b) [](docs/b.md#twice-1) [](docs) [](#a) [](https://example.org/x)"
    page.write_text(f"# A\n{good}\n[](b.md) [](docs/b.md#c) [](#b) ![](docs/b.png) [](../out.md)\n", encoding="utf-8")
    assert broken(page, root) == ["b.md", "docs/b.md#c", "#b", "docs/b.png", "../out.md"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site with the command of CONTRIBUTING.md into another folder; in this process, which has torch."""
    for module in ("sphinx", "myst_parser", "furo"):
        if find_spec(module) is None:
            pytest.skip(f"the site needs {module}: pip install 'probebench[docs]'")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    program, *options, folder = shlex.split(re.search(r"python -m sphinx .*?build/site", text)[0])
    assert (program, *options[:2], folder) == ("python", "-m", "sphinx", "build/site")
    from sphinx.cmd.build import build_main

    out, messages = tmp_path_factory.mktemp("site"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(messages), warnings.catch_warnings():
        patch.chdir(ROOT)
        warnings.simplefilter("ignore")  # Those of Python, about extensions; Sphinx's own are errors.
        code = build_main([*options[2:], "-q", str(out)])
    assert code == 0, messages.getvalue()
    return out


class Page(HTMLParser):
    """The resources that a page loads, its links, and its ids."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        if tag == "a":
            self.links.append(values.get("href") or "")
        else:
            self.loads += [values[name] or "" for name in ("src", "href", "data") if name in values]


def test_every_page_is_built_and_loads_nothing_from_elsewhere(site):
    pages = {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}
    for path in PAGES:
        assert path.relative_to(ROOT).with_suffix(".html").as_posix() in pages
    for name, page in pages.items():
        assert not [address for address in page.loads if re.match(r"(\w+:)?//", address)], name
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*[\"']?(\w+:)?//", text), path


def test_the_sites_own_folder_leads_to_the_home_page(site):
    assert Page(site / "index.html").links == ["docs/index.html"]
    assert "tutorial.html" in Page(site / "docs" / "index.html").links


def test_every_public_name_is_in_the_reference(site):
    documented = {one for path in (site / "docs" / "reference").glob("*.html") for one in Page(path).ids}
    assert not PUBLIC - documented
