"""Makes docs/tutorial.ipynb of docs/tutorial.py, and executes it.

    python docs/execute_tutorial.py

In a fresh folder; needs the extra `docs`. The outputs are stored, figures as small PNGs;
`--no-execute` leaves them out. The source is a script whose cells begin with `# %%`, text with
`# %% [markdown]`.
"""

import os
import pathlib
import sys
import tempfile

import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def cells(source: str) -> list[tuple[str, str]]:
    """("markdown" or "code", text) of a script's cells, in order."""
    found = []
    for part in f"\n{source}".split("\n# %%")[1:]:
        head, _, body = part.partition("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        lines = body.strip("\n").split("\n")
        if kind == "markdown":
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        found.append((kind, "\n".join(lines)))
    return found


def make_notebook(source: str) -> nbformat.NotebookNode:
    """The notebook without outputs; cells' ids are their numbers, so differences stay small."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    made = [make[kind](text, id=str(i)) for i, (kind, text) in enumerate(cells(source))]
    return nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": KERNEL})


def execute(notebook: nbformat.NotebookNode) -> None:
    """Runs the cells in a fresh folder and keeps their outputs, in place."""
    os.environ.pop("UATMC_DATA", None)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()
    for cell in notebook.cells:
        cell.metadata.clear()  # when it was run
    notebook.metadata = {"kernelspec": KERNEL}


def main() -> None:
    """Writes the notebook beside its source."""
    notebook = make_notebook((HERE / "tutorial.py").read_text(encoding="utf-8"))
    if "--no-execute" not in sys.argv[1:]:
        execute(notebook)
    nbformat.write(notebook, HERE / "tutorial.ipynb")


if __name__ == "__main__":
    main()
