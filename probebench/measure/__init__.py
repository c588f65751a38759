"""One sweep (prepare, plan, extract, probe), and a run of many. No pytest."""
