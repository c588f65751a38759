"""Run records for people: terminal, markdown, LaTeX, CSV, HTML, figures, GitHub."""
