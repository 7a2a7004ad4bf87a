"""What the numbers say: records and precision rows in, tables, figures and one page out. `python -m analysis VERB`."""
