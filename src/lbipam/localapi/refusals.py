"""What does the API server say when it refuses a request?

Every refusal is an `ApiError` that carries a complete `kind: Status`, with the reason, code, message and
causes that Kubernetes uses for it (apimachinery's `StatusReason` and `CauseType`). Nothing here decides
whether a request is to be refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with one field of an object."""

    reason: str
    """A `CauseType`, such as `FieldValueInvalid`."""
    field: str
    """Path of the field, such as `spec.ports[0].port`."""
    message: str


def shown(value: object) -> str:
    """A value as Kubernetes quotes it in messages: strings in quotes, everything else as JSON."""
    return msgspec.json.encode(value).decode()


def invalid_value(field: str, value: object, why: str) -> Problem:
    """The value is of the right type but may not be."""
    return Problem(reason="FieldValueInvalid", field=field, message=f"Invalid value: {shown(value)}: {why}")


def wrong_type(field: str, value: object, why: str) -> Problem:
    """The value is of another type."""
    return Problem(
        reason="FieldValueTypeInvalid", field=field, message=f"Invalid value: {shown(value)}: {why}"
    )


def required(field: str, why: str = "") -> Problem:
    """The field is missing."""
    message = f"Required value: {why}" if why else "Required value"
    return Problem(reason="FieldValueRequired", field=field, message=message)


def duplicate(field: str, value: object) -> Problem:
    """The value occurs more than once."""
    return Problem(reason="FieldValueDuplicate", field=field, message=f"Duplicate value: {shown(value)}")


def forbidden_field(field: str, why: str) -> Problem:
    """The field may not be set or changed here."""
    return Problem(reason="FieldValueForbidden", field=field, message=f"Forbidden: {why}")


def unsupported(field: str, value: object, supported: Sequence[object]) -> Problem:
    """The value is not one of those that may be."""
    names = ", ".join(shown(each) for each in supported)
    message = f"Unsupported value: {shown(value)}: supported values: {names}"
    return Problem(reason="FieldValueNotSupported", field=field, message=message)


def too_long(field: str, limit: int) -> Problem:
    """The text is longer than `limit` bytes."""
    return Problem(
        reason="FieldValueTooLong", field=field, message=f"Too long: may not be more than {limit} bytes"
    )


def too_many(field: str, count: int, limit: int) -> Problem:
    """The list or map has more than `limit` items."""
    message = f"Too many: {count}: must have at most {limit} items"
    return Problem(reason="FieldValueTooMany", field=field, message=message)


class ApiError(Exception):
    """The request is refused; `status` is the body of the answer and `code` its HTTP status."""

    def __init__(
        self, code: int, reason: str, message: str, *, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    @property
    def status(self) -> dict[str, Any]:
        """The `kind: Status` object."""
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = dict(self.details)
        body["code"] = self.code
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The object a refusal speaks of."""

    group: str
    resource: str
    kind: str
    name: str = ""

    @property
    def qualified_resource(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def details(self, **more: Any) -> dict[str, Any]:
        """`details` of a Status that names the resource."""
        return self._details(self.resource, more)

    def details_by_kind(self, **more: Any) -> dict[str, Any]:
        """`details` of a Status that names the kind, as those of validation do."""
        return self._details(self.kind, more)

    def _details(self, kind: str, more: Mapping[str, Any]) -> dict[str, Any]:
        details: dict[str, Any] = {"name": self.name} if self.name else {}
        if self.group:
            details["group"] = self.group
        return {**details, "kind": kind, **more}


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: the sender is not known."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(subject: Subject, why: str, causes: Sequence[Mapping[str, str]] = ()) -> ApiError:
    """403: what is asked may not be done now."""
    details = subject.details(causes=list(causes)) if causes else subject.details()
    message = f'{subject.qualified_resource} "{subject.name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, details=details)


def not_found(subject: Subject) -> ApiError:
    """404: there is no such object."""
    message = f'{subject.qualified_resource} "{subject.name}" not found'
    return ApiError(404, "NotFound", message, details=subject.details())


def no_such_path() -> ApiError:
    """404 as plain text: the path leads nowhere."""
    return ApiError(404, "", "404 page not found")


def method_not_supported() -> ApiError:
    """405: the resource does not offer the method."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, details={})


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    """406: the answer cannot be given in a form that the client accepts."""
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return ApiError(406, "NotAcceptable", message)


def already_exists(subject: Subject, still: str = "") -> ApiError:
    """409: there is an object of that name."""
    message = f'{still}{subject.qualified_resource} "{subject.name}" already exists'
    return ApiError(409, "AlreadyExists", message, details=subject.details())


def conflict(subject: Subject, why: str) -> ApiError:
    """409: the object is not as the request expects it."""
    message = f'Operation cannot be fulfilled on {subject.qualified_resource} "{subject.name}": {why}'
    return ApiError(409, "Conflict", message, details=subject.details())


def stale(subject: Subject) -> ApiError:
    """409: the object has been written since the client read it."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(subject, why)


def apply_conflict(message: str, causes: Sequence[Mapping[str, str]]) -> ApiError:
    """409: an apply would change fields that others own."""
    return ApiError(409, "Conflict", message, details={"causes": list(causes)})


def expired(message: str) -> ApiError:
    """410: the version or token is too old."""
    return ApiError(410, "Expired", message)


def too_large() -> ApiError:
    """413: the body is larger than an object may be."""
    return ApiError(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415: the body is in a form that the server does not read."""
    types = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {types}"
    return ApiError(415, "UnsupportedMediaType", message)


def invalid(subject: Subject, problems: Sequence[Problem]) -> ApiError:
    """422 with one cause per problem."""
    told = [f"{problem.field}: {problem.message}" for problem in problems]
    summary = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    causes = [{"reason": p.reason, "message": p.message, "field": p.field} for p in problems]
    message = f'{subject.qualified_kind} "{subject.name}" is invalid: {summary}'
    return ApiError(422, "Invalid", message, details=subject.details_by_kind(causes=causes))


def unprocessable(message: str) -> ApiError:
    """422 that speaks of the request rather than of a field."""
    return ApiError(422, "Invalid", message, details={})


def unpatchable() -> ApiError:
    """422: a JSON patch cannot be carried out; Kubernetes does not tell which operation it was."""
    return unprocessable("the server rejected our request due to an error in our request")


def too_large_version(asked: int, current: int) -> ApiError:
    """504: the version is newer than anything the server knows."""
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    message = f"Too large resource version: {asked}, current: {current}"
    return ApiError(504, "Timeout", message, details=details)


def internal(message: str) -> ApiError:
    """500: the server cannot do it."""
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


def untyped(message: str) -> ApiError:
    """500 without a reason, as failures inside server-side apply are answered."""
    return ApiError(500, "", message)
