# SPDX-License-Identifier: Apache-2.0
"""/openapi.json says what the server does: which methods a path has, and of every field which values are taken. Values come from the schemas
themselves: one for each form they allow, and each of those made wrong in one place."""
import http.client
import json
import re

import pytest
from serving import Server

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PROBES = (True, 0, -1, 1.5, 10**10, 10**20, "", "x", [], {}, [1], ["x"], [[]], [{}], {"x": 1}, {"type": "x"})

# Bodies that are taken; a field is tried in them one by one.
BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user"}], "max_tokens": 1},
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/embeddings": {"input": [1]},
    "/v1/responses": {"input": "x", "max_output_tokens": 1},
    "/v1/responses/input_tokens": {"input": "x"},
    "/v1/messages": {"messages": [{"role": "user"}], "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": [{"role": "user"}]},
    "/api/chat": {"messages": [{"role": "user"}], "stream": False, "options": {"num_predict": 1}},
    "/api/generate": {"prompt": "x", "raw": True, "stream": False, "options": {"num_predict": 1}},
    "/api/embed": {"input": "x"},
    "/api/embeddings": {"prompt": "x"},
    "/api/pull": {"model": "model.Q4_0"},
    "/api/show": {},
    "/completion": {"prompt": [1], "n_predict": 1},
    "/infill": {"input_prefix": "x", "n_predict": 1},
    "/tokenize": {"content": "x"},
    "/detokenize": {"tokens": [1]},
}

# What a schema of one field cannot say: a value that others beside it, the model, or what is stored speak against.
DEPENDS = {"top_logprobs": "logprobs: true", "tool_choice": "tools", "dimensions": "the model's width", "previous_response_id": "stored ones",
           "logit_bias": "the vocabulary", "model": "the names", "name": "the names", "options": "the options' own table"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("openapi") / "log", "--ctx", 128) as s:
        yield s


@pytest.fixture(scope="module")
def document(server):
    return json.loads(server.get("/openapi.json")[1])


def of_type(name, value):
    numbers = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"null": value is None, "boolean": isinstance(value, bool), "string": isinstance(value, str), "array": isinstance(value, list),
            "object": isinstance(value, dict), "number": numbers, "integer": numbers and isinstance(value, int)}[name]


def fits(schema, value):
    """JSON Schema, the words of it that the document uses."""
    unknown = set(schema) - {"type", "const", "enum", "not", "anyOf", "minimum", "maximum", "minLength", "items", "minItems", "maxItems", "required",
                             "properties", "additionalProperties", "propertyNames", "maxProperties", "description", "pattern"}
    assert not unknown, unknown
    types = schema.get("type", [])
    if types and not any(of_type(t, value) for t in ([types] if isinstance(types, str) else types)):
        return False
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:
        return False
    if "not" in schema and fits(schema["not"], value) or "anyOf" in schema and not any(fits(s, value) for s in schema["anyOf"]):
        return False
    if of_type("number", value):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0) and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)) and all(fits(schema.get("items", {}), v) for v in value)
    if isinstance(value, dict):
        own = schema.get("properties", {})
        return (all(k in value for k in schema.get("required", [])) and all(fits(own[k], v) for k, v in value.items() if k in own)
                and all(fits(schema.get("additionalProperties", {}), v) for k, v in value.items() if k not in own)
                and all(fits(schema.get("propertyNames", {}), k) for k in value) and len(value) <= schema.get("maxProperties", len(value)))
    return True


def samples(schema):
    """Values of each form that a schema tells of, right ones first, and near them wrong ones."""
    for one in schema.get("anyOf", []):
        yield from samples(one)
    yield from schema.get("enum", [])
    if "const" in schema:
        yield schema["const"]
    for edge, outside in (("minimum", -1), ("maximum", 1)):
        if edge in schema:
            yield from (schema[edge], schema[edge] + outside)
    if schema.get("type") == "string":
        yield from ("x", "")
    if "items" in schema:
        for item in samples(schema["items"]):
            yield [item]
        if "maxItems" in schema and schema["maxItems"] < 200:
            item = first(schema["items"])
            yield from ([item] * schema["maxItems"], [item] * (schema["maxItems"] + 1))
    if "properties" in schema:
        least = {k: first(schema["properties"][k]) for k in schema.get("required", [])}
        yield least
        for k in least:
            yield {name: v for name, v in least.items() if name != k}
        for k, of_k in schema["properties"].items():
            for v in (*samples(of_k), *PROBES[:9], None):
                yield {**least, k: v}


def first(schema):
    return next((v for v in (*samples(schema), *PROBES) if fits(schema, v)), None)


def message(text):
    answer = json.loads(text)["error"]
    return answer if isinstance(answer, str) else answer["message"]


def names(said, field):
    return re.match(rf"{field}\b", said) is not None


def test_every_path_tells_its_methods_and_takes_no_others(server, document):
    for path, item in document["paths"].items():
        for method in METHODS:
            if method.lower() in item:
                continue
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request(method, path.replace("{id}", "x"))  # without a type: a wrong method is wrong whatever it brings
            answer = connection.getresponse()
            answer.read()
            connection.close()
            assert answer.status == 405, (method, path, answer.status)
            assert set(answer.getheader("Allow").lower().split(", ")) == set(item), (method, path, answer.getheader("Allow"))


def test_events_have_no_schema_of_a_whole_body(document):
    streams = 0
    for item in document["paths"].values():
        for operation in item.values():
            for kind, content in operation["responses"]["200"].get("content", {}).items():
                if kind in ("text/event-stream", "application/x-ndjson"):
                    assert content == {}
                    streams += 1
    assert streams > 5


def bodies(document):
    for path, item in document["paths"].items():
        if "requestBody" in item.get("post", {}):
            yield path, item["post"]["requestBody"]["content"]["application/json"]["schema"]


def test_there_is_a_body_for_each_path(document):
    assert {path for path, _ in bodies(document)} == set(BODIES)


@pytest.mark.parametrize("path", BODIES)
def test_a_field_takes_what_its_schema_says(server, document, path):
    schema = dict(bodies(document))[path]
    status, text = server.request("POST", path, BODIES[path])
    assert status in (200, 501), text
    assert set(schema.get("required", [])) <= set(BODIES[path])
    wrong, tried = [], 0
    for field, of_field in schema["properties"].items():
        tries = {json.dumps(v): v for v in (*PROBES, None, *samples(of_field)) if v is not None or field not in schema.get("required", [])}
        for value in tries.values():
            status, text = server.request("POST", path, {**BODIES[path], field: value})
            right, tried = fits(of_field, value), tried + 1
            said = message(text) if status >= 400 else ""
            if status not in (200, 400, 404, 501) or (not right and status not in (400, 404)):
                wrong.append((field, value, status, text[:200]))
            elif right and status == 400 and field not in DEPENDS and (names(said, field) or not any(names(said, f) for f in BODIES[path])):
                wrong.append((field, value, status, said))
            elif not right and not names(said, field):
                wrong.append((field, value, "another field is named", said))
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(map(str, wrong[:20]))
