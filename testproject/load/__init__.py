"""The test project under load, while its store falls ill, releases change and caches are cleared.

python -m testproject.load [--seconds 300] [--json FILE]
"""
