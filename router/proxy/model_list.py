"""The list of models as control has merged it."""

import msgspec


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[msgspec.Raw]


def by_id(body: bytes) -> dict[str, bytes]:
    """Each model's object by its id.

    Args:
        body: OpenAI's list object.

    Raises:
        msgspec.DecodeError: if it is none.
    """
    models = msgspec.json.decode(body, type=_ModelList).data
    return {msgspec.json.decode(model, type=_Model).id: bytes(model) for model in models}
