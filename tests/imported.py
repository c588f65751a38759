"""Imported before any test, by the process that runs it.

Inner pytest runs forget the modules that they were the first to import: torch cannot be imported twice, and the others
would take seconds each time.
"""

import gc

import timm.models.vision_transformer  # noqa: F401

import probebench.datasets.embedded
import probebench.datasets.views
import probebench.measure.availability
import probebench.measure.run
import probebench.plugin.collection
import probebench.plugin.finish
import probebench.plugin.fixture
import probebench.plugin.junit
import probebench.plugin.terminal
import probebench.probes.logistic
import probebench.probes.logistic_path
import probebench.probes.sklearn_logistic
import probebench.reporting.terminal.heat_map
import probebench.reporting.terminal.progress  # noqa: F401

# Every inner run looks for garbage several times, and need not look at all that was just imported.
gc.collect()
gc.freeze()
