"""An answer that follows a JSON schema, from a program without an event loop."""

import json

from llm_master import QueryLLM

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}

with QueryLLM() as llm:
    response = llm.query_sync(
        "local",
        "Ann is 31 years old. Give her name and age.",
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}},
        temperature=0,
    )

person = json.loads(response.content)
print("name:", person["name"])
print("age:", person["age"])
