"""The report: the study's data in; a page, CSVs, LaTeX and figures out. `page.render` writes it."""
