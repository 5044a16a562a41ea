"""Brings into the site what its pages link to outside docs/, so that one link serves both readers.

A page links as its reader in the repository needs it (`../configs/base.py`). Every such file, and
whatever a page among them links to in turn, becomes part of the site below `repository/`: pages and
code as pages, anything else as a copy. The links are rewritten to lead there.
"""

import logging
import pathlib
import posixpath
import re

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).resolve().parent.parent
PREFIX = "repository/"
LINK = re.compile(r"(\]\()([^)\s#]*)([^)\s]*\))")
HTML_LINK = re.compile(r'href="([^":#]+\.md)(#[^"]*)?"')
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LOG = logging.getLogger("mkdocs.plugins.site_hook")  # its warnings count under --strict
CODE = {".py": "python", ".toml": "toml", ".cff": "yaml", ".jsonl": "json", "": "text"}


def on_files(files: Files, config) -> Files:
    """Adds the files that are linked to, page by page until no page brings a new one."""
    waiting = [f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md")]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        for target in _targets(source, (ROOT / source).read_text(encoding="utf-8")):
            if target in seen or target.startswith("docs/") or not (ROOT / target).is_file():
                continue  # what is not there is left to mkdocs' own warning
            seen.add(target)
            files.append(_file(target, config))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page, files: Files, **_) -> str:
    """Rewrites the page's links to where their targets are on the site."""
    here = page.file.src_uri
    source = here.removeprefix(PREFIX) if here.startswith(PREFIX) else f"docs/{here}"

    def rewrite(match):
        start, link, rest = match.groups()
        target = _resolve(source, link)
        uri = _site_uri(target) if target else None
        if uri is None or files.get_file_from_path(uri) is None:
            return match.group(0)
        return start + posixpath.relpath(uri, posixpath.dirname(here) or ".") + rest

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(rewrite, part) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page, files: Files, **_) -> str:
    """Rewrites a notebook's links: they have become HTML before mkdocs could see them."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def rewrite(match):
        link, anchor = match.groups()
        target = files.get_file_from_path(_site_uri(_resolve(f"docs/{page.file.src_uri}", link)))
        if target is None:
            LOG.warning("%s links to %s, which is not there", page.file.src_uri, link)
            return match.group(0)
        return f'href="{target.url_relative_to(page.file)}{anchor or ""}"'

    return HTML_LINK.sub(rewrite, html)


def _targets(source, markdown):
    """The repository's files that a page links to."""
    prose = "".join(FENCE.split(markdown)[::2])
    found = (_resolve(source, link) for _, link, _ in LINK.findall(prose))
    return [target for target in found if target]


def _resolve(source, link):
    """A link's target as a path from the repository's root; None if it is no file's."""
    if not link or ":" in link or link.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _site_uri(target):
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return PREFIX + target + (".md" if pathlib.PurePosixPath(target).suffix in CODE else "")


def _file(target, config):
    uri, path = _site_uri(target), ROOT / target
    language = CODE.get(path.suffix)
    if language is None:
        return File.generated(config, uri, abs_src_path=str(path))
    text = path.read_text(encoding="utf-8")
    return File.generated(config, uri, content=f"# {target}\n\n````{language}\n{text}````\n")
