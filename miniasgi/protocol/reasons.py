"""The reason phrases of answers (RFC 9110 section 15), which HTTP/1.1 alone still has."""

from http import HTTPStatus

REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
# As RFC 9110 has them; http.HTTPStatus does from Python 3.13 on.
REASONS |= {413: b"Content Too Large", 414: b"URI Too Long", 422: b"Unprocessable Content"}
