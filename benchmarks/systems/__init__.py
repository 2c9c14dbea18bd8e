"""What is measured: one system a file, with what it promises.

Law: a system starts and ends its own processes and says where its callers sit: threads of the
leader's process ("local") or of another one ("remote"). What is not installed says so.
"""
