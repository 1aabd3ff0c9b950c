"""Every answer that a test is given, held against what the OpenAPI document says of it."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema_rs
from fastapi import FastAPI
from starlette.routing import Match

from app.main import routes


@dataclass
class Documented:
    """The OpenAPI document of an application, and a check of its answers."""

    app: FastAPI
    document: dict[str, Any]
    validators: dict[str, jsonschema_rs.Draft202012Validator] = field(default_factory=dict)

    @classmethod
    def of(cls, app: FastAPI) -> "Documented":
        return cls(app, app.openapi())

    async def check(self, response: httpx.Response) -> None:
        """Fail where the status, the media type or the body is not as documented."""
        await response.aread()
        path = self._template(response.request)
        if path is None:
            return
        operation = self.document["paths"][path][response.request.method.lower()]
        said = f"{response.request.method} {path} {response.status_code}"
        assert str(response.status_code) in operation["responses"], f"{said} is not documented"
        content = operation["responses"][str(response.status_code)].get("content")
        if content is None:
            assert not response.content, f"{said} is documented without a body"
            return
        media = response.headers["content-type"].partition(";")[0]
        assert media in content, f"{said} is documented as {sorted(content)}, not {media}"
        schema = content[media].get("schema", {})
        if media == "application/x-ndjson":
            for line in response.text.splitlines():
                self._validator(said + media, schema).validate(json.loads(line))
        elif media.endswith("json"):
            self._validator(said + media, schema).validate(response.json())

    def _template(self, request: httpx.Request) -> str | None:
        scope = {"type": "http", "method": request.method, "path": request.url.path, "headers": []}
        for route in routes():
            if route.matches(scope)[0] is Match.FULL:
                return route.path_format
        return None

    def _validator(self, name: str, schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
        if name not in self.validators:
            whole = schema | {"components": self.document["components"]}
            self.validators[name] = jsonschema_rs.Draft202012Validator(whole)
        return self.validators[name]
