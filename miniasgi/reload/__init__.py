"""`miniasgi serve APP --reload`: the application is loaded anew whenever its code changes.

A parent has the listening sockets and never loads the application; a child, a fresh interpreter each time,
serves on them. In reading order: `watch` tells of code that has changed, `child` is what a child inherits and
how it ends with its parent, `parent` replaces one child by the next.
"""
