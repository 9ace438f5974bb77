"""The guarding OpenAI-compatible gateway: OpenAI's requests in, ECSO's released answers out. `llava.serve.api_server` runs it.

schema · content      what a request may say; a body as a chat
reading               a request as a whole: chat, model, the guard's mode
decide · service      the method on a chat, and which text of it may leave
live                  mode off: an answer that nobody checks, as it comes
render                a finished result as one JSON object or as a stream: the same result, written in two ways
logprobs              which tokens of an answer may leave with it
remote                images by address, where the operator allows that
failures              every error as OpenAI's error body
openapi · answers     the document that describes all this
audit · metrics       what happened, for those who run the gateway
routes                all of it over HTTP
"""
