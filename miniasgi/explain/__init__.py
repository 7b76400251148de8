"""Errors that teach: what is said of an application that is wrong, and by which of its lines.

`messages` has what an application may send, and the text for what it may not; `frames` whose line it was;
`shown` any value in one line; `awaits` a call without `await`; `application` what is no application;
`refusal` who does not support a type of scope. Next to nothing of it runs while an application is right.
"""
