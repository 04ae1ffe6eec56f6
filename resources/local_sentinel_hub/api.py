"""Sentinel Hub's way of saying no: one JSON shape for every refusal, with a message that says what to do."""

from __future__ import annotations

from typing import Any

from eo_assets.errors import ServiceError

REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class ApiError(ServiceError):
    """A refusal as the service sends it: HTTP status, code and message; `parameter` is the path of the wrong key."""

    def __init__(
        self, status: int, code: str, message: str, *, parameter: str | None = None, value: object = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.parameter = parameter
        self.value = value

    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        error: dict[str, Any] = {
            "status": self.status,
            "reason": REASONS.get(self.status, "Error"),
            "message": self.message,
            "code": self.code,
        }
        if self.parameter is not None:
            violation = {"parameter": self.parameter, "invalidValue": self.value, "violation": self.message}
            error["errors"] = [violation]
        return {"error": error}


def bad_payload(message: str, parameter: str | None = None, value: object = None) -> ApiError:
    """400: the request's JSON is wrong at `parameter`."""
    return ApiError(400, "COMMON_BAD_PAYLOAD", message, parameter=parameter, value=value)


def not_found(message: str) -> ApiError:
    """404: no such thing."""
    return ApiError(404, "COMMON_NOT_FOUND", message)
