"""The runner of the GPU check: the standard library of Python 3.9 and what lies in the bundle, nothing else.

`clients` says what is run, `device` runs it on both sides, `judge` decides what an outcome is worth, `report` writes it down,
`main` puts these together. Only `device` starts processes.
"""
