"""PACS: each domain by itself, and with --probe-protocol=transfer@2 by a probe of photos."""

import pytest
from study_data import CONTROL, DOMAINS, MODEL, WEIGHTS, need

need(WEIGHTS, *(f"pacs/{domain}" for domain in DOMAINS))


@pytest.mark.probe(model=[MODEL, CONTROL], dataset=[f"pacs_{domain}" for domain in DOMAINS])
def test_domains(probe):
    probe.check()
