"""Hypothesis profiles: ``ci`` repeats exactly; ``hunt`` looks for new counterexamples for as long as it takes.

A headless Chromium for pages, where Playwright and a browser are installed.

``--list-skipped=FILE`` notes the skipped tests; ``python -m pytest @FILE`` runs these, with more packages.
"""

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("hunt", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser):
    parser.addoption("--list-skipped", metavar="FILE", help="write the ids of the skipped tests and modules to a file")


def pytest_configure(config):
    path = config.getoption("--list-skipped")
    if path and not hasattr(config, "workerinput"):  # the processes of pytest-xdist report to the one that has the file
        config.pluginmanager.register(SkippedTests(path))


def pytest_collection_modifyitems(items):
    if changing := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"ids with addresses differ between the processes of a run: {changing}")


class SkippedTests:
    """Write the id of each skipped test, and of each skipped module, to a file."""

    def __init__(self, path):
        self.path, self.ids = path, {}

    def note(self, report):
        if report.skipped and not hasattr(report, "wasxfail"):
            self.ids[report.nodeid] = True

    pytest_runtest_logreport = pytest_collectreport = note

    def pytest_sessionfinish(self):
        with open(self.path, "w") as file:
            file.writelines(f"{id}\n" for id in self.ids)


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright, which drives a browser")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
