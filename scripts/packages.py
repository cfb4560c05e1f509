"""Twelve packages that people ask for most, from the registry, each doing real work inside of a sandbox.

`python scripts/packages.py`, with an interpreter that has the package and the tests' requirements. A server of its own
installs each into an environment of its own, then all of them into one. Exit status 1 where one can't be had or gives
another answer than it should. It needs a package index.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.api import Api
from tests.support.server import ServerProcess

TIMEOUT_SECONDS = 900.0
MEMORY_MB = 2048


@dataclass(frozen=True)
class Work:
    """What a package has to do; its last expression's value must be the answer."""

    code: str
    answer: str


WORK = {
    "numpy": Work(
        "import numpy as np\na = np.random.default_rng(1).normal(size=(300, 300))\n"
        "q, r = np.linalg.qr(a @ a.T)\nbool(np.allclose(q @ r, a @ a.T))",
        "True",
    ),
    "pandas": Work(
        "import pandas as pd\nf = pd.DataFrame({'who': list('abab'), 'n': range(4)})\n"
        "f.to_csv('f.csv')\nint(pd.read_csv('f.csv').groupby('who').n.sum()['b'])",
        "4",
    ),
    "scipy": Work(
        "import numpy as np\nfrom scipy import integrate, optimize, sparse\n"
        "s = sparse.linalg.spsolve(sparse.csc_matrix(np.diag([1., 2.])), [1., 2.])\n"
        "root = optimize.brentq(lambda x: x * x - 2, 0, 2)\n"
        "(round(root, 6), round(integrate.quad(np.sin, 0, np.pi)[0], 6), s.tolist())",
        "(1.414214, 2.0, [1.0, 1.0])",
    ),
    "matplotlib": Work(
        "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.title('Äpfel $x^2$')\nplt.savefig('plot.png')\n"
        "data = open('plot.png', 'rb').read()\n(data[:8], len(data) > 5000)",
        r"(b'\x89PNG\r\n\x1a\n', True)",
    ),
    "scikit-learn": Work(
        "from sklearn.cluster import KMeans\nfrom sklearn.datasets import load_iris\n"
        "from sklearn.ensemble import RandomForestClassifier\nX, y = load_iris(return_X_y=True)\n"
        "KMeans(3, n_init=2, random_state=0).fit(X)\n"
        "RandomForestClassifier(20, n_jobs=2, random_state=0).fit(X, y).score(X, y) > 0.95",
        "True",
    ),
    "sympy": Work(
        "import sympy\nx = sympy.symbols('x')\nsympy.integrate(sympy.exp(-x**2), (x, 0, sympy.oo))", "sqrt(pi)/2"
    ),
    "requests": Work(
        "import http.server, threading, requests\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "requests.get(f'http://127.0.0.1:{server.server_port}/main.py').text.splitlines()[0]",
        "'import http.server, threading, requests'",
    ),
    "pillow": Work(
        "from PIL import Image, ImageDraw, ImageFont\ni = Image.new('RGB', (64, 32))\n"
        "ImageDraw.Draw(i).text((2, 2), 'hi', font=ImageFont.load_default())\ni.save('i.jpg')\n"
        "(Image.open('i.jpg').size, i.getbbox() is not None)",
        "((64, 32), True)",
    ),
    "lxml": Work(
        "from lxml import etree, html\nt = html.fromstring('<p>a<b>c</b>')\n"
        "(t.xpath('//b/text()'), etree.tostring(etree.XSLT(etree.XML('<xsl:stylesheet version=\"1.0\" "
        'xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/"><x/></xsl:template>'
        "</xsl:stylesheet>'))(t)))",
        "(['c'], b'<x/>')",
    ),
    "pydantic": Work(
        "import pydantic\nclass P(pydantic.BaseModel):\n    x: int\n    when: 'str | None' = None\n"
        "P.model_rebuild()\ntry:\n    P(x='a')\nexcept pydantic.ValidationError as e:\n    n = e.error_count()\n"
        '(P.model_validate_json(\'{"x": "3"}\').x, n)',
        "(3, 1)",
    ),
    "polars": Work(
        "import polars as pl\nf = pl.DataFrame({'k': ['a', 'b', 'a'], 'v': [1, 2, 3]})\nf.write_parquet('f.parquet')\n"
        "pl.scan_parquet('f.parquet').group_by('k').agg(pl.col('v').sum()).sort('k').collect()['v'].to_list()",
        "[4, 2]",
    ),
    "pyarrow": Work(
        "import pyarrow as pa, pyarrow.compute as pc, pyarrow.dataset as ds, pyarrow.parquet as pq\n"
        "pq.write_table(pa.table({'n': list(range(100_000))}), 'n.parquet')\n"
        "pc.sum(ds.dataset('n.parquet').to_table(filter=ds.field('n') < 1000)['n']).as_py()",
        "499500",
    ),
}


class Report:
    """The table, and what was wrong."""

    def __init__(self) -> None:
        self.table = Table("package", "version", "made in s", "first run ms", "again ms", "answer", title="packages")
        self.failures: list[str] = []

    def add(self, name: str, first: dict[str, Any], again: dict[str, Any], seconds: float) -> None:
        """What two runs came to."""
        work = WORK[name]
        versions = {each["name"]: each["version"] for each in (first["environment"] or {}).get("packages", ())}
        is_right = first["result"] == again["result"] == work.answer
        if not is_right:
            said = {key: first[key] for key in ("error", "result", "stderr", "exit_code")}
            self.failures.append(f"{name}: {said}")
        made = seconds - (first["duration_ms"] or 0) / 1000
        self.table.add_row(name, versions.get(name, "-"), f"{made:.1f}", str(first["duration_ms"]),
                           str(again["duration_ms"]), "right" if is_right else "WRONG")  # fmt: skip


def run(api: Api, name: str, requirements: str) -> dict[str, Any]:
    """A package's work, as often as it is called."""
    return api.finished(
        api.submit(
            WORK[name].code,
            requirements_txt=requirements,
            eval_last_expr=True,
            config={"memory_mb": MEMORY_MB, "timeout_seconds": 120},
        ),
        seconds=TIMEOUT_SECONDS,
    )


def try_all(server: ServerProcess) -> int:
    """Each package by itself, then all in one environment; the exit status."""
    report = Report()
    with closing(Api(server.url)) as api:
        for name in WORK:
            began = time.monotonic()
            first = run(api, name, name)
            seconds = time.monotonic() - began
            report.add(name, first, run(api, name, name), seconds)
        together = "\n".join(WORK)
        began = time.monotonic()
        for name in WORK:
            answer = run(api, name, together)
            if answer["result"] != WORK[name].answer:
                report.failures.append(f"{name}, with all others: {answer['error']} {answer['stderr']}")
        seconds = time.monotonic() - began
    console = Console(width=100)
    console.print(report.table)
    console.print(f"All twelve in one environment, made and used by each of them: {seconds:.0f} s.")
    for failure in report.failures:
        console.print(failure, style="red", markup=False)
    return 1 if report.failures else 0


def main() -> int:
    """A server, and everything."""
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(Path(directory), max_memory_mb=16384, index_url="")
        server.start()
        try:
            return try_all(server)
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
