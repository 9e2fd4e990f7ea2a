"""That a body names one model, whoever reads it.

Asked of the bodies of who may use certain models only. What is looked at for routing is what most
engines take; here whatever another parser could take for the model has to agree: a field that
differs in case alone (Go's parser takes it), a second part of a form.
"""

from typing import Final

import msgspec

from router.core import errors
from router.proxy import forms

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def require(body: bytes, content_type: bytes) -> None:
    """Raises BadRequest for a body that may name several."""
    if content_type[:19].lower() == b"multipart/form-data":
        named = {body[start:end] for start, end in forms.values(body, content_type, b"model")}
        if len(named) > 1 or forms.beyond(body, content_type):
            raise errors.BadRequest("several parts may be called `model`", param="model")
    # Not every engine heeds the type.
    try:
        fields = _fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # not for this to say
    odd = [name for name in fields if name != "model" and name.lower() == "model"]
    if odd:
        raise errors.BadRequest(f"unknown field `{odd[0]}`, only `model` is known", param=odd[0])
