"""The official Python client against the stand-in: if Google's own client is content with what the
stand-in says, our client may be tested against it.

usage: gemini_client.py BASE_URL   (exits non-zero at the first difference)
"""

import functools
import json
import pathlib
import sys
import urllib.request

from google import genai
from google.genai import errors, types
from pydantic import BaseModel

BASE = sys.argv[1]
MODEL = "gemini-3.5-flash-lite"
PHOTOS = pathlib.Path(__file__).resolve().parent.parent / "photos"


class Answer(BaseModel):
    humans: bool
    watermark: bool
    details: str


def control(behaviour):
    body = json.dumps(behaviour).encode()
    request = urllib.request.Request(f"{BASE}/_control", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def stats():
    with urllib.request.urlopen(f"{BASE}/_control", timeout=10) as reply:
        return json.load(reply)["stats"]


@functools.cache  # a client closes its connections when nobody holds it any more
def client(version=None, key="fake-key"):
    options = types.HttpOptions(base_url=BASE, api_version=version, timeout=20_000)
    return genai.Client(api_key=key, http_options=options)


def ask(to, model=MODEL, **config):
    photo = (PHOTOS / "astronaut.jpg").read_bytes()
    picture = types.Part.from_bytes(data=photo, mime_type=config.pop("mime_type", "image/jpeg"))
    return to.models.generate_content(
        model=model,
        contents=[picture, "Classify this image."],
        config=types.GenerateContentConfig(**config),
    )


def check(what, holds, shown=""):
    print(("ok   " if holds else "FAIL ") + what, shown if not holds else "")
    if not holds:
        sys.exit(1)


def fails(what, code, status, part, call):
    try:
        call()
    except errors.APIError as error:
        kind = errors.ServerError if code >= 500 else errors.ClientError
        right = isinstance(error, kind) and error.code == code and error.status == status
        check(what, right and part in str(error), repr(error))
        return error
    check(what, False, "no error")


def valid_answers():
    for version in ("v1beta", "v1", None):
        reply = ask(
            client(version),
            response_mime_type="application/json",
            response_schema=Answer,
            system_instruction="Answer honestly.",
            media_resolution="MEDIA_RESOLUTION_HIGH",
            thinking_config=types.ThinkingConfig(thinking_level="MINIMAL"),
            max_output_tokens=2048,
            safety_settings=[
                types.SafetySetting(category=f"HARM_CATEGORY_{name}", threshold="BLOCK_NONE")
                for name in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
            ],
        )
        check(f"a valid answer ({version or 'default version'})", isinstance(reply.parsed, Answer), reply)
        check("it says that no model looked", "no model has looked" in reply.parsed.details)
        check("finish reason", reply.candidates[0].finish_reason == types.FinishReason.STOP)
        check("model version", reply.model_version == "lookout-stand-in", reply.model_version)
        usage = reply.usage_metadata
        check("tokens", usage.total_token_count >= usage.prompt_token_count > 900, usage)
    schema = {"type": "object", "properties": {"humans": {"type": "boolean"}}, "required": ["humans"]}
    reply = ask(client(), response_mime_type="application/json", response_json_schema=schema)
    check("a JSON schema", json.loads(reply.text).keys() == {"humans"}, reply.text)
    check("prose", "no model has looked" in ask(client()).text)


def models():
    names = [model.name for model in client("v1beta").models.list(config={"page_size": 3})]
    check("models are listed over pages", f"models/{MODEL}" in names and len(names) > 3, names)
    check("a model is looked up", client().models.get(model=MODEL).input_token_limit == 1_048_576)
    counted = client().models.count_tokens(model=MODEL, contents="How many tokens is this?")
    check("tokens are counted", counted.total_tokens == 6, counted)


def faults():
    control({"rule": [{"outcome": "high_demand"}]})
    fails("503", 503, "UNAVAILABLE", "high demand", lambda: ask(client()))
    control({"rule": [{"outcome": "quota_per_minute"}]})
    error = fails("429", 429, "RESOURCE_EXHAUSTED", "exceeded your current quota", lambda: ask(client()))
    kinds = {detail["@type"].rsplit(".", 1)[1] for detail in error.details["error"]["details"]}
    check("429 with its details", {"QuotaFailure", "RetryInfo"} <= kinds, kinds)
    control({"keys": ["another-key"]})
    fails("invalid key", 400, "INVALID_ARGUMENT", "API key not valid", lambda: ask(client()))
    fails("invalid key at models.get", 400, "INVALID_ARGUMENT", "API_KEY_INVALID",
          lambda: client().models.get(model=MODEL))
    control({"rule": [{"outcome": "deadline_exceeded"}]})
    fails("504", 504, "DEADLINE_EXCEEDED", "Deadline expired", lambda: ask(client()))
    control({})
    fails("unknown model", 404, "NOT_FOUND", "is not found for API version",
          lambda: ask(client(), model="gemini-3.6-flahs"))
    fails("wrong type of picture", 400, "INVALID_ARGUMENT", "Unsupported MIME type: image/jpg",
          lambda: ask(client(), mime_type="image/jpg"))


def answers_that_are_none():
    control({"rule": [{"outcome": "prompt_blocked"}]})
    reply = ask(client())
    check("blocked prompt", reply.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT)
    check("blocked prompt has no candidates", not reply.candidates, reply.candidates)
    control({"rule": [{"outcome": "safety_sexual"}]})
    candidate = ask(client()).candidates[0]
    check("safety block", candidate.finish_reason == types.FinishReason.SAFETY)
    blocked = [rating.category.name for rating in candidate.safety_ratings if rating.blocked]
    check("its category", blocked == ["HARM_CATEGORY_SEXUALLY_EXPLICIT"], blocked)
    control({"rule": [{"outcome": "max_tokens_empty"}]})
    candidate = ask(client()).candidates[0]
    check("cut off", candidate.finish_reason == types.FinishReason.MAX_TOKENS)
    control({})


def retries():
    """The client's own retries meet a fault that goes away."""
    before = stats()["calls"]
    control({"rule": [{"outcome": "overloaded", "times": 2}]})
    options = types.HttpOptions(
        base_url=BASE,
        timeout=20_000,
        retry_options=types.HttpRetryOptions(attempts=4, initial_delay=0.01, max_delay=0.02),
    )
    ask(genai.Client(api_key="fake-key", http_options=options))
    check("two faults and an answer", stats()["calls"] - before == 3, stats())


if __name__ == "__main__":
    valid_answers()
    models()
    faults()
    answers_that_are_none()
    retries()
    print("the official client is content with the stand-in")
