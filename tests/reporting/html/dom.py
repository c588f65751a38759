"""A page as a tree, from the standard library's parser: enough to find elements and read their texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: Element | None = field(default=None, repr=False)
    children: list[Element | str] = field(default_factory=list, repr=False)

    @property
    def text(self) -> str:
        """All text below, with single blanks."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        return "".join(child if isinstance(child, str) else child.raw for child in self.children)

    def __iter__(self):
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child

    def find(self, tag: str, of_class: str = "", **attributes: str) -> list[Element]:
        """Elements below; a dash in an attribute's name is written as an underscore."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            each
            for each in self
            if each.tag == tag
            and (not of_class or of_class in each.attributes.get("class", "").split())
            and all(each.attributes.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str, of_class: str = "", **attributes: str) -> Element:
        (found,) = self.find(tag, of_class, **attributes)
        return found

    def table(self) -> list[list[str]]:
        """Texts of the cells of the rows of a table's body."""
        rows = [row for body in self.find("tbody") for row in body.find("tr")]
        return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in rows]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.at = Element("", {})

    def handle_starttag(self, tag, attributes):
        element = Element(tag, {name: value or "" for name, value in attributes}, self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag, attributes):
        self.at.children.append(Element(tag, {name: value or "" for name, value in attributes}, self.at))

    def handle_endtag(self, tag):
        assert self.at.tag == tag, f"</{tag}> inside <{self.at.tag}>"
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.children.append(data)


def parse(page: str) -> Element:
    """The tree of a page; fails where an element is not closed."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.at is parser.root, f"<{parser.at.tag}> is not closed"
    return parser.root
